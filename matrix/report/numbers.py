"""The numbers of a verdict as they are written."""

from matrix import units
from matrix.evidence import stats
from matrix.evidence.verdict import Verdict
from matrix.evidence.weigh import Evidence


def difference(evidence: Evidence, value: float | None) -> str:
    """A difference with its sign: five decimals of a loss, four digits of the rest."""
    if value is None or not evidence.terms.metric.evaluated:
        return units.DASH if value is None else f"{value:+.4g}"
    return units.signed(value)


def magnitude(evidence: Evidence, value: float) -> str:
    """The same without a sign."""
    return difference(evidence, value).lstrip("+")


def interval(evidence: Evidence, ends: tuple[float, float]) -> str:
    """[low, high]."""
    return f"[{difference(evidence, ends[0])}, {difference(evidence, ends[1])}]"


def p_value(p: float) -> str:
    """A p value with two digits."""
    return f"{p:.2g}"


def by_seed(evidence: Evidence, verdict: Verdict) -> str:
    """Every seed's difference; an asterisk marks an outlier."""
    return ", ".join(
        f"{seed}: {difference(evidence, d)}{'*' if seed in verdict.outliers else ''}"
        for seed, d in verdict.differences.items()
    )


def correlation(verdict: Verdict) -> str:
    """The measured correlation of the pair with its 95 % interval (Fisher's z)."""
    r, n = verdict.r, len(verdict.differences)
    if r is None:
        return units.DASH
    ends = stats.correlation_interval(r, n)
    if ends is not None:
        return f"{r:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    few = f"n < {stats.FEWEST_CORRELATED}" if n < stats.FEWEST_CORRELATED else "|r| = 1"
    return f"{r:+.2f} (no interval: {few})"
