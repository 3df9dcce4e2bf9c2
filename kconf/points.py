"""The points of a test matrix's axes: their names, and the lines they ask for."""

import hashlib
import itertools
import re
from dataclasses import dataclass, replace
from typing import Iterator, Mapping

from kconf import axes as lists
from kconf.axes import NONE, STATE, Axes
from kconf.config_py import Value
from kconf.overrides import Overrides
from kconf.syntax import ConfigError, Finding, Line, quote
from kconf.tree import Facts

# What an optimizer's method fixes beside its name, unless an axis sets it.
COMPANIONS = {"adamwspam": {"ADAM_BETA2": "0.999"}}
PREFIXES = {
    "OPTIMIZER_": lists.OPTIMIZERS,
    "PRUNING_": lists.PRUNING,
    "CRITERION_": lists.PRUNING,
}
# Set per cell: the seed by CONFIG_SEEDS, the device once for the whole plan.
PER_CELL = {"SEED": "CONFIG_SEEDS", "DEVICE_": "DEVICE="}
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


def points_of(axes: Axes) -> Iterator[Point]:
    """The cross product, without sparsities of what is not pruned."""
    methods = axes.pruning or ((NONE,) if axes.forced else (None,))
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


def control_of(axes: Axes) -> Point:
    """The first optimizer without pruning at the first rate and values."""
    first = next(points_of(axes))
    return first.dense if axes.pruning or axes.forced else first


def require_known(tree: Facts, axes: Axes) -> None:
    """Raise ConfigError for names that no choice has and symbols that are no axis."""
    causes = [*_wrong_names(tree, axes), *_wrong_symbols(tree, axes)]
    if axes.sparsities and axes.pruning == (NONE,) and not axes.forced:
        causes.append((lists.SPARSITIES, f"CONFIG_{lists.PRUNING} prunes nothing"))
    if causes:
        raise ConfigError([Finding(f"CONFIG_{w}", 0, None, c) for w, c in causes])


def _wrong_names(tree: Facts, axes: Axes) -> Iterator[tuple[str, str]]:
    """(list, what is wrong with a name in it)."""
    methods, criteria = tree.members("PRUNING_"), tree.members("CRITERION_")
    optimizers = tree.members("OPTIMIZER_")
    for name, _ in axes.optimizers:
        if name not in optimizers:
            known = ", ".join(optimizers)
            yield lists.OPTIMIZERS, f"no {name!r}; known: {known}"
    for where, name in [
        *((lists.OPTIMIZERS, method) for method in axes.forced),
        *((lists.PRUNING, method) for method in axes.pruning),
    ]:
        method, colon, criterion = name.partition(":")
        if method not in methods:
            yield where, f"no {method!r}; known: {', '.join(methods)}"
        elif colon and method != STATE:
            yield where, f"{name!r}: only {STATE} takes a criterion"
        elif colon and criterion not in criteria:
            known = ", ".join(f"{STATE}:{each}" for each in criteria)
            yield where, f"no {name!r}; known: {known}"


def _wrong_symbols(tree: Facts, axes: Axes) -> Iterator[tuple[str, str]]:
    """(MATRIX_AXES, why a symbol in it cannot be an axis)."""
    listed = {
        symbol: own
        for prefix, own in PREFIXES.items()
        for symbol in tree.members(prefix).values()
    }
    for symbol in axes.symbols:
        cell = [how for name, how in PER_CELL.items() if symbol.startswith(name)]
        why = None
        if symbol not in tree.symbols:
            why = f"is not defined{tree.nearest(symbol)}"
        elif symbol in listed:
            why = f"is set by CONFIG_{listed[symbol]}: name it there"
        elif cell:
            why = f"is set per cell: use {cell[0]}"
        elif symbol in tree.operational:
            why = "is operational: no result depends on it"
        if why:
            yield lists.SYMBOLS, f"CONFIG_{symbol} {why}"


def owned_symbols(tree: Facts, axes: Axes, overrides: Overrides) -> frozenset[str]:
    """Every symbol that the axes set; ConfigError when an override sets one too."""
    owned = {*axes.symbols}
    if axes.optimizers:
        owned |= {*tree.members("OPTIMIZER_").values()}
    if axes.pruning or axes.forced:
        owned |= {*tree.members("PRUNING_").values()}
        owned |= {*tree.members("CRITERION_").values()}
    owned |= {"PRUNING_SPARSITY"} if axes.sparsities else set()
    owned |= {"LEARNING_RATE"} if axes.rates or axes.own_rates else set()
    findings = [
        Finding(overrides.spelled.get(s, s), 0, None, f"CONFIG_{s} is an axis")
        for s in sorted(owned & set(overrides))
    ]
    if findings:
        raise ConfigError(findings)
    return frozenset(owned)


def lines_of(tree: Facts, point: Point, axes: Axes) -> tuple[Line, ...]:
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


def _line(tree: Facts, where: str, symbol: str, value: str) -> Line:
    raw = quote(value) if tree.kind(symbol) == "string" else value
    return Line(f"CONFIG_{where}", 0, symbol, raw)


def place_of(tree: Facts, values: Mapping[str, Value], point: Point) -> dict[str, str]:
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
