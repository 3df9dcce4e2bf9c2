"""Names of pruning methods as a person writes them, historic ones included.

No torch in this file: the entry point resolves names before it is imported.
"""

from dataclasses import dataclass

from kconf.axes import BITTER

METHODS = ("none", "magnitude", "movement")
CRITERIA = (
    "hybrid",
    "magnitude",
    "gradient_magnitude",
    "layer_adaptive",
    "movement",
    "coherence",
    "variance",
)


@dataclass(frozen=True)
class Resolved:
    """Symbols that a name stands for, and a note for names that meant more."""

    symbols: tuple[str, ...]
    note: str | None = None


def resolve(name: str) -> Resolved:
    """The symbols to set for a name.

    "none", "magnitude" and "movement" are external methods; "state" prunes from
    the optimizer's state by its default criterion, "state:variance" by that one,
    "bitter7" by what it meant. Raises ValueError for any other name.
    """
    if name in METHODS:
        return Resolved((f"PRUNING_{name.upper()}",))
    if name == "state":
        return Resolved(("PRUNING_STATE",))
    criterion, note = name.removeprefix("state:"), None
    if name in BITTER:
        criterion, note = BITTER[name]
        note = f"{name} is pruned as state:{criterion}: {note}" if note else None
    elif not name.startswith("state:") or criterion not in CRITERIA:
        known = [*METHODS, "state", *(f"state:{c}" for c in CRITERIA), *BITTER]
        raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return Resolved(("PRUNING_STATE", f"CRITERION_{criterion.upper()}"), note)
