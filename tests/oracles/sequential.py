"""The group-sequential rule, one arm, one look and one number at a time.

Written from the rule's text alone; shares no code with matrix/. Slow on purpose.
`boundary` simulates the law that `decide` reads; `decide` replays a confirmation.

Where the text leaves a choice open, this is what is done here:

 1. Both laws come from the same sequences: rng.standard_normal((draws, n_K)), row by
    row. The one-sided p of a sequence is P(T ≤ t); by symmetry its law is that of both
    tests of 4.
 2. Both one-sided repeated p's of an arm use one law. Its equivalence p is the larger
    of the two (each with its own running minimum), held against 0.05 whatever α is.
 3. Within a look: losses and zero spreads first; then all Q; then one Holm over all m
    decides 3 for live and stopped arms together; then 4, then 5, for what still lives.
 4. A claim needs Holm p ≤ α, whose Q may come from an earlier look, and the flip p of
    this look. Its direction is the sign of the mean of the same n_k differences.
 5. A stopped arm keeps both its equivalence Q's too and stays in that family, as do
    arms that were claimed. Stopped by 5 it never becomes NEUTRAL, only SUPPORTED.
 6. An arm with a lost run is INVALID at the first look that needs the run, whatever
    its Q was before; both its p's are 1 from then on. A loss behind the look where an
    arm stopped does not touch it. A claim stands when a later loss elsewhere raises
    Holm's p.
 7. Zero spread is a range of at most 1e-12 of the largest |d|; then the arm stops as
    NON_DIAGNOSTIC, both p's 1. It can only be met at the first look.
 8. 5 is also checked at n_K: the reason is then "futility", the outcome UNRESOLVED as
    for "end".
 9. The 97.5 % bound of 5 is the plain t bound at n_k, whatever α is.
10. `look`, `n` and `reason` are where and why an arm stopped, `claimed` the look at
    which it became SUPPORTED; Holm's p and level are those of the last look judged.
11. The interval of a stopped arm reads the looks up to its own. It is an intersection
    of t-intervals and may be empty: None.
12. An arm costs n of the look where it stopped, an INVALID one too; the control costs
    the largest n of any arm. The screening is not counted.
13. Looks below fewest flips: `looks_for` raises them to it and drops repetitions.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

EQUIVALENCE = 0.05
BOUND = 0.975
TIE = 1e-12


@dataclass(frozen=True)
class Laws:
    """Sorted values of q = min_k p_k / w_k under no difference, one per sequence."""

    looks: tuple[int, ...]
    two_sided: Sequence[float]
    one_sided: Sequence[float]


@dataclass
class Arm:
    """What is known of one arm; m, n and the rest as the rule names them.

    `d` is turned so that negative is better. p's are 1 while nothing was judged.
    """

    d: list[float | None]
    outcome: str | None = None
    reason: str | None = None
    direction: str | None = None
    look: int = 0
    n: int = 0
    claimed: int | None = None
    Q: float = math.inf
    Q_above: float = math.inf
    Q_below: float = math.inf
    p: float = 1.0
    holm: float = 1.0
    level: float = math.nan
    flip: float = 1.0
    equivalence: float = 1.0
    equivalence_holm: float = 1.0
    interval: tuple[float, float] | None = None
    looks: list[int] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        return self.outcome not in ("INVALID", "NON_DIAGNOSTIC")


@dataclass(frozen=True)
class Decision:
    """All arms by name, looks that were judged, and the runs that were needed."""

    arms: dict[str, Arm]
    looks_used: int
    runs: int


def tail(t: float, df: int) -> float:
    """P(T ≥ t) of Student's t."""
    return float(special.stdtr(df, -t))


def quantile(probability: float, df: int) -> float:
    return float(special.stdtrit(df, probability))


def mean_of(d: Sequence[float]) -> float:
    return math.fsum(d) / len(d)


def standard_error(d: Sequence[float]) -> float:
    """√(Σ(d − mean)² / (n − 1) / n)."""
    mean, n = mean_of(d), len(d)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in d) / (n - 1) / n)


def two_sided(d: Sequence[float], theta: float = 0.0) -> float:
    """p of the paired t-test of mean θ."""
    t = (mean_of(d) - theta) / standard_error(d)
    return 2 * tail(abs(t), len(d) - 1)


def above(d: Sequence[float], theta: float) -> float:
    """One-sided p of "the mean is at most θ"."""
    return tail((mean_of(d) - theta) / standard_error(d), len(d) - 1)


def below(d: Sequence[float], theta: float) -> float:
    """One-sided p of "the mean is at least θ"."""
    return tail((theta - mean_of(d)) / standard_error(d), len(d) - 1)


def spreadless(d: Sequence[float]) -> bool:
    return max(d) - min(d) <= TIE * max(abs(x) for x in d)


def sign_flip(d: Sequence[float]) -> float:
    """Share of the 2^n sign patterns with |sum| ≥ |Σd|; equal but for rounding counts."""
    sums = [0.0]
    for x in d:
        sums = [s + x for s in sums] + [s - x for s in sums]
    reach = abs(math.fsum(d)) - TIE * math.fsum(abs(x) for x in d)
    return sum(1 for s in sums if abs(s) >= reach) / len(sums)


def holm(p: Sequence[float], alpha: float) -> list[tuple[float, float]]:
    """(adjusted p, level that it was held against) for each, in the order given.

    The i-th smallest (i = 0 …) is held against α / (m − i); once one exceeds its level,
    that level is the one of all that follow.
    """
    m = len(p)
    order = sorted(range(m), key=lambda i: p[i])
    result: list[tuple[float, float]] = [(1.0, alpha)] * m
    adjusted, refused = 0.0, None
    for rank, i in enumerate(order):
        adjusted = max(adjusted, min(1.0, (m - rank) * p[i]))
        if adjusted > alpha and refused is None:
            refused = rank
        held = rank if refused is None else refused
        result[i] = (adjusted, alpha / (m - held))
    return result


def fewest_flips(alpha: float) -> int:
    """The fewest n with 2 / 2^n ≤ α."""
    n = 1
    while 2 / 2**n > alpha:
        n += 1
    return n


def looks_for(looks: Sequence[int], alpha: float) -> tuple[int, ...]:
    """Looks below the fewest differences that can flip to α are raised to it."""
    return tuple(sorted({max(n, fewest_flips(alpha)) for n in looks}))


def boundary(looks: Sequence[int], draws: int, seed: int) -> Laws:
    """The laws of q from `draws` sequences of n_K standard normal numbers."""
    rng = np.random.default_rng(seed)
    last = looks[-1]
    two = [math.inf] * draws
    one = [math.inf] * draws
    for first in range(0, draws, 50_000):
        block = rng.standard_normal((min(50_000, draws - first), last))
        for n in looks:
            x = block[:, :n]
            t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / math.sqrt(n))
            p_one = special.stdtr(n - 1, t) * last / n
            p_two = 2 * special.stdtr(n - 1, -np.abs(t)) * last / n
            for i in range(len(block)):
                one[first + i] = min(one[first + i], p_one[i])
                two[first + i] = min(two[first + i], p_two[i])
    return Laws(tuple(looks), sorted(map(float, two)), sorted(map(float, one)))


def repeated_p(q: float, law: Sequence[float], looks: Sequence[int]) -> float:
    """(1 + number of q_i ≤ q) / (N + 1); for one look q itself."""
    if len(looks) == 1:
        return q
    return (1 + bisect.bisect_right(law, q)) / (len(law) + 1)


def decide(
    d: Mapping[str, Sequence[float | None]],
    looks: Sequence[int],
    alpha: float,
    smallest: float,
    pursue: str,
    laws: Laws,
    lower_is_better: bool = True,
    until: int | None = None,
    intervals: bool = True,
) -> Decision:
    """Replay the looks 1 … `until` (all) and say what becomes of every arm.

    d: arm − control for the n_K fresh seeds in their order, None from a lost run on.
    Arms that still live after `until` < K looks have the reason "live". Without
    `intervals`, which take most of the time, none is computed.
    """
    assert tuple(looks) == laws.looks and pursue in ("gain", "equality", "worse")
    sign = 1.0 if lower_is_better else -1.0
    arms = {
        name: Arm([None if x is None else sign * x for x in row])
        for name, row in d.items()
    }
    used = 0
    for k, n in enumerate(looks, start=1):
        if until is not None and k > until:
            break
        live = [arm for arm in arms.values() if arm.reason is None]
        if not live:
            break
        used = k
        for arm in live:
            arm.look, arm.n = k, n
            _measure(arm, n, n / looks[-1], smallest, laws)
        _claim(arms, k, alpha)
        _neutral(arms)
        for arm in arms.values():
            if arm.reason is None and _hopeless(arm.d[:n], smallest, pursue):
                arm.outcome, arm.reason = "UNRESOLVED", "futility"
    for arm in arms.values():
        if arm.reason is None:
            arm.outcome = "UNRESOLVED"
            arm.reason = "end" if used == len(looks) else "live"
        if arm.judged and used and intervals:
            arm.interval = _interval(arm, laws)
            if arm.interval is not None and not lower_is_better:
                arm.interval = (-arm.interval[1], -arm.interval[0])
    n_of_each = [arm.n for arm in arms.values()]
    return Decision(arms, used, sum(n_of_each) + max(n_of_each))


def _measure(arm: Arm, n: int, w: float, smallest: float, laws: Laws) -> None:
    """Step 2 and the Q of steps 3 and 4, for one arm at one look."""
    seen = arm.d[:n]
    if len(seen) < n or any(x is None for x in seen):
        arm.outcome, arm.reason = "INVALID", "lost"
    elif spreadless(seen):
        arm.outcome, arm.reason = "NON_DIAGNOSTIC", "no spread"
    if not arm.judged:
        arm.p = arm.equivalence = arm.flip = 1.0
        return
    arm.looks.append(n)
    arm.Q = min(arm.Q, two_sided(seen) / w)
    arm.Q_above = min(arm.Q_above, above(seen, -smallest) / w)
    arm.Q_below = min(arm.Q_below, below(seen, smallest) / w)
    arm.p = repeated_p(arm.Q, laws.two_sided, laws.looks)
    arm.equivalence = max(
        repeated_p(arm.Q_above, laws.one_sided, laws.looks),
        repeated_p(arm.Q_below, laws.one_sided, laws.looks),
    )
    arm.flip = sign_flip(seen)


def _claim(arms: Mapping[str, Arm], k: int, alpha: float) -> None:
    """Step 3: Holm over all m; live arms and those stopped by 4 or 5 may be claimed."""
    family = list(arms.values())
    for arm, (adjusted, level) in zip(family, holm([a.p for a in family], alpha)):
        arm.holm, arm.level = adjusted, level
        if not arm.judged or arm.outcome == "SUPPORTED":
            continue
        if adjusted <= alpha and arm.flip <= alpha:
            arm.outcome, arm.claimed = "SUPPORTED", k
            arm.direction = "better" if mean_of(arm.d[: arm.n]) < 0 else "worse"
            if arm.reason is None:
                arm.reason = "claim"


def _neutral(arms: Mapping[str, Arm]) -> None:
    """Step 4: Holm over all m of the equivalence p's; live arms may stop."""
    family = list(arms.values())
    adjusted = holm([arm.equivalence for arm in family], EQUIVALENCE)
    for arm, (p, _) in zip(family, adjusted):
        arm.equivalence_holm = p
        if arm.reason is None and p <= EQUIVALENCE:
            arm.outcome, arm.reason = "NEUTRAL", "neutral"


def _hopeless(d: Sequence[float], smallest: float, pursue: str) -> bool:
    """Step 5: the lower one-sided 97.5 % t bound of d is above −s, or above 0."""
    if pursue == "worse":
        return False
    bound = mean_of(d) - quantile(BOUND, len(d) - 1) * standard_error(d)
    return bound > (-smallest if pursue == "gain" else 0.0)


def _interval(arm: Arm, laws: Laws) -> tuple[float, float] | None:
    """{θ : P(Q(d − θ)) > level} over the looks that judged the arm, by bisection."""

    def kept(theta: float) -> bool:
        ratios = [two_sided(arm.d[:n], theta) * laws.looks[-1] / n for n in arm.looks]
        return repeated_p(min(ratios), laws.two_sided, laws.looks) > arm.level

    def support(theta: float) -> float:
        """min over looks of p / w: rises to one top, then falls."""
        return min(two_sided(arm.d[:n], theta) / n for n in arm.looks)

    centres = [mean_of(arm.d[:n]) for n in arm.looks]
    low, high = min(centres), max(centres)
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if support(left) < support(right) else (low, right)
    top = (low + high) / 2
    if not kept(top):
        return None
    width = max(standard_error(arm.d[:n]) for n in arm.looks)
    return _edge(kept, top, -width), _edge(kept, top, width)


def _edge(kept, inside: float, step: float) -> float:
    """Where `kept` turns false, going from `inside` in the direction of step."""
    if not any(not kept(inside + step * 2.0**i) for i in range(60)):
        return math.copysign(math.inf, step)
    while kept(inside + step):
        step *= 2
    low, high = inside, inside + step
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return (low + high) / 2
