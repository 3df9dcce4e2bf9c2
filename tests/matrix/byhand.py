"""The rule of docs/evidence.md a second time: textbook loops, scipy's distributions,
every sign pattern one by one. It shares no code with matrix/evidence/stats.py and verdict.py.
"""

import itertools
import math
from fractions import Fraction
from typing import Mapping, Sequence

from scipy.stats import t as student


def moments(d: Sequence[float]) -> tuple[int, float, float]:
    """n, the mean and its standard error s / √n, with s² = Σ(x − mean)² / (n − 1)."""
    n, exact = len(d), [Fraction(x) for x in d]
    middle = sum(exact) / n
    square = sum((x - middle) ** 2 for x in exact) / (n - 1)
    return n, float(middle), math.sqrt(square / n)


def deviation(d: Sequence[float]) -> float:
    """s of n − 1."""
    n, _, error = moments(d)
    return error * math.sqrt(n)


def p_value(d: Sequence[float]) -> float:
    """Two-sided p of mean 0, n − 1 degrees of freedom."""
    n, middle, error = moments(d)
    return 2 * student.sf(abs(middle / error), n - 1)


def interval(d: Sequence[float], confidence: float) -> tuple[float, float]:
    """The t-interval of the mean: (1 − confidence) / 2 left out on either side."""
    n, middle, error = moments(d)
    half = student.ppf((1 + confidence) / 2, n - 1) * error
    return middle - half, middle + half


def flip(d: Sequence[float]) -> float:
    """The share of all sign patterns whose |sum| reaches the observed one; of numbers
    whose sums are exact.
    """
    sums = [
        abs(sum(sign * x for sign, x in zip(signs, d)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    return sum(each >= abs(sum(d)) for each in sums) / len(sums)


def step_down(p: Sequence[float], alpha: float) -> list[tuple[float, float]]:
    """Holm: (adjusted p, the level it was held against), in the order given.

    The smallest of those left is held against α / (how many are left); the first that
    fails ends it, and what is left is held at that level.
    """
    left = list(range(len(p)))
    found: dict[int, tuple[float, float]] = {}
    adjusted, level = 0.0, None
    while left:
        at = min(left, key=lambda k: p[k])
        adjusted = max(adjusted, min(1.0, len(left) * p[at]))
        if level is None and adjusted > alpha:
            level = alpha / len(left)
        found[at] = (adjusted, alpha / len(left) if level is None else level)
        left.remove(at)
    return [found[k] for k in range(len(p))]


def fewest(alpha: float) -> int:
    """Six seeds, or as many as can flip to α."""
    return next(n for n in range(6, 99) if Fraction(2, 2**n) <= Fraction(alpha))


def outside(d: Sequence[float], smallest: float) -> float:
    """p of two one-sided tests: of a mean below −smallest, of one above it."""
    n, middle, error = moments(d)
    low, high = (middle + smallest) / error, (middle - smallest) / error
    return float(max(student.sf(low, n - 1), student.cdf(high, n - 1)))


def two_way(arms: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]):
    """SD of a difference and its degrees of freedom over (arm, control) by seed: the
    residuals of each set of seeds after its runs' and seeds' means.
    """
    tables: dict[tuple[int, ...], list[Mapping[int, float]]] = {}
    for arm, control in arms:
        tables.setdefault(tuple(sorted(arm)), [control]).append(arm)
    squares, df = Fraction(0), 0
    for seeds, rows in tables.items():
        x = [[Fraction(row[k]) for k in seeds] for row in rows]
        runs, n = len(x), len(seeds)
        whole = sum(map(sum, x)) / (runs * n)
        columns = [sum(row[k] for row in x) / runs for k in range(n)]
        for row in x:
            middle = sum(row) / n
            rest = (v - middle - column + whole for v, column in zip(row, columns))
            squares += sum(v * v for v in rest)
        df += (runs - 1) * (n - 1)
    return math.sqrt(2 * squares / df), df


def word(
    d: Sequence[float], adjusted: float, alpha: float, equivalence: float | None
) -> str:
    """What is said of an arm that can be tested."""
    if adjusted <= alpha and len(d) < fewest(alpha):
        return "LIMITED"
    if adjusted <= alpha and flip(d) <= alpha:
        return "SUPPORTED"
    same = equivalence is not None and equivalence <= 0.05
    return "NEUTRAL" if same else "UNRESOLVED"


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, by its definition; of three seeds or more."""
    if len(a) < 3:
        return None
    x = [value - math.fsum(a) / len(a) for value in a]
    y = [value - math.fsum(b) / len(b) for value in b]
    down = math.sqrt(math.fsum(v * v for v in x) * math.fsum(v * v for v in y))
    return math.fsum(v * w for v, w in zip(x, y)) / down if down else None


def outliers(d: Mapping[int, float]) -> tuple[int, ...]:
    """Seeds whose externally studentised residual has p < 0.05 / n:
    t = e √((n − 2) / (SSE (1 − 1/n) − e²)), n − 2 degrees of freedom.
    """
    n, exact = len(d), {seed: Fraction(x) for seed, x in d.items()}
    if n < 3:
        return ()
    middle = sum(exact.values()) / n
    total = sum((x - middle) ** 2 for x in exact.values())
    marked = []
    for seed, x in exact.items():
        square = (x - middle) ** 2
        rest = total * Fraction(n - 1, n) - square  # 0: the others are all equal
        t = math.sqrt(square * (n - 2) / rest) if rest else math.inf * bool(square)
        marked += [seed] if 2 * student.sf(t, n - 2) < 0.05 / n else []
    return tuple(marked)
