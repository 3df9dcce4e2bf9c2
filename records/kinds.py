"""Kinds of values, out of which records/fields.py says what each record holds.

A kind is a function that raises Unfit for a value of another type, out of range, or
that no program could print, sum or store. `fields` names an object's fields; what
it does not name is of no reader's concern and must only be sound JSON.
"""

import math
import re
from typing import Any, Callable, Mapping

LARGEST = 2**63 - 1
DEEPEST = 32
"""Levels of nesting in what no field names."""
FP32 = 3.5e38
"""No number of a model is larger: fp32 ends there."""

Kind = Callable[[Any], None]


class Unfit(ValueError):
    """A value that is not of its kind: `place` is the field, `why` what is wrong."""

    def __init__(self, why: str, place: str = ""):
        self.why, self.place = why, place
        super().__init__(f"{place} {why}".strip())

    def within(self, name: str) -> "Unfit":
        """The same, one level further out."""
        rest = self.place
        return Unfit(self.why, f"{name}{'' if rest[:1] in ('', '[') else '.'}{rest}")


def abbreviated(value: Any) -> str:
    """A value of JSON in a message, in a few characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} …"


def _unfit(value: Any, expected: str) -> Unfit:
    return Unfit(f"is {abbreviated(value)}, expected {expected}")


def integer(low: int, high: int = LARGEST) -> Kind:
    """A whole number from low to high."""

    def kind(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            most = "" if high == LARGEST else f" to {high}"
            raise _unfit(value, f"a whole number from {low}{most}")

    return kind


def number(low: float = -FP32, high: float = FP32) -> Kind:
    """A finite number from low to high."""

    def kind(value: Any) -> None:
        # NaN compares false with everything
        if type(value) not in (float, int) or not low <= value <= high:
            raise _unfit(value, f"a number from {low:g} to {high:g}")

    return kind


def measured(low: float, high: float) -> Kind:
    """A number of a model, from low to high, or what is left of one: NaN or infinite."""
    finite = number(low, high)

    def kind(value: Any) -> None:
        if type(value) is not float or math.isfinite(value):
            finite(value)

    return kind


def real(value: Any) -> None:
    """Any number, NaN and infinity included, of which thousands can be added up."""
    if type(value) is not float or math.isfinite(value):
        _SUMMABLE(value)


_SUMMABLE = number(-1.1e304, 1.1e304)


def flag(value: Any) -> None:
    """true or false."""
    if type(value) is not bool:
        raise _unfit(value, "true or false")


def text(value: Any) -> None:
    """Text that UTF-8 can hold: no lone surrogate."""
    if type(value) is not str:
        raise _unfit(value, "text")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise _unfit(value, "text that is valid Unicode")


def name(value: Any) -> None:
    """Text on one line without control characters, not empty."""
    if type(value) is not str or not value or not value.isprintable():
        raise _unfit(value, "a name: text on one line")


def matching(pattern: str, expected: str) -> Kind:
    """Text that a pattern matches as a whole."""
    found = re.compile(pattern)

    def kind(value: Any) -> None:
        if type(value) is not str or not found.fullmatch(value):
            raise _unfit(value, expected)

    return kind


digest = matching("[0-9a-f]{64}", "64 hexadecimal digits")


def choice(*words: str) -> Kind:
    """One of some words."""

    def kind(value: Any) -> None:
        if type(value) is not str or value not in words:
            raise _unfit(value, f"one of {', '.join(words)}")

    return kind


def nullable(kind: Kind) -> Kind:
    """That kind, or null."""

    def either(value: Any) -> None:
        if value is not None:
            kind(value)

    return either


def listed(kind: Kind) -> Kind:
    """A list of that kind."""

    def each(value: Any) -> None:
        if type(value) is not list:
            raise _unfit(value, "a list")
        for place, item in enumerate(value):
            try:
                kind(item)
            except Unfit as unfit:
                raise unfit.within(f"[{place}]") from None

    return each


def mapped(kind: Kind, key: Kind = name) -> Kind:
    """An object with any fields, each of that kind; `key` is that of their names."""

    def each(value: Any) -> None:
        if type(value) is not dict:
            raise _unfit(value, "an object")
        for word, item in value.items():
            try:
                key(word)
                kind(item)
            except Unfit as unfit:
                raise unfit.within(word) from None

    return each


def sound(value: Any, depth: int = 0) -> None:
    """JSON of any shape: text of valid Unicode, whole numbers of 64 bits, and not
    nested without end.
    """
    if type(value) is str:
        text(value)
    elif type(value) is int:
        if not -LARGEST <= value <= LARGEST:
            raise _unfit(value, "a whole number of 64 bits")
    elif type(value) in (list, dict):
        if depth == DEEPEST:
            raise Unfit(f"is nested more than {DEEPEST} levels deep")
        is_list = type(value) is list
        for word, item in enumerate(value) if is_list else value.items():
            try:
                if not is_list:
                    text(word)
                sound(item, depth + 1)
            except Unfit as unfit:
                raise unfit.within(f"[{word}]" if is_list else word) from None


def fields(
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind] = {},
    rest: Kind = sound,
    key: Kind = text,
) -> Kind:
    """An object: all of `required`, of `optional` what is there, and others, whose
    names are of the kind `key` and whose values of the kind `rest`.
    """
    known = {**required, **optional}
    needed = frozenset(required)

    def kind(value: Any) -> None:
        if type(value) is not dict:
            raise _unfit(value, "an object")
        for word, item in value.items():
            try:
                check = known.get(word)
                if check is None:
                    key(word)
                    check = rest
                check(item)
            except Unfit as unfit:
                raise unfit.within(word) from None
        if not needed <= value.keys():
            raise Unfit(
                "is absent", next(word for word in required if word not in value)
            )

    return kind


def either(one: Kind, other: Kind) -> Kind:
    """A list of the one kind, or a value of the other."""

    def kind(value: Any) -> None:
        (one if type(value) is list else other)(value)

    return kind
