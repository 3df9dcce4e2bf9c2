"""The axes of a test matrix: its lists, read.

    CONFIG_MATRIX_OPTIMIZERS="adamw,adamwspam"
    CONFIG_MATRIX_PRUNING="none,magnitude,state:variance"
    CONFIG_MATRIX_SPARSITIES="0.5,0.7"
    CONFIG_MATRIX_LEARNING_RATES="3e-4,6e-4;sgd=1e-2,1e-1"
    CONFIG_MATRIX_AXES="CONFIG_MLP_DIM=3072,3840;CONFIG_GPT2_BIAS=y,n"

A name is the end of a symbol: adamw is OPTIMIZER_ADAMW, magnitude
PRUNING_MAGNITUDE, state:variance PRUNING_STATE with CRITERION_VARIANCE. An empty
list is no axis. Historic names are read as what they were, with a note.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

from kconf.bind import SettingsError, plainly

OPTIMIZERS, PRUNING = "MATRIX_OPTIMIZERS", "MATRIX_PRUNING"
SPARSITIES, RATES = "MATRIX_SPARSITIES", "MATRIX_LEARNING_RATES"
SYMBOLS = "MATRIX_AXES"
NONE, STATE = "none", "state"

# Symbol of an axis of CONFIG_MATRIX_AXES -> the list that it belongs to.
OWN_LIST = {"LEARNING_RATE": RATES, "PRUNING_SPARSITY": SPARSITIES}
ADAMWPRUNE = "adamwprune"
ADAMWPRUNE_IS = ("adamw", f"{STATE}:hybrid")
# Historic name of a criterion -> today's, and what is different.
BITTER = {
    "bitter0": ("hybrid", ""),
    "bitter1": ("magnitude", ""),
    "bitter2": ("magnitude", "it changed the budget, which here is the study's"),
    "bitter3": ("gradient_magnitude", ""),
    "bitter4": ("layer_adaptive", ""),
    "bitter5": ("movement", "with the sign of the paper, not the historic one"),
    "bitter6": ("coherence", ""),
    "bitter7": ("variance", ""),
    "bitter8": ("gradient_magnitude", "it was an fp16 variant for speed"),
    "bitter9": ("variance", "it was an fp16 variant for speed"),
}


@dataclass(frozen=True)
class Axes:
    """What is crossed; an empty part is no axis.

    optimizers: (name, method that stands for every pruning method, or None).
    pruning: "none", a method, or "state:CRITERION". own_rates: those of an
    optimizer that needs others. symbols: values by symbol. notes: what was read as
    something else.
    """

    optimizers: tuple[tuple[str, str | None], ...] = ()
    pruning: tuple[str, ...] = ()
    sparsities: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    own_rates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def forced(self) -> tuple[str, ...]:
        """The methods that stand for every pruning method of an optimizer."""
        return tuple(method for _, method in self.optimizers if method)


def read_axes(
    values: Mapping[str, Any], overrides: Mapping[str, str] | None = None
) -> Axes:
    """The axes of a configuration.

    An axis of a one-shot AXES= replaces the list of the same symbol that the
    configuration holds. Raises SettingsError for a list that cannot be read.
    """
    notes: list[str] = []
    lists = {name: _listed(name, values[name]) for name in (OPTIMIZERS, PRUNING)}
    rates, *others = (values[RATES] or "").split(";")
    lists[RATES] = _numbers(RATES, rates.strip())
    lists[SPARSITIES] = _numbers(SPARSITIES, values[SPARSITIES])
    optimizers = tuple(_optimizer(name, notes) for name in lists[OPTIMIZERS])
    own_rates = _own_rates(values[RATES], others, [name for name, _ in optimizers])
    symbols = _symbols(values[SYMBOLS] or "")
    given = overrides or {}
    for symbol, own in OWN_LIST.items():
        if symbol not in symbols:
            continue
        if values[own] and (SYMBOLS not in given or own in given):
            why = f"CONFIG_{symbol} has the axis CONFIG_{own} already"
            raise SettingsError(SYMBOLS, values[SYMBOLS], why)
        if values[own]:
            notes.append(f"AXES replaces CONFIG_{own}={values[own]}")
            own_rates = {} if own == RATES else own_rates
        lists[own] = _numbers(SYMBOLS, ",".join(symbols.pop(symbol)))
    pruning = tuple(_method(name, notes) for name in lists[PRUNING])
    axes = Axes(
        optimizers, pruning, lists[SPARSITIES], lists[RATES], own_rates, symbols
    )
    if axes == Axes():
        raise SettingsError(
            SYMBOLS,
            values[SYMBOLS],
            "the test matrix has no axis: set one of CONFIG_MATRIX_OPTIMIZERS, "
            "_PRUNING, _SPARSITIES, _LEARNING_RATES, _AXES, or "
            'AXES="CONFIG_LEARNING_RATE=3e-4,6e-4"',
        )
    return replace(axes, notes=tuple(notes))


def _listed(name: str, raw: str | None) -> tuple[str, ...]:
    """The values of "a,b"; none of "". Blanks around a value do not count."""
    parts = tuple(part.strip() for part in raw.split(",")) if raw else ()
    if "" in parts:
        raise SettingsError(name, raw, "has an empty value")
    for number, part in enumerate(parts):
        if part in parts[:number]:
            raise SettingsError(name, raw, f"names {part!r} twice")
    return parts


def _numbers(name: str, raw: str | None) -> tuple[str, ...]:
    """The same for numbers, as they are written; 0.5 and 0.50 are one value."""
    seen: dict[float, str] = {}
    for part in _listed(name, raw):
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not plainly(part):
            raise SettingsError(name, raw, f"{part!r} is not a number")
        if number in seen:
            raise SettingsError(name, raw, f"{seen[number]} and {part} are one number")
        seen[number] = part
    return tuple(seen.values())


def _own_rates(
    raw: str | None, parts: Sequence[str], optimizers: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """{"sgd": ("1e-2", "1e-1")} of ["sgd=1e-2,1e-1"]."""
    found: dict[str, tuple[str, ...]] = {}
    for part in map(str.strip, parts):
        name, equals, listed = part.partition("=")
        why = None
        if not equals or not listed.strip():
            why = "is not OPTIMIZER=rate,rate"
        elif name not in optimizers:
            why = f"is of none of the optimizers {', '.join(optimizers) or '(none)'}"
        elif name in found:
            why = "is a second one of that optimizer"
        if why:
            raise SettingsError(RATES, raw, f"{part!r} {why}")
        found[name] = _numbers(RATES, listed)
    return found


def _symbols(raw: str) -> dict[str, tuple[str, ...]]:
    """{"MLP_DIM": ("3072", "3840")} of "CONFIG_MLP_DIM=3072,3840;CONFIG_…"."""
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, map(str.strip, raw.split(";"))):
        name, equals, listed = part.partition("=")
        symbol = name.removeprefix("CONFIG_")
        why = None
        if not equals or symbol == name or not symbol.isidentifier():
            why = "is not CONFIG_SYMBOL=value,value"
        elif " CONFIG_" in listed:
            why = "holds another axis: axes are separated by ';'"
        elif not listed.strip():
            why = "has no value"
        elif symbol in found:
            why = "is a second axis of one symbol"
        if why:
            raise SettingsError(SYMBOLS, raw, f"the axis {part!r} {why}")
        found[symbol] = _listed(SYMBOLS, listed)
    return found


def _optimizer(name: str, notes: list[str]) -> tuple[str, str | None]:
    if name != ADAMWPRUNE:
        return name, None
    optimizer, method = ADAMWPRUNE_IS
    notes.append(f"{name} is {optimizer} pruned by {method}")
    return optimizer, method


def _method(name: str, notes: list[str]) -> str:
    """A pruning method with a historic criterion under its present name."""
    criterion = name.removeprefix(f"{STATE}:")
    if criterion not in BITTER:
        return name
    today, why = BITTER[criterion]
    notes.append(f"{criterion} is {STATE}:{today}" + (f" ({why})" if why else ""))
    return f"{STATE}:{today}"
