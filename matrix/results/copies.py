"""One run is one seed: runs that are there under two seeds.

A copied directory makes two seeds of one, and the spread over seeds too small.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Sequence

from matrix.results.run import Run

HASH, CURVE = "hash", "training curve"
DIGITS = 6
"""Digits of a loss beyond which two runs have the same one by copying alone."""


def copied(runs: Iterable[Run]) -> list[str]:
    """One line per pair of a step's runs that are one: "seeds 1 and 4 are one run"."""
    marks = [
        (run.seed, run.value("cell_hash"), [row["loss"] for row in run.evals])
        for run in runs
    ]
    return [
        f"seeds {one} and {other} are one run: the same {what}"
        for one, other, what in same_runs(marks)
    ]


def same_runs(
    marks: Sequence[tuple[Hashable, str | None, Sequence[float]]],
) -> Iterator[tuple[Hashable, Hashable, str]]:
    """(name, name, what is the same) of each run and the first that it repeats.

    `marks` are (name, hash, losses of the evaluations) of the runs of one step.
    """
    for number, (name, digest, losses) in enumerate(marks):
        for first, other, curve in marks[:number]:
            if digest is not None and digest == other:
                yield first, name, HASH
            elif _telling(losses) and list(losses) == list(curve):
                yield first, name, CURVE
            else:
                continue
            break


def _telling(losses: Sequence[float]) -> bool:
    """Whether no two seeds have these losses by chance: two or more, or many digits."""
    return len(losses) > 1 or any(len(f"{x:.17g}") > DIGITS + 1 for x in losses)
