"""From configuration values to frozen dataclasses.

A settings class declares, field by field, which Kconfig symbol it reads and
how a value is parsed; `build` makes the instance and every complaint names
the symbol. One declaration is the only place where a symbol meets the code:

    @dataclass(frozen=True)
    class OptimSettings:
        lr: float = real("LEARNING_RATE", above=0.0)
        clip: float = real("GRAD_CLIP", low=0.0)
        kind: str = one_of(OPTIMIZER_ADAMW="adamw")

Kconfig has no float type, so `real` parses a quoted string, once, here. A
symbol whose dependencies are unmet has the value None; `optional=True` lets
that through, otherwise it is an error.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Mapping

MOST_NUMBERS, MOST_DIGITS = 10_000, 18
"""Numbers that a list of ranges may name, and the digits of one."""
NOT_IN_A_LINE = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, what ends a line, and bytes that are no UTF-8."""


class SettingsError(ValueError):
    """A value that the settings refuse.

    Attributes: symbol (without CONFIG_; None for a combination of several),
    value, why.
    """

    def __init__(self, symbol: str | None, value: Any, why: str):
        self.symbol, self.value, self.why = symbol, value, why
        shown = format_value(value)
        if NOT_IN_A_LINE.search(shown):
            shown = repr(value)
        super().__init__(f"CONFIG_{symbol}={shown}: {why}" if symbol else why)


@dataclass(frozen=True)
class Binding:
    """How one field reads its symbol or, for a choice, its symbols."""

    symbols: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]


def format_value(value: Any) -> str:
    """A value as a .config line shows it: y, n, 12 or "text"."""
    if isinstance(value, bool):
        return "y" if value else "n"
    if value is None:
        return "(inactive)"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _field(symbols: tuple[str, ...], read: Callable[[Mapping[str, Any]], Any]) -> Any:
    return field(metadata={"binding": Binding(symbols, read)})


def _fetch(values: Mapping[str, Any], symbol: str, kind: type, optional: bool) -> Any:
    if symbol not in values:
        raise SettingsError(symbol, None, "missing from the configuration")
    value = values[symbol]
    if value is None and optional:
        return None
    if type(value) is not kind:
        raise SettingsError(
            symbol, value, f"expected {kind.__name__}, found {type(value).__name__}"
        )
    return value


def flag(symbol: str) -> Any:
    """A bool symbol."""
    return _field((symbol,), lambda values: _fetch(values, symbol, bool, False))


def integer(symbol: str, optional: bool = False) -> Any:
    """An int symbol; its range is Kconfig's, enforced by the strict loader."""
    return _field((symbol,), lambda values: _fetch(values, symbol, int, optional))


def text(symbol: str, optional: bool = False) -> Any:
    """A string symbol, taken as it is."""
    return _field((symbol,), lambda values: _fetch(values, symbol, str, optional))


def plainly(raw: str) -> bool:
    """Whether a number is in ASCII, without blanks and underscores: float() and int()
    also read 1_0, " 1" and the digits of every script.
    """
    return raw.isascii() and raw == raw.strip() and "_" not in raw


def real(
    symbol: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    optional: bool = False,
) -> Any:
    """A string symbol that holds a finite number.

    `low`/`high` are inclusive bounds, `above`/`below` exclusive ones.
    """

    def read(values: Mapping[str, Any]) -> float | None:
        raw = _fetch(values, symbol, str, optional)
        if raw is None:
            return None
        try:
            number = float(raw)
        except ValueError:
            raise SettingsError(symbol, raw, "is not a number") from None
        if not plainly(raw):
            raise SettingsError(symbol, raw, "is not a plainly written number")
        if not math.isfinite(number):
            raise SettingsError(symbol, raw, "is not finite")
        if number < low or number > high or number <= above or number >= below:
            raise SettingsError(
                symbol, raw, f"is out of range ({_bounds(low, high, above, below)})"
            )
        return number

    return _field((symbol,), read)


def _bounds(low: float, high: float, above: float, below: float) -> str:
    parts = []
    if above > -math.inf:
        parts.append(f"above {above:g}")
    elif low > -math.inf:
        parts.append(f"at least {low:g}")
    if below < math.inf:
        parts.append(f"below {below:g}")
    elif high < math.inf:
        parts.append(f"at most {high:g}")
    return ", ".join(parts)


def one_of(optional: bool = False, **members: str) -> Any:
    """A Kconfig choice: members map its bool symbols to the field's value.

    `optional` allows a choice that is not visible (all members n) as None.
    """

    def read(values: Mapping[str, Any]) -> str | None:
        chosen = [s for s in members if _fetch(values, s, bool, False)]
        if not chosen and optional:
            return None
        if len(chosen) != 1:
            raise SettingsError(
                None, None, f"exactly one of {', '.join(members)} must be set: {chosen}"
            )
        return members[chosen[0]]

    return _field(tuple(members), read)


def names(symbol: str, allowed: tuple[str, ...]) -> Any:
    """A string symbol that holds a comma-separated list of known names."""

    def read(values: Mapping[str, Any]) -> tuple[str, ...]:
        raw = _fetch(values, symbol, str, False)
        parts = tuple(part.strip() for part in raw.split(","))
        for part in parts:
            if part not in allowed:
                raise SettingsError(
                    symbol, raw, f"{part!r} is none of {', '.join(allowed)}"
                )
        return parts

    return _field((symbol,), read)


def ranges(symbol: str, raw: str) -> tuple[int, ...]:
    """The numbers of "0,2,8-9", in the order written.

    Raises SettingsError for anything else: an empty part, a reversed range, a
    number named twice, more than MOST_NUMBERS numbers.
    """
    found: list[int] = []
    for part in raw.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdigit() for end in ends):
            raise SettingsError(
                symbol, raw, f'{part!r} is not a number or a range ("0,2,8-9")'
            )
        if max(map(len, ends)) > MOST_DIGITS:
            raise SettingsError(
                symbol, raw, f"{part.strip()!r} has over {MOST_DIGITS} digits"
            )
        low, high = map(int, ends)
        if high < low:
            raise SettingsError(symbol, raw, f"the range {part.strip()!r} is reversed")
        if len(found) + high - low >= MOST_NUMBERS:
            raise SettingsError(
                symbol, raw, f"names more than {MOST_NUMBERS:,} numbers: name fewer"
            )
        found += range(low, high + 1)
    seen: set[int] = set()
    for number in found:
        if number in seen:
            raise SettingsError(symbol, raw, f"{number} is named twice")
        seen.add(number)
    return tuple(found)


def weighted(symbol: str, optional: bool = False) -> Any:
    """A string symbol that holds "NAME:WEIGHT,NAME:WEIGHT": pairs, () if empty.

    Weights are positive and relative to each other; names do not repeat and
    hold no comma.
    """

    def weight(written: str) -> float | None:
        try:
            number = float(written)
        except ValueError:
            return None
        return number if plainly(written) and 0 < number < math.inf else None

    return _pairs(symbol, optional, "NAME:WEIGHT", weight)


def assigned(symbol: str, choices: tuple[str, ...], optional: bool = False) -> Any:
    """A string symbol that holds "NAME:CHOICE,NAME:CHOICE": pairs in their order,
    () if empty. Names do not repeat and hold no comma.
    """
    form = f"NAME:{'|'.join(choices)}"
    return _pairs(symbol, optional, form, {name: name for name in choices}.get)


def _pairs(
    symbol: str, optional: bool, form: str, parse: Callable[[str], Any | None]
) -> Any:
    """parse: what stands behind a name's last colon to its value, or None."""

    def read(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...] | None:
        raw = _fetch(values, symbol, str, optional)
        if not raw:
            return None if raw is None else ()
        pairs: dict[str, Any] = {}
        for part in raw.split(","):
            name, _, written = part.strip().rpartition(":")
            value = parse(written)
            if not name or value is None:
                raise SettingsError(symbol, raw, f"{part!r} is not {form}")
            if name in pairs:
                raise SettingsError(symbol, raw, f"{name!r} is named twice")
            pairs[name] = value
        return tuple(pairs.items())

    return _field((symbol,), read)


def section(cls: type, symbols: tuple[str, ...] = ()) -> Any:
    """A nested settings class; where none of these symbols is set, None."""
    return field(metadata={"section": cls, "symbols": symbols})


def sections(
    names: tuple[str, ...],
    load: Callable[[str], type],
    chooses: Callable[[Mapping[str, Any], str], bool],
) -> Any:
    """Those of the nested settings classes load(name) that the values choose, in the
    order of their names; the others are not loaded.
    """
    return field(metadata={"sections": (names, load, chooses)})


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """The instance of a settings class for these values.

    Raises SettingsError for the first value that does not fit; a class's
    `__post_init__` may raise it for combinations.
    """
    arguments = {}
    for item in fields(cls):
        if "sections" in item.metadata:
            known, load, chooses = item.metadata["sections"]
            chosen = [name for name in known if chooses(values, name)]
            arguments[item.name] = tuple(build(load(name), values) for name in chosen)
        elif "section" in item.metadata:
            needed = item.metadata["symbols"]
            there = not needed or any(values[symbol] for symbol in needed)
            nested = item.metadata["section"]
            arguments[item.name] = build(nested, values) if there else None
        else:
            arguments[item.name] = item.metadata["binding"].read(values)
    return cls(**arguments)


def symbols_of(cls: type) -> list[str]:
    """The symbols a settings class reads, in order of declaration."""
    found: list[str] = []
    for item in dataclasses.fields(cls):
        if "sections" in item.metadata:
            known, load, _ = item.metadata["sections"]
            for name in known:
                found += symbols_of(load(name))
        elif "section" in item.metadata:
            found += symbols_of(item.metadata["section"])
        else:
            found += item.metadata["binding"].symbols
    return found
