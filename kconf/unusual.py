"""Values that are allowed and that nobody is known to have meant.

A study may train with any rate; one far outside of what its optimizer is used with is
questioned where it is loaded, checked and planned, and nothing is refused.
docs/optimizers.md has the bounds, which are a factor of ten and more beyond any rate that
a recipe recommends.
"""

from typing import Mapping, Sequence

from kconf.config_py import Value

RATES = {
    "OPTIMIZER_SGD": (1e-5, 10.0),
    "OPTIMIZER_ADAM": (1e-7, 0.1),
    "OPTIMIZER_ADAMW": (1e-7, 0.1),
    "OPTIMIZER_ADAMWADV": (1e-7, 0.1),
    "OPTIMIZER_MUON": (1e-7, 0.1),
    "OPTIMIZER_ADAMWSPAM": (1e-7, 0.1),
}
"""The lowest and the highest CONFIG_LEARNING_RATE that no question is asked of."""
ORIGINAL_MUON = (1e-5, 1.0)
"""Those of Muon with the step as first published (CONFIG_MUON_SCALE_ORIGINAL)."""


def questions(values: Mapping[str, Value]) -> list[str]:
    """A sentence for each value that is far outside; none of a tree without optimizers.

    The settings must have been built from the values: what is no number is refused there.
    """
    if not RATES.keys() & values.keys():
        return []
    optimizer = next(symbol for symbol in RATES if values[symbol])
    low, high = RATES[optimizer]
    if values["MUON_SCALE_ORIGINAL"]:
        low, high = ORIGINAL_MUON
    rate = values["LEARNING_RATE"]
    if low <= float(rate) <= high:
        return []
    return [
        f"CONFIG_LEARNING_RATE={rate}: CONFIG_{optimizer} is used with {low:g} to "
        f"{high:g}: is it meant? (docs/optimizers.md)"
    ]


def warnings(asked: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """(step, its questions) pairs as lines; a question of every step names none."""
    names: dict[str, list[str]] = {}
    for step, found in asked:
        for question in found:
            names.setdefault(question, []).append(step)
    some = {q: steps for q, steps in names.items() if len(steps) < len(asked)}
    return [
        "warning: " + (f"{', '.join(some[each])}: " if each in some else "") + each
        for each in names
    ]
