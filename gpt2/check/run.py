"""make check: every step of a study through every proof."""

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from gpt2.check import studies
from gpt2.check.proofs import distinct, initial
from gpt2.check.prove import Case, Recorded, find_network, find_twins, inherit, prove
from gpt2.check.subject import Subject
from gpt2.check.table import Verdict, print_failure, print_questions, print_table
from gpt2.check.two_processes import Pair, PartnerLost
from gpt2.distributed.ranks import LOOPBACK
from gpt2.settings.run import run_settings
from kconf.dense import reads_all
from kconf.derived import sizes
from kconf.overrides import Overrides, from_environment
from kconf.strict import Resolved, Tree
from kconf.study import Fragment, difference, duplicates, resolve_step
from kconf.syntax import ConfigError
from kconf.unusual import questions
from records.doing import Activity, doing
from records.durations import duration
from records.plurals import plural


def check(
    root: Path, step: str | None, every: bool, as_json: bool, began: float
) -> int:
    """Check the loaded configuration's steps; 0 when every promise holds.

    step: numbers as 0,2,8-9, to check those and not what is selected. every: all studies of defconfigs/
    instead. Without a .config the study gpt2-ratio-ablation is checked. began:
    time.monotonic() when the process started; the time printed counts from it.
    """
    try:
        tree, overrides = Tree(root), from_environment(os.environ)
        found = (
            studies.every(root, tree)
            if every
            else [studies.loaded(root, tree, overrides, step is not None)]
        )
        chosen = [study.only(step) for study in found] if step else found
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    cases, lost = None, False
    try:
        with doing("merging the steps") as activity, Pair() as pair:
            merged = [merge_study(tree, study, overrides) for study in chosen]
            cases = _prove_all(pair, merged, activity)
    except PartnerLost as error:
        print(f"error: {error}", file=sys.stderr)
        lost = True
    if cases is None:
        return 1
    verdicts = [case.verdict for study in cases for case in study]
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    else:
        print_table(verdicts)
    failed = [verdict for verdict in verdicts if verdict.promise is not None]
    prose = sys.stderr if as_json else sys.stdout
    print_questions(verdicts, prose)
    spelled = [w for s, w in overrides.spelled.items() if s != "MATRIX_ARMS"]
    for verdict in failed:
        print_failure(verdict, [shlex.quote(word) for word in spelled], prose)
    keep = "keeps" if len(verdicts) == 1 else "keep"
    print(
        f"check: {len(verdicts) - len(failed)} of {plural(len(verdicts), 'step')} {keep} "
        f"every promise, {duration(time.monotonic() - began)}",
        file=prose,
    )
    return 1 if failed or lost else 0


def _prove_all(
    pair: Pair, studies_of: list[list[Case]], activity: Activity
) -> list[list[Case]]:
    """Every proof of every case that merged; the cases, study by study."""
    result = [list(cases) for cases in studies_of]
    places = [
        (cases, index)
        for cases in result
        for index, case in enumerate(cases)
        if case.sound
    ]
    merged = [cases[index] for cases, index in places]
    find_twins(merged)
    total = len(merged)
    proven = pair.prove(
        merged, lambda done: activity.now(f"checking {min(done + 1, total)} of {total}")
    )
    for (cases, index), case in zip(places, proven, strict=True):
        cases[index] = case
    inherit(proven)
    activity.now("training as two ranks")
    pair.two_ranks([case for case in proven if case.sound and case.leads])
    for case in proven:
        if case.sound and not case.leads and not proven[case.twin].sound:
            case.verdict.promise = "two ranks"
            case.verdict.found = f"as {case.verdict.network_of}, the same network"
    for cases in result:
        _tell_apart(cases)
    return result


def check_study(
    tree: Tree, study: studies.Study, overrides: Overrides
) -> list[Verdict]:
    """Every step of a study through all proofs that need one process only."""
    cases = merge_study(tree, study, overrides)
    for case in cases:
        if case.sound:
            prove(case)
    _tell_apart(cases)
    return [case.verdict for case in cases]


def merge_study(tree: Tree, study: studies.Study, overrides: Overrides) -> list[Case]:
    """Strict load and one-difference proof of every step of a study, or of its
    base alone when it has none.
    """
    if not study.steps:
        told = "the configuration as it stands"
        case = Case(Verdict(study.name, "base", told, "make check"))
        with Recorded(case.verdict, "strict load"):
            base = tree.resolve([*study.stages, overrides])
            case.verdict.sizes = sizes(base.written)
            case.verdict.notes = reads_all(base.values)
            settings = run_settings(base.values)
            case.verdict.questions = questions(base.values)
            case.subject = Subject("base", settings, settings, {})
            find_network(case)
        return [case]
    cases, resolved = [], []
    for step in study.steps:
        again = f"make check {step.select}"
        case = Case(Verdict(study.name, step.id, step.help, again))
        cases.append(case)
        with Recorded(case.verdict, "strict load"):
            case.subject = _merge(tree, study, overrides, step, case.verdict, resolved)
            find_network(case)
    return cases


def _tell_apart(cases: list[Case]) -> None:
    """No two steps of a study are the same function under other names, and they
    share the initial values of what they share.
    """
    functions, values = {}, {}
    for case in cases:
        if case.sound:
            with Recorded(case.verdict, "shared initial values"):
                initial.require_shared(case.verdict.step, case.initial, values)
                case.verdict.promise = "a function of its own"
                distinct.require_distinct(case.subject, case.function, functions)
    for case in cases:
        case.verdict.functions = len(functions)


def _merge(
    tree: Tree,
    study: studies.Study,
    overrides: Overrides,
    step: Fragment,
    verdict: Verdict,
    resolved: list[tuple[Fragment, Resolved]],
) -> Subject:
    """Strict load and one-difference proof of a step."""
    base = tree.resolve([*study.stages, overrides])
    verdict.sizes = sizes(base.written)
    merged = resolve_step(tree, study.stages, step, overrides)
    verdict.notes = reads_all(merged.values)
    settings = run_settings(merged.values)
    verdict.questions = questions(merged.values)
    claims_of = settings
    if step.expect:
        claims_of = run_settings(resolve_step(tree, study.claims, step).values)
    verdict.promise = "one difference"
    findings = difference(tree, base, merged, step).violations
    resolved.append((step, merged))
    findings += [f for f in duplicates(tree, resolved) if f.path == step.where]
    if findings:
        raise ConfigError(findings)
    verdict.proofs += ["strict load", "one difference"]
    return Subject(step.id, settings, claims_of, dict(step.expect))
