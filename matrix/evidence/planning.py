"""What a number of seeds can see, and how many it takes: ranges, never one number.

The spread of a paired difference is estimated by the seeds themselves, and a few seeds
estimate it badly. It is pooled over the arms and carried on as an interval. All of this
plans and explains; no verdict goes by it (an arm that spreads otherwise than the others
would be judged wrongly).
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Sequence

import numpy as np
from scipy import special

from matrix.evidence import stats

CONFIDENCE = 0.95
"""Of the interval of the standard deviation, and so of everything that follows."""


@dataclass(frozen=True)
class Spread:
    """The SD of a paired difference: estimate, degrees of freedom, 95 % interval."""

    sd: float
    df: int
    low: float
    high: float


@dataclass(frozen=True)
class Planning:
    """What the seeds of an arm allow at the level at which Holm held it.

    `visible` is the true difference that they detect with 80 % power, `needed` the
    seeds that so detect the smallest effect of interest (None at an end: over
    stats.MOST_SEEDS); `power` is that of a true difference of the smallest effect, and
    `exaggeration` by how much too large a significant difference is on average there.
    (low, high) are those at the ends of the spread's interval, `power` has the one at
    its estimate between them. All but `visible` are None where no smallest effect was
    named.
    """

    spread: Spread
    visible: tuple[float, float]
    needed: tuple[int | None, int | None] | None
    power: tuple[float, float, float] | None
    exaggeration: tuple[float, float] | None


def pooled(tables: Sequence[Sequence[Sequence[float]]]) -> Spread:
    """The spread of a paired difference, of runs (control and arms) × seeds.

    Of each table the residuals after removing the means of rows and columns,
    (rows − 1)(seeds − 1) degrees of freedom; the difference of two runs has twice
    their variance. The interval is that of chi-square: √(df / χ²) times the estimate.
    Raises ValueError without a degree of freedom or without spread.
    """
    squares, df = 0.0, 0
    for table in tables:
        values = np.asarray(table, dtype=np.float64)
        left = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True)
        left += values.mean()
        squares += float((left * left).sum())
        df += (values.shape[0] - 1) * (values.shape[1] - 1)
    if df < 1 or squares == 0.0:
        raise ValueError(f"no spread to plan with: {df} degrees of freedom")
    sd = math.sqrt(2.0 * squares / df)
    tail = (1 - CONFIDENCE) / 2
    upper, lower = (2 * special.gammaincinv(df / 2, q) for q in (1 - tail, tail))
    return Spread(sd, df, sd * math.sqrt(df / upper), sd * math.sqrt(df / lower))


@cache
def plan(
    n: int,
    spread: Spread,
    level: float,
    alpha: float,
    fewest: int,
    smallest: float | None,
) -> Planning:
    """What n seeds allow at `level`, both tests together from `fewest` seeds on.

    alpha: the level of the sign-flip test. smallest: the smallest effect of interest.
    """
    flip = alpha if n >= fewest else None
    ends = (spread.low, spread.high)
    low, high = (stats.visible(n, sd, level, flip) for sd in ends)
    if smallest is None:
        return Planning(spread, (low, high), None, None, None)
    needed = [seeds_needed(sd, smallest, level, alpha, fewest) for sd in ends]
    ratios = [smallest / sd for sd in (spread.high, spread.sd, spread.low)]
    power = [stats.both_power(n, ratio, level, flip) for ratio in ratios]
    factors = [exaggeration(n, ratio, level) for ratio in (ratios[2], ratios[0])]
    return Planning(spread, (low, high), tuple(needed), tuple(power), tuple(factors))


def seeds_needed(
    sd: float, smallest: float, level: float, alpha: float, fewest: int
) -> int | None:
    """The seeds that see a true difference as SUPPORTED with 80 % power; None: too many."""
    found = stats.seeds_needed(sd, smallest, level, alpha)
    return None if found is None else max(found, fewest)


def exaggeration(n: int, ratio: float, level: float) -> float:
    """E[|mean| given p ≤ level] / true difference, of the two-sided paired t-test.

    ratio: true mean difference over the SD of the differences. With μ = ratio √n, the
    mean in standard errors is N(μ, 1) and has to pass c = limit · s, s² ~ χ²/df:
    E[|x|; |x| > c] = μ (Φ(μ−c) − Φ(−μ−c)) + φ(c−μ) + φ(c+μ), averaged over s.
    1.2 at power 0.2 (n = 6, level 0.05/18).
    """
    mu, limit_S = abs(ratio) * math.sqrt(n), stats.limits(level, n - 1)
    above_S, below_S = special.ndtr(mu - limit_S), special.ndtr(-mu - limit_S)
    density_S = np.exp(-((limit_S - mu) ** 2) / 2) + np.exp(-((limit_S + mu) ** 2) / 2)
    size_S = mu * (above_S - below_S) + density_S / math.sqrt(2 * math.pi)
    passed = stats.WEIGHTS @ (above_S + below_S)
    return float(stats.WEIGHTS @ size_S / passed / mu)
