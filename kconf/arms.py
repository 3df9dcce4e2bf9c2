"""The arms of a test matrix: each point of its axes as a generated fragment.

An arm goes through the strict merge and the one-difference proof as a step's
file does. A combination that the merge refuses for what else is set (state
pruning under an optimizer without moments) is excluded with the merge's words;
a value that is wrong in itself is an error.
"""

import fnmatch
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Mapping, Sequence

from kconf import axes as lists
from kconf.axes import NONE, Axes
from kconf.budget import budget
from kconf.config_py import identity
from kconf.overrides import Overrides
from kconf.points import Point, control_of, lines_of, owned_symbols, place_of
from kconf.points import points_of, require_known
from kconf.strict import Resolved, Stage, Tree
from kconf.study import difference, idle_lines
from kconf.syntax import ConfigError, Finding, Line, value_of

MOST_ARMS = 10_000


@dataclass(frozen=True)
class Arm:
    """A point as a fragment; kconf.study.Fragment's attributes.

    point: where it stands on every axis, pruning and optimizer always. dense:
    the id of the arm that it is compared with beside the control: the same
    point without pruning; None when there is none.
    """

    id: str
    help: str
    lines: tuple[Line, ...]
    point: Mapping[str, str]
    dense: str | None
    expect: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How a message names the fragment."""
        return f"arm {self.id}"

    @property
    def stage(self) -> Stage:
        """The fragment as a stage of the merge."""
        return self.lines

    @property
    def select(self) -> str:
        """How `make check` is asked for this arm alone."""
        return f"ARMS={self.id}"

    @property
    def text(self) -> str:
        """The fragment, for the records."""
        return "".join([f"# Help: {self.help}\n", *(f"{x}\n" for x in self.lines)])


@dataclass(frozen=True)
class Excluded:
    """A combination that is no arm, and why."""

    id: str
    why: str


@dataclass(frozen=True)
class Matrix:
    """The arms, the control first; what is not among them; what to tell."""

    arms: tuple[Arm, ...]
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]
    symbols: frozenset[str]


def generate(
    tree: Tree, base: Sequence[Stage], overrides: Overrides, axes: Axes
) -> Matrix:
    """Every arm of the axes over a base, merged, proven and told apart.

    The control is the first optimizer without pruning at the first rate (and
    the first value of any other axis); it is added when no axis has it.
    Arms of one configuration are collapsed into the first. Raises ConfigError
    for names and values that do not hold, arms that break the one-difference
    proof, and budgets that differ.
    """
    require_known(tree, axes)
    owned = owned_symbols(tree, axes, overrides)
    named, control = _counted(axes), control_of(axes)
    notes = list(axes.notes)
    if control not in named:
        notes.append(f"{control.id} is added: the control, which no axis names")
    twice = [point.id for point, times in named.items() if times > 1]
    if twice:
        notes.append(f"named twice, run once: {', '.join(twice)}")
    merge = _Merge(tree, base, overrides)
    made: dict[Point, tuple[Arm, Resolved]] = {}
    excluded, wrong = [], []
    for point in dict.fromkeys([control, *named]):
        try:
            made[point] = _arm(merge, point, axes)
        except ConfigError as error:
            wrong += [f for f in error.findings if not f.clash and f not in wrong]
            excluded.append(Excluded(point.id, _reason(tree, error.findings)))
            if point == control and not wrong:
                wrong += error.findings
    if wrong:
        raise ConfigError(wrong)
    arms, collapsed = _told_apart(tree, made)
    _require_equal_budgets(arms, made)
    return Matrix(tuple(arms), tuple(excluded), (*notes, *collapsed), owned)


def choose(arms: Sequence[Arm], patterns: str) -> list[Arm]:
    """The arms that "all" or "adamw-*,adamwspam" names, in their order.

    Raises ConfigError for a name that fits none.
    """
    if patterns == "all":
        return list(arms)
    chosen = set()
    for pattern in map(str.strip, patterns.split(",")):
        ids = {arm.id for arm in arms if fnmatch.fnmatchcase(arm.id, pattern)}
        if not ids:
            known = ", ".join(arm.id for arm in arms[:30])
            more = f" and {len(arms) - 30} more" if len(arms) > 30 else ""
            cause = f"no arm {pattern!r}; known: {known}{more}"
            raise ConfigError([Finding(f"ARMS={patterns}", 0, None, cause)])
        chosen |= ids
    return [arm for arm in arms if arm.id in chosen]


def _counted(axes: Axes) -> Counter[Point]:
    """How often each point is named; ConfigError for too many."""
    named = Counter(itertools.islice(points_of(axes), MOST_ARMS + 1))
    if named.total() > MOST_ARMS:
        cause = f"the axes cross to more than {MOST_ARMS:,} arms"
        raise ConfigError([Finding(f"CONFIG_{lists.SYMBOLS}", 0, None, cause)])
    return named


# -- from a point to an arm -------------------------------------------------


class _Merge:
    """The base, some lines, the overrides: each set of lines is merged once."""

    def __init__(self, tree: Tree, base: Sequence[Stage], overrides: Overrides):
        self.tree, self.base, self.overrides = tree, list(base), overrides
        self.plain = tree.resolve([*base, overrides])
        self._known: dict[tuple[Line, ...], Resolved | ConfigError] = {}

    def lines(self, lines: tuple[Line, ...]) -> Resolved:
        """Merged with these lines; raises ConfigError."""
        if lines not in self._known:
            try:
                stages = [*self.base, lines, self.overrides]
                self._known[lines] = self.tree.resolve(stages)
            except ConfigError as error:
                self._known[lines] = error
        found = self._known[lines]
        if isinstance(found, ConfigError):
            raise found
        return found

    def __call__(self, stages: Sequence[Stage]) -> Resolved:
        """Tree.resolve for stages of this shape."""
        return self.lines(stages[len(self.base)])


def _arm(merge: _Merge, point: Point, axes: Axes) -> tuple[Arm, Resolved]:
    """The arm of a point: the lines of it that matter over the base, proven."""
    tree = merge.tree
    lines, wanted = _merged(merge, lines_of(tree, point, axes))
    resolved = wanted
    while idle := idle_lines(merge, resolved, lines, lines):
        lines = tuple(line for line in lines if line is not idle[-1])
        resolved = merge.lines(lines)
    assert resolved.values == wanted.values, point.id
    where = place_of(tree, resolved.values, point)
    help_ = ", ".join(f"{name} {value}" for name, value in where.items())
    dense = None if point.pruning in (None, NONE) else point.dense.id
    arm = Arm(point.id, help_, lines, where, dense)
    found = difference(tree, merge.plain, resolved, arm, merge)
    if found.violations:
        raise ConfigError(found.violations)
    return arm, resolved


def _merged(
    merge: _Merge, lines: tuple[Line, ...]
) -> tuple[tuple[Line, ...], Resolved]:
    """The lines that can be set, merged; ConfigError unless the others hold too.

    CONFIG_MLA=n cannot be set where nobody could choose MLA, and is so all the same.
    """
    try:
        return lines, merge.lines(lines)
    except ConfigError as error:
        refused = {f.symbol for f in error.findings if f.clash}
        rest = tuple(line for line in lines if line.symbol not in refused)
        if not refused or len(rest) == len(lines):
            raise
        resolved = merge.lines(rest)
        for line in lines:
            kind = merge.tree.kind(line.symbol)
            if resolved.values[line.symbol] != value_of(line, kind):
                raise error from None
        return rest, resolved


def _reason(tree: Tree, findings: Sequence[Finding]) -> str:
    """The refusals that do not follow from another one, in the loader's words."""
    roots = []
    for finding in findings:
        kin = {finding.symbol, *tree.siblings(finding.symbol)}
        others = {f.symbol for f in findings} - kin
        others |= {s for name in others for s in tree.siblings(name)}
        if not others & tree.influences(finding.symbol):
            roots.append(finding)
    return "; ".join(f"CONFIG_{f.symbol} {f.cause}" for f in roots or findings)


# -- the arms together -------------------------------------------------------


def _told_apart(
    tree: Tree, made: Mapping[Point, tuple[Arm, Resolved]]
) -> tuple[list[Arm], list[str]]:
    """The arms of different configurations, and how the others were collapsed."""
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    names: dict[str, Point] = {}
    notes, arms = [], []
    for point, (arm, resolved) in made.items():
        key = identity(resolved.values, tree.operational)
        if names.setdefault(arm.id, point) != point:
            cause = f"two arms would have the name {arm.id}: {names[arm.id]}, {point}"
            raise ConfigError([Finding(f"CONFIG_{lists.SYMBOLS}", 0, None, cause)])
        same[arm.id] = first.setdefault(key, arm.id)
        if same[arm.id] != arm.id:
            notes.append(f"{arm.id} is {same[arm.id]}: one configuration, run once")
            continue
        arms.append(arm)
    arms = [replace(arm, dense=same.get(arm.dense)) for arm in arms]
    return [replace(a, dense=None) if a.dense == a.id else a for a in arms], notes


def _require_equal_budgets(
    arms: Sequence[Arm], made: Mapping[Point, tuple[Arm, Resolved]]
) -> None:
    """ConfigError when an axis gives an arm more tokens than the control."""
    budgets = {arm.id: budget(resolved.values) for arm, resolved in made.values()}
    expected = budgets[arms[0].id]
    findings = [
        Finding(
            arm.where,
            0,
            None,
            f"trains on {budgets[arm.id]}, the control on {expected}: an axis may not "
            "change the budget; a study whose steps set both can",
        )
        for arm in arms
        if budgets[arm.id] != expected
    ]
    if findings:
        raise ConfigError(findings)
