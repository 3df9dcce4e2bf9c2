"""Names of pruning methods as a person writes them, historic ones included.

No torch in this file: the entry point resolves names before it is imported.
"""

from dataclasses import dataclass

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
BUDGET = "it changed the budget of the run, which GPT2_MAX_ITERS does here"
FP16 = "it was an fp16 speed variant of other scores, which are fp32 here"

# Historic name -> (criterion, what is different today).
HISTORIC: dict[str, tuple[str, str | None]] = {
    "bitter0": ("hybrid", None),
    "bitter1": ("magnitude", None),
    "bitter2": ("magnitude", BUDGET),
    "bitter3": ("gradient_magnitude", None),
    "bitter4": ("layer_adaptive", None),
    "bitter5": ("movement", "its sign was inverted then"),
    "bitter6": ("coherence", None),
    "bitter7": ("variance", None),
    "bitter8": ("gradient_magnitude", FP16),
    "bitter9": ("variance", FP16),
}


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
    if name in HISTORIC:
        criterion, note = HISTORIC[name]
        note = note and f"{name} is pruned as state:{criterion}: {note}"
    elif not name.startswith("state:") or criterion not in CRITERIA:
        known = [*METHODS, "state", *(f"state:{c}" for c in CRITERIA), *HISTORIC]
        raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return Resolved(("PRUNING_STATE", f"CRITERION_{criterion.upper()}"), note)
