"""Values of a record against what Kconfig declares of their symbols.

The strict merge looks at kinds and ranges when a configuration is made. What a file
says later, a config.py or the papers of an export, anybody may have written.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kconf.bind import SettingsError
from kconf.tree import Facts

TYPES = {"bool": bool, "int": int, "string": str}
INACTIVE = (None, False, "")
"""Values with which a symbol does nothing."""


def require_declared(
    facts: Facts, values: Mapping[str, Any], operational: Collection[str] = ()
) -> None:
    """Raise SettingsError for a value of another kind than its symbol's, for a number
    out of range, and for a symbol that is not defined, unless it does nothing or was
    `operational`: a symbol that is no more, of a run that is kept.

    None is the value of an int or string that is not active.
    """
    for symbol, value in values.items():
        if not facts.defines(symbol):
            idle = any(value is inactive for inactive in INACTIVE)
            if not idle and symbol not in operational:
                raise SettingsError(symbol, value, "no such symbol in this checkout")
            continue
        kind = facts.kind(symbol)
        if value is None and kind != "bool":
            continue
        if type(value) is not TYPES[kind]:
            why = f"expected {kind}, found {type(value).__name__}"
            raise SettingsError(symbol, value, why)
        ranges = facts.ranges(symbol)
        if ranges and not any(low <= value <= high for low, high in ranges):
            low, high = ranges[0]
            raise SettingsError(symbol, value, f"is out of range ({low} to {high})")
