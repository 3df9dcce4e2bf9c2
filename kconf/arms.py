"""The arms of a test matrix: each point of its axes as a generated fragment.

An arm goes through the strict merge and the one-difference proof as a step's
file does. A combination that the merge refuses for what else is set (state
pruning under an optimizer without moments) is excluded with the merge's words;
a value that is wrong in itself is an error.
"""

import fnmatch
import hashlib
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Iterator, Mapping, Sequence

from kconf import axes as lists
from kconf.axes import NONE, STATE, Axes
from kconf.budget import budget
from kconf.config_py import Value, identity
from kconf.overrides import Overrides
from kconf.strict import Resolved, Stage, Tree
from kconf.study import difference, idle_lines
from kconf.syntax import ConfigError, Finding, Line, quote, value_of

# What an optimizer's method fixes beside its name, unless an axis sets it.
COMPANIONS = {"adamwspam": {"ADAM_BETA2": "0.999"}}
PREFIXES = {
    "OPTIMIZER_": lists.OPTIMIZERS,
    "PRUNING_": lists.PRUNING,
    "CRITERION_": lists.PRUNING,
}
# Set per cell: the seed by CONFIG_SEEDS, the device once for the whole plan.
PER_CELL = {"SEED": "CONFIG_SEEDS", "DEVICE_": "DEVICE="}
MOST_ARMS = 10_000
LONGEST_ID = 96  # characters; a file's name may have 255 bytes


@dataclass(frozen=True)
class Point:
    """One value per axis; None is the base's own."""

    optimizer: str | None = None
    rate: str | None = None
    symbols: tuple[tuple[str, str], ...] = ()
    pruning: str | None = None
    sparsity: str | None = None

    @property
    def id(self) -> str:
        """Readable, and the name of a directory: adamw-state-variance-50-lr6e-4.

        One that lost a character or its end ends with six digits of the hash of
        all it stands for.
        """
        parts = [self.optimizer] if self.optimizer else []
        if self.pruning not in (None, NONE):
            parts.append(self.pruning.replace(":", "-"))
        if self.sparsity:
            percent = f"{100 * float(self.sparsity):.10g}"
            parts.append(percent if len(parts) else f"sparsity-{percent}")
        parts += [f"lr{self.rate}"] if self.rate else []
        parts += [f"{n.lower().replace('_', '-')}-{v}" for n, v in self.symbols]
        whole = "-".join(parts) or "dense"
        plain = re.sub(r"[^A-Za-z0-9._+-]", "_", whole)
        if plain == whole and len(whole) <= LONGEST_ID:
            return whole
        digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
        return f"{plain[:LONGEST_ID - 7]}-{digest}"

    @property
    def dense(self) -> "Point":
        """The same without pruning."""
        return replace(self, pruning=NONE, sparsity=None)


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
    owned = _require_known(tree, axes, overrides)
    named = _counted(axes)
    control = _control(next(iter(named)), axes)
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


# -- points ----------------------------------------------------------------


def _points(axes: Axes) -> Iterator[Point]:
    """The cross product, without sparsities of what is not pruned."""
    forced = any(method for _, method in axes.optimizers)
    methods = axes.pruning or ((NONE,) if forced else (None,))
    extras = itertools.product(
        *([(name, value) for value in found] for name, found in axes.symbols.items())
    )
    for symbols, (optimizer, own) in itertools.product(
        list(extras), axes.optimizers or ((None, None),)
    ):
        here = (*(m for m in methods if m == NONE), own) if own else methods
        rates = axes.own_rates.get(optimizer, axes.rates) or (None,)
        for rate, method in itertools.product(rates, here):
            for sparsity in (None,) if method == NONE else axes.sparsities or (None,):
                yield Point(optimizer, rate, symbols, method, sparsity)


def _counted(axes: Axes) -> Counter[Point]:
    """How often each point is named; ConfigError for too many."""
    named = Counter(itertools.islice(_points(axes), MOST_ARMS + 1))
    if named.total() > MOST_ARMS:
        cause = f"the axes cross to more than {MOST_ARMS:,} arms"
        raise ConfigError([Finding(f"CONFIG_{lists.SYMBOLS}", 0, None, cause)])
    return named


def _control(first: Point, axes: Axes) -> Point:
    pruned = axes.pruning or any(method for _, method in axes.optimizers)
    return first.dense if pruned else first


def _require_known(tree: Tree, axes: Axes, overrides: Overrides) -> frozenset[str]:
    """Every symbol that the axes set; ConfigError for names that do not exist."""
    findings = []

    def refuse(where: str, cause: str) -> None:
        findings.append(Finding(f"CONFIG_{where}", 0, None, cause))

    known = {prefix: tree.members(prefix) for prefix in PREFIXES}
    named = [(lists.OPTIMIZERS, "OPTIMIZER_", name) for name, _ in axes.optimizers]
    named += [(lists.OPTIMIZERS, "PRUNING_", m) for _, m in axes.optimizers if m]
    named += [(lists.PRUNING, "PRUNING_", name) for name in axes.pruning]
    for where, prefix, name in named:
        method, colon, criterion = name.partition(":")
        if method not in known[prefix]:
            refuse(where, f"no {method!r}; known: {', '.join(known[prefix])}")
        elif colon and method != STATE:
            refuse(where, f"{name!r}: only {STATE} takes a criterion")
        elif colon and criterion not in known["CRITERION_"]:
            names = ", ".join(f"{STATE}:{c}" for c in known["CRITERION_"])
            refuse(where, f"no {name!r}; known: {names}")
    if axes.sparsities and axes.pruning == (NONE,):
        refuse(lists.SPARSITIES, f"CONFIG_{lists.PRUNING} prunes nothing")
    members = {p: set(known[p].values()) for p in PREFIXES}
    for symbol in axes.symbols:
        own = next((PREFIXES[p] for p in PREFIXES if symbol in members[p]), None)
        cell = next(
            (how for name, how in PER_CELL.items() if symbol.startswith(name)), ""
        )
        if symbol not in tree.symbols:
            refuse(
                lists.SYMBOLS, f"CONFIG_{symbol} is not defined{tree.nearest(symbol)}"
            )
        elif own:
            refuse(
                lists.SYMBOLS, f"CONFIG_{symbol} is set by CONFIG_{own}: name it there"
            )
        elif cell:
            refuse(lists.SYMBOLS, f"CONFIG_{symbol} is set per cell: use {cell}")
        elif symbol in tree.operational:
            refuse(
                lists.SYMBOLS,
                f"CONFIG_{symbol} is operational: no result depends on it",
            )
    owned = {*axes.symbols}
    owned |= members["OPTIMIZER_"] if axes.optimizers else set()
    if axes.pruning or any(method for _, method in axes.optimizers):
        owned |= members["PRUNING_"] | members["CRITERION_"]
    owned |= {"PRUNING_SPARSITY"} if axes.sparsities else set()
    owned |= {"LEARNING_RATE"} if axes.rates or axes.own_rates else set()
    for symbol in sorted(owned & set(overrides)):
        written = overrides.spelled.get(symbol, symbol)
        findings.append(Finding(written, 0, None, f"CONFIG_{symbol} is an axis"))
    if findings:
        raise ConfigError(findings)
    return frozenset(owned)


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
    lines, wanted = _merged(merge, _lines(tree, point, axes))
    resolved = wanted
    while idle := idle_lines(merge, resolved, lines, lines):
        lines = tuple(line for line in lines if line is not idle[-1])
        resolved = merge.lines(lines)
    assert resolved.values == wanted.values, point.id
    where = _where(tree, resolved.values, point)
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


def _lines(tree: Tree, point: Point, axes: Axes) -> tuple[Line, ...]:
    """What the point asks for, whether or not the base has it already."""
    wanted: list[tuple[str, str, str]] = []  # list, symbol, value
    if point.optimizer:
        symbol = tree.members("OPTIMIZER_")[point.optimizer]
        wanted.append((lists.OPTIMIZERS, symbol, "y"))
        for name, value in COMPANIONS.get(point.optimizer, {}).items():
            if name not in axes.symbols:
                wanted.append((lists.OPTIMIZERS, name, value))
    if point.rate:
        wanted.append((lists.RATES, "LEARNING_RATE", point.rate))
    if point.pruning:
        method, _, criterion = point.pruning.partition(":")
        wanted.append((lists.PRUNING, tree.members("PRUNING_")[method], "y"))
        if criterion:
            symbol = tree.members("CRITERION_")[criterion]
            wanted.append((lists.PRUNING, symbol, "y"))
    if point.sparsity:
        wanted.append((lists.SPARSITIES, "PRUNING_SPARSITY", point.sparsity))
    wanted += [(lists.SYMBOLS, name, value) for name, value in point.symbols]
    return tuple(_line(tree, *each) for each in wanted)


def _line(tree: Tree, where: str, symbol: str, value: str) -> Line:
    raw = quote(value) if tree.kind(symbol) == "string" else value
    return Line(f"CONFIG_{where}", 0, symbol, raw)


def _where(tree: Tree, values: Mapping[str, Value], point: Point) -> dict[str, str]:
    """Where an arm stands: what a reader of its records needs of its axes."""

    def member(prefix: str) -> str | None:
        members = tree.members(prefix).items()
        return next((name for name, symbol in members if values[symbol]), None)

    found = {"optimizer": member("OPTIMIZER_"), "pruning": member("PRUNING_")}
    if found["pruning"] == STATE:
        found["pruning"] += f":{member('CRITERION_')}"
    if found["pruning"] != NONE:
        found["sparsity"] = values["PRUNING_SPARSITY"]
    found["learning_rate"] = values["LEARNING_RATE"]
    return found | dict(point.symbols)


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
