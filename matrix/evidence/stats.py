"""Tests, intervals and sample sizes for paired differences; functions of numbers.

d holds one difference (arm minus control) per seed, n of them, in the metric's
unit. Who decides what with these numbers is matrix/evidence/verdict.py.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Sequence

import numpy as np
from scipy import special

POWER = 0.8
"""The power that `visible` and `seeds_needed` ask for."""
MOST_FLIPPED = 40
"""Most differences whose 2^n sign patterns are enumerated (in two halves)."""
FLIPS = 999_999
"""Random sign patterns beside the observed one for more differences than those."""
MOST_JOINT, DRAWS = 12, 4000
"""Most seeds for which the power of both tests together is found, by so many draws:
its standard error at 80 % is 0.6 %. With more seeds the t-test decides alone."""
FEWEST_CORRELATED = 4
"""Pairs below which a correlation has no interval."""
MOST_SEEDS = 10_000
"""Where the search for enough seeds ends."""
FEWEST_BCA = 20
"""Below this the bootstrap's intervals do not cover what they say."""
BCA_SAMPLES = 9999
ROUNDING = 1e-12
"""Differences closer than this, relative to their size, are ties."""
NODES, WEIGHTS = (0.5 * x + y for x, y in zip(special.roots_legendre(400), (0.5, 0.0)))
"""Gauss and Legendre's, for a mean over probabilities between 0 and 1."""


@dataclass(frozen=True)
class Paired:
    """The paired t-test: n differences, their mean, SD (n−1), t and two-sided p."""

    n: int
    mean: float
    sd: float
    t: float
    p: float


def paired_t(d: Sequence[float]) -> Paired:
    """Student's paired t-test of mean 0 with n−1 degrees of freedom, two-sided.

    t = mean(d) / (sd(d) / √n). Raises ValueError below two differences, for one
    that is not finite, and for differences without spread, which no t-test
    can judge.
    """
    values = _finite(d, 2)
    n, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    if sd == 0.0:
        raise ValueError(f"{n} equal differences ({mean:g}) have no spread: no t-test")
    t = mean / (sd / math.sqrt(n))
    return Paired(n, mean, sd, t, _two_sided(t, n - 1))


def interval(d: Sequence[float], level: float) -> tuple[float, float]:
    """The t-interval of the mean with confidence `level`: mean ± t · sd / √n.

    It excludes 0 exactly where `paired_t`'s p is below 1 − level.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"a confidence level of {level:g} is not between 0 and 1")
    found = paired_t(d)
    half = _limit(1 - level, found.n - 1) * found.sd / math.sqrt(found.n)
    return found.mean - half, found.mean + half


def equivalence(d: Sequence[float], smallest: float) -> float:
    """The p of "the true difference is outside ± smallest": two one-sided t-tests.

    The larger of the p of mean ≤ −smallest and the p of mean ≥ smallest, n−1 degrees
    of freedom (Schuirmann 1987). At most 0.05 exactly where the 90 % t-interval lies
    within ± smallest.
    """
    found = paired_t(d)
    error, df = found.sd / math.sqrt(found.n), found.n - 1
    below = special.stdtr(df, -(found.mean + smallest) / error)
    above = special.stdtr(df, (found.mean - smallest) / error)
    return float(max(below, above))


def sign_flip(d: Sequence[float]) -> float:
    """The exact two-sided sign-flip test of symmetry around 0.

    The share of the 2^n sign patterns whose |sum| reaches the observed one,
    itself included; no less than 2 / 2^n. The sums of both halves of d are
    enumerated and joined by sorting. Above MOST_FLIPPED differences: of FLIPS random
    patterns, the same at every call, and the observed one, which keeps the level.
    """
    values = _finite(d, 1)
    if len(values) > MOST_FLIPPED:
        return _sampled_flips(values)
    middle = len(values) // 2
    left, right = _signed_sums(values[:middle]), _signed_sums(values[middle:])
    right.sort()
    reach = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    above = right.size - np.searchsorted(right, reach - left, "left")
    below = np.searchsorted(right, -reach - left, "right")
    both = int(above.sum()) + int(below.sum())
    return min(1.0, both / 2.0 ** len(values))


def _sampled_flips(values: np.ndarray) -> float:
    """(1 + the patterns that reach the observed sum) / (1 + all)."""
    rng, found, left = np.random.default_rng(0), 0, FLIPS
    reach = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    while left:
        count = min(left, 20_000)
        signs = rng.integers(0, 2, (count, len(values)), dtype=np.int8) * 2 - 1
        found += int((np.abs(signs @ values) >= reach).sum())
        left -= count
    return (1 + found) / (1 + FLIPS)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """±v₁ ± v₂ …: all 2^n of them."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@dataclass(frozen=True)
class Holm:
    """One p value in its family: adjusted, and the level that it was held against.

    `level` is α / (m − i) at the p value's rank i (0 is the smallest), or at the
    rank where the procedure stopped if that came earlier; so the t-interval of
    confidence 1 − level excludes 0 exactly where `adjusted` ≤ α.
    """

    adjusted: float
    level: float


def holm(p: Sequence[float], alpha: float) -> list[Holm]:
    """Holm's step-down procedure over the family p, in the order given.

    adjusted(i) = max over j ≤ i of min(1, (m − j) p(j)), sorted by p. Raises
    ValueError for a p outside [0, 1].
    """
    if any(not 0.0 <= each <= 1.0 for each in p):
        raise ValueError(f"p values outside 0 to 1: {list(p)}")
    m = len(p)
    order = sorted(range(m), key=lambda index: p[index])
    found: dict[int, Holm] = {}
    largest, stopped = 0.0, None
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (m - rank) * p[index]))
        if stopped is None and largest > alpha:
            stopped = rank
        held = rank if stopped is None else stopped
        found[index] = Holm(largest, alpha / (m - held))
    return [found[index] for index in range(m)]


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's r of two arms over their seeds; None below 3 seeds or without spread.

    What pairing gains: Var(a − b) = Var(a) + Var(b) − 2 r SD(a) SD(b).
    """
    first, second = _finite(a, 0), _finite(b, 0)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are not pairs")
    if len(first) < 3 or tied(first) or tied(second):
        return None
    return float(np.corrcoef(first, second)[0, 1])


def correlation_interval(r: float, n: int) -> tuple[float, float] | None:
    """The 95 % interval of a correlation of n pairs: tanh(artanh r ± 1.96 / √(n − 3))
    (Fisher 1921). None below FEWEST_CORRELATED pairs and for |r| = 1.
    """
    if n < FEWEST_CORRELATED or abs(r) >= 1.0:
        return None
    half = float(special.ndtri(0.975)) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def power(n: int, ratio: float, alpha: float) -> float:
    """Power of the two-sided paired t-test to claim the true direction.

    The upper tail of the noncentral t with n−1 degrees of freedom and shift
    √n · ratio beyond the limit of level alpha, as the mean of Φ(shift − limit · s)
    over s² ~ χ²/df (scipy's own tail is nan where it is small). ratio: true mean
    difference over the SD of the differences; n seeds.
    """
    shift = abs(ratio) * math.sqrt(n)
    return float(WEIGHTS @ special.ndtr(shift - limits(alpha, n - 1)))


def limits(alpha: float, df: int) -> np.ndarray:
    """The limit of the t-test times s, s² ~ χ²/df at NODES: what a mean in units of its
    true standard error has to pass.
    """
    return _limit(alpha, df) * np.sqrt(special.gammaincinv(df / 2, NODES) * 2 / df)


def both_power(n: int, ratio: float, alpha: float, flip: float | None) -> float:
    """Power to pass the t-test at level alpha and the sign-flip test at level `flip`.

    Up to MOST_JOINT seeds the share of DRAWS fixed draws of n normal differences; six
    seeds that pass the t-test at 80 % pass both at 61 % (α = 0.05). flip None: of the
    t-test alone.
    """
    if flip is None or n > MOST_JOINT:
        return power(n, ratio, alpha)
    noise_DN, signs_NP = _draws(n)
    d_DN = noise_DN + abs(ratio)
    sum_D, spread_D = d_DN.sum(1), d_DN.std(1, ddof=1)
    passed_D = sum_D > _limit(alpha, n - 1) * spread_D * math.sqrt(n)
    reach_D1 = np.abs(sum_D)[:, None] * (1 - ROUNDING)
    p_D = (np.abs(d_DN @ signs_NP) >= reach_D1).mean(1)
    return float((passed_D & (p_D <= flip)).mean())


@cache
def _draws(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal numbers [DRAWS, n], and the sign patterns that begin with +."""
    noise_DN = np.random.default_rng(n).standard_normal((DRAWS, n))
    patterns = (np.arange(2 ** (n - 1)) >> np.arange(n)[:, None]) & 1
    return noise_DN, 1.0 - 2.0 * patterns[::-1]


def visible(n: int, sd: float, alpha: float, flip: float | None = None) -> float:
    """The true difference that n seeds detect with 80 % power, in the unit of sd; by
    both tests where there is a level `flip`, of at least `fewest_flips` seeds.
    """
    return sd * _visible(n, alpha, flip)


@cache
def _visible(n: int, alpha: float, flip: float | None) -> float:
    low, high = 0.0, 1.0
    while both_power(n, high, alpha, flip) < POWER:
        high *= 2.0
    for _ in range(60 if flip is None or n > MOST_JOINT else 16):
        middle = (low + high) / 2
        enough = both_power(n, middle, alpha, flip) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def seeds_needed(
    sd: float, difference: float, alpha: float, flip: float | None = None
) -> int | None:
    """The fewest seeds that detect a true difference with 80 % power; by both tests
    where there is a level `flip`.

    sd: of the paired differences. None when MOST_SEEDS are not enough.
    """
    ratio = difference / sd
    low, high = 1, 2
    while both_power(high, ratio, alpha, flip) < POWER:
        if high > MOST_SEEDS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = both_power(middle, ratio, alpha, flip) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def outliers(d: Sequence[float], alpha: float = 0.05) -> tuple[int, ...]:
    """Positions of differences that do not fit the others.

    Each is held against the mean and SD of the rest (the deleted residual,
    n−2 degrees of freedom), at level α / n: normal noise marks something in at
    most α of the arms. Nothing below 3 differences.
    """
    values = _finite(d, 0)
    n, found = len(values), []
    if n < 3:
        return ()
    for index, value in enumerate(values):
        rest = np.delete(values, index)
        gap = abs(value - rest.mean())
        if tied(rest):
            far = gap > ROUNDING * np.abs(values).max()
        else:
            scale = rest.std(ddof=1) * math.sqrt(1 + 1 / (n - 1))
            far = _two_sided(gap / scale, n - 2) < alpha / n
        found += [index] if far else []
    return tuple(found)


def bca(d: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The BCa bootstrap interval of the mean; None below FEWEST_BCA differences.

    Description only, it decides nothing: at n = 3 its "95 %" covers 72 %.
    """
    values = _finite(d, 0)
    if len(values) < FEWEST_BCA or tied(values):
        return None
    from scipy import stats  # over a second, for 20 seeds or more only

    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=BCA_SAMPLES,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def tied(values: Sequence[float], scale: float | None = None) -> bool:
    """Whether all values are the same but for rounding of numbers of size `scale`."""
    found = np.asarray(values, dtype=float)
    size = float(np.abs(found).max(initial=0.0)) if scale is None else scale
    return bool(found.size == 0 or np.ptp(found) <= ROUNDING * size)


def _two_sided(t: float, df: int) -> float:
    """P(|T| ≥ |t|) of Student's t."""
    return float(2 * special.stdtr(df, -abs(t)))


def _limit(alpha: float, df: int) -> float:
    """The |t| that is exceeded with probability alpha."""
    return float(-special.stdtrit(df, alpha / 2))


def _finite(values: Sequence[float], fewest: int) -> np.ndarray:
    """The values as float64. Raises ValueError for too few, or one not finite."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < fewest:
        raise ValueError(f"{len(found)} values, at least {fewest} needed")
    if not np.isfinite(found).all():
        raise ValueError(f"values that are not finite: {found.tolist()}")
    return found
