"""The steps of a study and the proof that each is one difference.

A step is one fragment file, defconfigs/STUDY.d/NN-slug.config:

    # Help: what the step is
    # Expect: key=value key@layer=value
    CONFIG_MLP_DIM=3840
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Protocol, Sequence

from kconf.bind import format_value
from kconf.config_py import Value, identity
from kconf.derived import RULES
from kconf.dotconfig import merged_or_none
from kconf.files import shown
from kconf.overrides import Overrides
from kconf.strict import Merge, Resolved, Stage, Tree
from kconf.syntax import ConfigError, Finding, Line, parse_file
from records.spelling import closest

_FILE_NAME = re.compile(r"((\d\d)-[a-z0-9]+(?:-[a-z0-9]+)*)\.config", re.ASCII)
_PAIR = re.compile(r"([a-z][a-z0-9_]*(?:@[0-9]+)?)=(\S+)", re.ASCII)
_KEYWORD = re.compile(r"[#\s]*(help|expect)s?\s*:", re.I)


@dataclass(frozen=True)
class StepFile:
    """A step: its id is the file's name, number the two digits before it."""

    id: str
    number: int
    path: Path
    help: str
    expect: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def where(self) -> str:
        """How a message names the fragment."""
        return shown(self.path)

    @property
    def stage(self) -> Stage:
        """The fragment as a stage of the merge."""
        return self.path

    @property
    def lines(self) -> Sequence[Line]:
        """The fragment's assignments."""
        return parse_file(self.path)

    @property
    def select(self) -> str:
        """How `make check` is asked for this step alone."""
        return f"STEP={self.number}"

    @property
    def text(self) -> str:
        """The fragment, for the records."""
        return self.path.read_text(encoding="utf-8")


class Fragment(Protocol):
    """What a step is to the merge and its proof: a StepFile, or kconf.arms.Arm."""

    id: str
    help: str
    expect: Mapping[str, str]
    where: str
    stage: Stage
    lines: Sequence[Line]
    select: str
    text: str


@dataclass(frozen=True)
class StepDifference:
    """How a step differs from its base.

    lines: (symbol, old, new) for the fragment's own symbols; implied: the same
    with a reason, for what follows from them; violations: what disproves that
    the step is what its file says.
    """

    lines: list[tuple[str, Value, Value]]
    implied: list[tuple[str, Value, Value, str]]
    violations: list[Finding]


def study_dir(root: Path, name: str) -> Path:
    """The directory of a study's steps."""
    return Path(root) / "defconfigs" / f"{name}.d"


def list_steps(root: Path, name: str) -> tuple[StepFile, ...]:
    """The steps of a study, by number.

    Raises ConfigError, with every finding, for an unknown study, one without
    steps, a malformed file name or head, and a number used twice.
    """
    folder = study_dir(root, name)
    if not folder.is_dir():
        known = sorted(p.name[:-2] for p in folder.parent.glob("*.d"))
        close = closest(name, known)
        hint = f"did you mean {close[0]}? " if close else ""
        cause = f"no such study; {hint}known: {', '.join(known) or 'none'}"
        raise ConfigError([Finding(shown(folder), 0, None, cause)])
    steps: list[StepFile] = []
    findings: list[Finding] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            cause = "a step's file is named NN-slug.config (two digits, a-z, 0-9, -)"
            findings.append(Finding(shown(path), 0, None, cause))
            continue
        try:
            help_text, expect = read_head(path)
        except ConfigError as error:
            findings += error.findings
            continue
        steps.append(StepFile(match[1], int(match[2]), path, help_text, expect))
    for first, second in zip(steps, steps[1:]):
        if first.number == second.number:
            cause = f"step number {second.number:02d} is also that of {first.id}"
            findings.append(Finding(shown(second.path), 0, None, cause))
    if not steps and not findings:
        findings.append(
            Finding(
                shown(folder),
                0,
                None,
                "holds no step: add 00-baseline.config (docs/adding-a-step.md)",
            )
        )
    if findings:
        raise ConfigError(findings)
    return tuple(steps)


def find_step(steps: Sequence[StepFile], wanted: str) -> StepFile:
    """The step with this number, slug or id; ConfigError lists the known."""
    for step in steps:
        slug = step.id.partition("-")[2]
        if wanted in (step.id, slug, f"{step.number:02d}", str(step.number)):
            return step
    names = {step.id: step.id for step in steps}
    names |= {step.id.partition("-")[2]: step.id for step in steps}
    close = closest(wanted, names)
    hint = f"did you mean {names[close[0]]}? " if close else ""
    known = ", ".join(step.id for step in steps)
    cause = f"no step {wanted!r}; {hint}known: {known}"
    raise ConfigError([Finding(shown(steps[0].path.parent), 0, None, cause)])


def read_head(path: Path) -> tuple[str, dict[str, str]]:
    """The help of a fragment's first line and its expectations.

    Raises ConfigError with every malformed line.
    """
    where, findings = shown(path), []
    text = path.read_bytes().decode("utf-8", errors="replace")
    rows = text.split("\n")
    help_text, expect = rows[0].removeprefix("# Help: "), {}
    if help_text == rows[0] or not help_text or help_text != help_text.strip():
        cause = "the first line must be '# Help: ' and one sentence"
        findings.append(Finding(where, 1, None, cause))
    for number, row in enumerate(rows[1:], 2):
        keyword = _KEYWORD.match(row)
        if keyword is None:
            continue
        claims = row.removeprefix("# Expect: ").split(" ")
        pairs = [_PAIR.fullmatch(claim) for claim in claims]
        if not row.startswith("# Expect: ") or None in pairs:
            cause = f"{row!r}: write '# Expect: key=value key=value' (help goes first)"
            findings.append(Finding(where, number, None, cause))
            continue
        for pair in pairs:
            if pair[1] in expect:
                cause = f"expects {pair[1]} twice"
                findings.append(Finding(where, number, None, cause))
            expect[pair[1]] = pair[2]
    if findings:
        raise ConfigError(findings)
    return help_text, expect


def resolve_step(
    tree: Tree,
    base_stages: Sequence[Stage],
    step: Fragment,
    overrides: Overrides | None = None,
) -> Resolved:
    """The base with the step's fragment, then the overrides, merged strictly."""
    return tree.resolve([*base_stages, step.stage, *([overrides] if overrides else [])])


def difference(
    tree: Tree,
    base: Resolved,
    step_resolved: Resolved,
    step: Fragment,
    merge: Merge | None = None,
) -> StepDifference:
    """The one-difference proof of a step against its base.

    A changed symbol is a line of the fragment, or implied: without a prompt in
    both, a sibling in a choice that the fragment set, a 0 that stands for another
    number now (kconf/derived.py), or became visible or invisible and stands at its
    Kconfig default. Anything else is a violation, and so is a line without which the
    values would be the same. `merge` stands in for the tree's own, for a caller that remembers what it merged.
    """
    own = {line.symbol: line for line in step.lines}
    result = StepDifference([], [], [])
    for symbol in tree.symbols:
        old, new = base.values[symbol], step_resolved.values[symbol]
        if old == new:
            continue
        if symbol in own:
            result.lines.append((symbol, old, new))
            continue
        reason = _implied(tree, base, step_resolved, own, symbol)
        if reason:
            result.implied.append((symbol, old, new, reason))
        else:
            change = f"{format_value(old)} -> {format_value(new)}"
            cause = (
                f"changes ({change}) without a line in the step: assign it in the "
                "base, so that only a line of the step can change it"
            )
            result.violations.append(Finding(step.where, 0, symbol, cause))
    idle = idle_lines(merge or tree.resolve, step_resolved, step.stage, step.lines)
    result.violations.extend(
        line.finding("does not matter: without this line nothing changes")
        for line in idle
    )
    return result


def _implied(
    tree: Tree, base: Resolved, new: Resolved, own: dict, symbol: str
) -> str | None:
    """Why a symbol changed although the fragment has no line for it."""
    setter = next((s for s in tree.siblings(symbol) if s in own), None)
    if setter:
        return (
            f'the choice "{tree.choice_name(symbol)}" is {_selected(tree, new, symbol)}'
        )
    if base.written[symbol] == new.written[symbol]:
        return f"0 stands for {RULES[symbol].words(new.values)}"
    was, is_now = symbol in base.visible, symbol in new.visible
    if not was and not is_now:
        return "computed by Kconfig"
    if was and not is_now:
        return "no longer applies"
    if is_now and not was and symbol not in new.origin:
        return "applies now, at its default"
    return None


def _selected(tree: Tree, resolved: Resolved, symbol: str) -> str:
    return next((s for s in tree.siblings(symbol) if resolved.values[s]), "unset")


def idle_lines(
    merge: Merge, resolved: Resolved, stage: Stage, lines: Sequence[Line]
) -> list[Line]:
    """The lines of one stage that can each be dropped without a change."""
    place = resolved.stages.index(stage)
    idle = []
    for line in lines:
        stages = list(resolved.stages)
        stages[place] = tuple(other for other in lines if other is not line)
        without = merged_or_none(merge, stages)
        if without and without.values == resolved.values:
            idle.append(line)
    return idle


def duplicates(
    tree: Tree, resolved: Sequence[tuple[Fragment, Resolved]]
) -> list[Finding]:
    """Steps whose identity configuration is that of an earlier step."""
    seen: dict[str, Fragment] = {}
    findings = []
    for step, result in resolved:
        key = identity(result.values, tree.operational)
        first = seen.setdefault(key, step)
        if first is not step:
            cause = f"is the same configuration as {first.id}"
            findings.append(Finding(step.where, 0, None, cause))
    return findings


def prove(
    tree: Tree,
    base_stages: Sequence[Stage],
    steps: Sequence[Fragment],
    overrides: Overrides | None = None,
) -> list[tuple[Fragment, Resolved, StepDifference]]:
    """Every step, resolved and compared with the base under the same overrides.

    Raises ConfigError with the findings of all steps: lines that do not hold,
    violations of the one-difference proof, duplicates.
    """
    base = tree.resolve([*base_stages, *([overrides] if overrides else [])])
    proven, findings = [], []
    for step in steps:
        try:
            resolved = resolve_step(tree, base_stages, step, overrides)
        except ConfigError as error:
            findings += error.findings
            continue
        change = difference(tree, base, resolved, step)
        findings += change.violations
        proven.append((step, resolved, change))
    findings += duplicates(tree, [(step, resolved) for step, resolved, _ in proven])
    if findings:
        raise ConfigError(findings)
    return proven
