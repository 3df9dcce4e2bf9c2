"""What the runs that diverged say: how often on either side, and no more."""

from math import comb
from statistics import fmean
from typing import Mapping

from matrix import units
from matrix.results.metrics import Metric
from matrix.results.rows import Row
from matrix.results.run import DIVERGED
from matrix.results.study import Study


def diverged(
    study: Study,
    row: Row,
    control: Row,
    metric: Metric,
    differences: Mapping[int, float],
) -> list[str]:
    """Which seeds diverged on either side with the exact p of that, and the mean of
    the `differences` that are left. Nothing where neither diverged.
    """
    lost = {side.step: _diverged(study, side) for side in (row, control)}
    if not any(lost.values()):
        return []
    ended = {side.step: lost[side.step] | set(side.runs) for side in (row, control)}
    pairs = ended[row.step] & ended[control.step]
    arm, base = lost[row.step] & pairs, lost[control.step] & pairs
    p = mcnemar(len(arm - base), len(base - arm))
    lines = [
        f"diverged in {_seeds(lost[row.step])}; control in "
        f"{_seeds(lost[control.step])} (p {p:.2g})"
    ]
    if differences:
        mean = fmean(differences.values())
        shown = units.signed(mean) if metric.evaluated else f"{mean:+.4g}"
        count = units.plural(len(differences), "pair")
        lines.append(f"difference {shown} over {count} of survivors, no evidence")
    return lines


def mcnemar(one: int, other: int) -> float:
    """Exact two-sided p that of one + other discordant pairs this few or fewer lie on
    the rarer side when either side is as likely: min(1, 2 Σ_{k ≤ min} C(n, k) / 2ⁿ).
    """
    n = one + other
    tail = sum(comb(n, k) for k in range(min(one, other) + 1))
    return min(1.0, 2 * tail / 2**n)


def _diverged(study: Study, row: Row) -> set[int]:
    """The seeds of a step that have no run because theirs diverged."""
    cells = (cell for cell in study.open if cell.step == row.step)
    return {c.seed for c in cells if c.state == DIVERGED and c.seed not in row.runs}


def _seeds(seeds: set[int]) -> str:
    if not seeds:
        return "none"
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"{noun} {units.numbers_in(seeds)}"
