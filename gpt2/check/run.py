"""make check: every step of a study through every proof, in one process."""

import json
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from gpt2.accounting import count, memory_estimate, meta_model
from gpt2.check import (
    causality,
    claims,
    decoding,
    distinct,
    learning,
    numerics,
    probabilities,
    pruning,
    saving,
    state,
    studies,
)
from gpt2.check.subject import Broken, Subject
from gpt2.check.table import Verdict, print_failure, print_table
from gpt2.settings import run_settings
from kconf.bind import SettingsError
from kconf.overrides import Overrides, from_environment
from kconf.strict import Resolved, Tree
from kconf.study import StepFile, difference, duplicates, resolve_step
from kconf.syntax import ConfigError

PROOFS: tuple[tuple[str, Callable[[Subject], None]], ...] = (
    ("built as configured", claims.built_as_configured),
    ("expectations", claims.expectations),
    ("first loss", learning.first_loss),
    ("gradients", learning.gradients),
    ("causality", causality.causality),
    ("reach", causality.reach),
    ("longer context", causality.longer_context),
    ("no state", state.no_state),
    ("dropout rests", state.dropout_rests),
    ("probabilities", probabilities.probabilities),
    ("decoding", decoding.decoding),
    ("optimizer as configured", learning.optimizer_as_configured),
    ("update and decay", learning.update),
    ("repeated batch", learning.repeated_batch),
    ("save and resume", saving.save_and_resume),
    ("reaches its sparsity", pruning.reaches_its_sparsity),
    ("bf16", numerics.bf16),
    ("one graph", numerics.one_graph),
)

# What a proof may meet in a broken model. Each is a broken promise, recorded
# with its traceback; anything else ends the check.
FAULTS = (
    Broken,
    ConfigError,
    SettingsError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def check(root: Path, step: str | None, every: bool, as_json: bool) -> int:
    """Check the loaded configuration's steps; 0 when every promise holds.

    step: a number, to check that one only. every: all studies of defconfigs/
    instead. Without a .config the study gpt2-ratio-ablation is checked.
    """
    began = time.monotonic()
    torch.set_num_threads(1)  # the small models gain nothing from a second one
    try:
        tree, overrides = Tree(root), from_environment(os.environ)
        found = (
            studies.every(root) if every else [studies.loaded(root, tree, overrides)]
        )
        chosen = [study.only(step) for study in found] if step else found
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    verdicts: list[Verdict] = []
    for study in chosen:
        verdicts += check_study(tree, study, overrides)
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    else:
        print_table(verdicts)
    failed = [verdict for verdict in verdicts if verdict.promise is not None]
    for verdict in failed:
        print_failure(verdict, [shlex.quote(w) for w in overrides.spelled.values()])
    print(
        f"check: {len(verdicts) - len(failed)} of {len(verdicts)} steps keep every "
        f"promise, {time.monotonic() - began:.1f} s",
        file=sys.stderr if as_json else sys.stdout,
    )
    return 1 if failed else 0


def check_study(
    tree: Tree, study: studies.Study, overrides: Overrides
) -> list[Verdict]:
    """Every step of a study, or its base alone when it has none."""
    if not study.steps:
        verdict = Verdict(study.name, "base", "the configuration as it stands")
        with _Recorded(verdict):
            values = tree.resolve([*study.stages, overrides]).values
            settings = run_settings(values)
            _prove(verdict, Subject("base", settings, settings, {}))
        return [verdict]
    verdicts, resolved, functions = [], [], {}
    for step in study.steps:
        verdict = Verdict(study.name, step.id, step.help)
        verdicts.append(verdict)
        with _Recorded(verdict):
            subject = _merge(tree, study, overrides, step, verdict, resolved)
            _prove(verdict, subject)
            verdict.promise = "a function of its own"
            distinct.require_distinct(subject, functions)
            verdict.promise = None
    return verdicts


def _merge(
    tree: Tree,
    study: studies.Study,
    overrides: Overrides,
    step: StepFile,
    verdict: Verdict,
    resolved: list[tuple[StepFile, Resolved]],
) -> Subject:
    """Strict load and one-difference proof of a step."""
    verdict.promise = "strict load"
    base = tree.resolve([*study.stages, overrides])
    merged = resolve_step(tree, study.stages, step, overrides)
    settings = run_settings(merged.values)
    claims_of = run_settings(resolve_step(tree, study.claims, step).values)
    verdict.promise = "one difference"
    findings = difference(tree, base, merged, step).violations
    resolved.append((step, merged))
    findings += [
        f for f in duplicates(tree, resolved) if f.path.endswith(step.path.name)
    ]
    if findings:
        raise ConfigError(findings)
    verdict.proofs += ["strict load", "one difference"]
    return Subject(step.id, settings, claims_of, step.expect)


def _prove(verdict: Verdict, subject: Subject) -> None:
    """The costs of the step, then every proof in turn."""
    verdict.promise = "full-size model"
    facts = count(meta_model(subject.settings.model))
    micro = subject.settings.train.micro_batch or 1
    verdict.parameters = facts.parameters
    verdict.attn_mlp_ratio = facts.attn_mlp_ratio
    verdict.flops_per_token = facts.flops_per_token
    verdict.cache_per_token = facts.cache_per_token_layer * facts.layers
    verdict.micro_batch = micro
    verdict.memory_bytes = memory_estimate(subject.settings, micro)
    for name, proof in PROOFS:
        verdict.promise = name
        proof(subject)
        verdict.proofs.append(name)
    verdict.promise = None


class _Recorded:
    """Times a step and turns a fault into the verdict's broken promise."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, kind, error, trace) -> bool:
        self.verdict.seconds = time.monotonic() - self.began
        if error is None or not isinstance(error, FAULTS):
            return False
        named = isinstance(error, (Broken, ConfigError, SettingsError))
        self.verdict.found = str(error) if named else f"{kind.__name__}: {error}"
        if not named:
            self.verdict.trace = "".join(traceback.format_tb(trace)[-3:])
        return True
