"""Numbers as a reader sees them: fixed decimals, human units, a dash for none.

Every function maps None to "–", so a table never shows an invented zero.
"""

from datetime import datetime, timezone
from typing import Any, Iterable, Mapping

from records import durations
from records.plurals import plural
from records.text_table import shortened

DASH = "–"


def loss(value: float | None) -> str:
    """A loss in nats/token or bits/byte: 3.2814."""
    return DASH if value is None else f"{value:.4f}"


def spread(value: float | None) -> str:
    """A standard deviation in nats/token, one digit finer than a loss: 0.00131."""
    return DASH if value is None else f"{value:.5f}"


def signed(value: float | None) -> str:
    """A difference in nats/token: +0.00214."""
    return DASH if value is None else f"{value:+.5f}"


def scaled(value: float | None, units: str = "KMBT") -> str:
    """124475904 as 124.48M; pass units "KMGT" for FLOPs."""
    if value is None:
        return DASH
    for power in range(len(units), 0, -1):
        if abs(value) >= 0.999995 * 1000**power:
            return f"{value / 1000**power:.2f}{units[power - 1]}"
    return f"{value:.0f}"


def count(value: float | None) -> str:
    """12345.6 as 12,346."""
    return DASH if value is None else f"{value:,.0f}"


def memory(value: float | None) -> str:
    """Bytes as 1.43 GiB, 812.0 MiB or 96.0 KiB."""
    if value is None:
        return DASH
    if value >= 2**30:
        return f"{value / 2**30:.2f} GiB"
    mib = value / 2**20
    return f"{mib:.1f} MiB" if mib >= 1 or not value else f"{value / 2**10:.1f} KiB"


def percent(value: float | None) -> str:
    """0.5 as 50.00 %."""
    return DASH if value is None else f"{100 * value:.2f} %"


def step_time(seconds: float | None) -> str:
    """Seconds of one optimizer step as 12.3 ms."""
    return DASH if seconds is None else f"{1000 * seconds:.1f} ms"


def energy(joules: float | None) -> str:
    """Joules as 12.3 kJ, below 1 kJ as 812 J."""
    if joules is None:
        return DASH
    return f"{joules / 1000:,.1f} kJ" if joules >= 1000 else f"{joules:.0f} J"


def duration(seconds: float | None) -> str:
    """Seconds as 4.2s, 1m 12s, 2h 03m or 1d 04h."""
    return DASH if seconds is None else durations.duration(seconds)


def moment(unix: float) -> str:
    """Unix seconds as 2026-03-01 14:05 UTC."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def numbers_in(values: Iterable[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"; each number once, in order."""
    spans: list[list[int]] = []
    for value in sorted(set(values)):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions, in order of first appearance."""
    return list(dict.fromkeys(values))


def assigned(values: Mapping[str, Any]) -> str:
    """{A: 1, B: 2} as "A=1, B=2", by name; "none set" for nothing."""
    return ", ".join(f"{k}={v}" for k, v in sorted(values.items())) or "none set"


def by_reason(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """(name, reason) pairs as "name, name: reason", a line per reason."""
    names: dict[str, list[str]] = {}
    for name, reason in pairs:
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(each)}: {reason}" for reason, each in names.items()]
