"""Training loss, learning rate and gradient norm of a run, thinned for a plot.

A run logs up to a row per update. Neighbouring rows are put together, 2^k of them, so
that at most MOST points are left; counted from the first row, so that runs of another
length have their points at the same updates, or at every second one of them.
"""

import math
from typing import NamedTuple, Sequence

from records.columns import Series

MOST = 128
"""Most points of a run."""


class Point(NamedTuple):
    """Some neighbouring rows: tokens at their end, the mean training loss in nats/token,
    the learning rate at their end, the mean gradient norm and the largest one.
    """

    tokens: int
    loss: float | None
    rate: float | None
    norm: float | None
    largest: float | None


def thinned(rows: Series, most: int = MOST) -> tuple[Point, ...]:
    """The points of a run's training rows, at most `most`; rows that do not fill a
    point at the end are left out.
    """
    together = 1
    while len(rows) // together > most:
        together *= 2
    names = ("tokens", "loss", "lr", "grad_norm")
    columns = [list(rows.column(name)) for name in names]
    points = []
    for start in range(0, len(rows) - together + 1, together):
        end = start + together
        tokens, losses, rates, norms = (column[start:end] for column in columns)
        if tokens[-1] is not None:
            known = [norm for norm in norms if norm is not None]
            largest = max(known, default=None)
            points.append(
                Point(tokens[-1], _mean(losses), rates[-1], _mean(norms), largest)
            )
    return tuple(points)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is recorded; None of nothing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
