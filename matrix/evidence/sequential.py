"""The group-sequential confirmation: looks at n₁ < … < n_K seeds, one error for all.

Shapes: X any batch of studies, A arms, N seeds in their order, K looks. d_XAN is arm
minus control, turned so that negative is better.

w_k = n_k / n_K and p_k the two-sided paired-t p of the first n_k differences; an arm's
Q = min over its looks of p_k / w_k. The law of Q without an effect depends on no
unknown, so P(Q), the share of simulated sequences with q ≤ Q, is a p value that holds
at any look (a repeated p). Holm over all arms of P(Q) decides. docs/evidence.md says
what stops an arm, and what was simulated.
"""

from dataclasses import dataclass
from functools import cache
from typing import Sequence

import numpy as np
from scipy import special

from matrix.evidence import stats
from matrix.results.selection import EQUALITY, GAIN, WORSE

DRAWS = 400_000
"""Sequences of the simulated law: the nominal p values to 1 or 2 %."""
SEED = 20_250_101
"""Of the generator that draws them: the same law at every call."""
CHUNK = 100_000
EQUIVALENCE = 0.05
"""Level of NEUTRAL: both one-sided repeated p values, Holm over the arms."""
BOUND = 0.975
"""Confidence of the one-sided bound by which an arm is given up."""
LIVE, CLAIM, EQUAL, GIVEN_UP, END, LOST, FLAT = range(7)
"""How an arm stands: live; stopped by a claim, as equal, without hope, at the last
look; a run was lost; differences without spread."""


@dataclass(frozen=True)
class Law:
    """The law of q = min_k p_k / w_k without an effect, as `draws` sorted values.

    With one look q is p itself and `q_N` is empty.
    """

    q_N: np.ndarray

    def p(self, q: np.ndarray) -> np.ndarray:
        """P(Q) = (1 + number of q ≤ Q) / (N + 1), never 0; 1 for an infinite Q."""
        q = np.asarray(q, dtype=float)
        if not self.q_N.size:
            return np.minimum(q, 1.0)
        below = np.searchsorted(self.q_N, q, "right")
        return np.where(np.isinf(q), 1.0, (1 + below) / (self.q_N.size + 1))

    def limit(self, level: float) -> float:
        """The smallest q with P(q) > level: p_k ≥ w_k · limit at every look is what
        `level` does not exclude."""
        if not self.q_N.size:
            return level
        rank = int(np.floor(level * (self.q_N.size + 1) - 1 + 1e-9))
        return float(self.q_N[min(max(rank, 0), self.q_N.size - 1)])


@dataclass(frozen=True)
class Laws:
    """The laws of two-sided and of one-sided p values under the same looks."""

    looks: tuple[int, ...]
    two_sided: Law
    one_sided: Law

    def nominal(self, level: float) -> tuple[float, ...]:
        """The p_k at which an arm alone is claimed at look k: w_k · limit."""
        limit = self.two_sided.limit(level)
        return tuple(limit * n / self.looks[-1] for n in self.looks)


@cache
def laws(looks: tuple[int, ...], draws: int = DRAWS, seed: int = SEED) -> Laws:
    """The laws for these looks, simulated with normal numbers. Raises ValueError for
    looks that do not rise from 2 on.
    """
    if not looks or looks[0] < 2 or list(looks) != sorted(set(looks)):
        raise ValueError(f"looks {looks} do not rise from 2 seeds on")
    if len(looks) == 1:
        return Laws(looks, Law(np.empty(0)), Law(np.empty(0)))
    rng, two, one = np.random.default_rng(seed), [], []
    for start in range(0, draws, CHUNK):
        z_XN = rng.standard_normal((min(CHUNK, draws - start), looks[-1]))
        t_XK = np.stack([_t(z_XN, n) for n in looks], -1)
        w_K, df_K = np.array(looks) / looks[-1], np.array(looks) - 1
        two.append((2 * special.stdtr(df_K, -np.abs(t_XK)) / w_K).min(-1))
        one.append((special.stdtr(df_K, t_XK) / w_K).min(-1))
    two_N, one_N = (np.sort(np.concatenate(each)) for each in (two, one))
    return Laws(looks, Law(two_N), Law(one_N))


@dataclass(frozen=True)
class Design:
    """What is settled before the first run: looks (seeds at each), α, the smallest
    effect of interest (None: nothing is NEUTRAL) and what is pursued.
    """

    looks: tuple[int, ...]
    alpha: float = 0.05
    smallest: float | None = 0.002
    pursue: str = EQUALITY

    @property
    def laws(self) -> Laws:
        """The laws of its looks."""
        return laws(self.looks)


@dataclass(frozen=True)
class Replay:
    """Where a study stands after the looks that could be judged.

    Of every arm: `state` (LIVE, CLAIM …), `look` and `n`, the last one it was judged
    at (0 before the first), `q`, `p` = P(Q), `adjusted` by Holm over all arms at the
    last look, `flip` the sign-flip p where one was asked for, else nan,
    `equivalence` the adjusted p of |d| ≥ s, `mean` at n, `claimed` the look at which it
    was claimed, 0 for none: not always the one at which it stopped. `looks` is how many
    looks of a study were judged, `p_KXA` are the P(Q) after each.
    """

    state_XA: np.ndarray
    look_XA: np.ndarray
    n_XA: np.ndarray
    q_XA: np.ndarray
    p_XA: np.ndarray
    adjusted_XA: np.ndarray
    flip_XA: np.ndarray
    equivalence_XA: np.ndarray
    mean_XA: np.ndarray
    claimed_XA: np.ndarray
    looks_X: np.ndarray
    p_KXA: np.ndarray

    @property
    def live_XA(self) -> np.ndarray:
        """The arms that the next look needs."""
        return self.state_XA == LIVE


def replay(
    d_XAN: np.ndarray,
    design: Design,
    ready_XA: np.ndarray | None = None,
    lost_XA: np.ndarray | None = None,
    flat_XA: np.ndarray | None = None,
) -> Replay:
    """Judge look after look, as far as the runs go.

    `ready_XA`: how many differences, from the first seed on, an arm has (all of N by
    default). `lost_XA`: the one behind them is lost for good (else it is still to
    come: then the look is not judged). What lies behind the look at which an arm
    stopped is never read. `flat_XA`: the spread up to which differences count as equal,
    ROUNDING of their size by default.
    """
    d_XAN = np.asarray(d_XAN, dtype=float)
    shape = d_XAN.shape[:-1]
    ready = np.full(shape, d_XAN.shape[-1]) if ready_XA is None else ready_XA
    lost = np.zeros(shape, bool) if lost_XA is None else lost_XA
    now = _Standing(design, shape)
    open_X = np.ones(shape[:-1], bool)
    for k, n in enumerate(design.looks, start=1):
        live = now.state == LIVE
        waiting = (live & (ready < n) & ~lost).any(-1)
        open_X = open_X & ~waiting & live.any(-1)
        if not open_X.any():
            break
        here = live & open_X[..., None]
        now.state[here & (ready < n)] = LOST
        now.q[here & (ready < n)] = np.inf
        here &= ready >= n
        now.judge(k, n, d_XAN, here, flat_XA)
        now.looks[open_X] = k
    return now.replay()


class _Standing:
    """The arms between two looks; arrays of shape [X, A]."""

    def __init__(self, design: Design, shape: tuple[int, ...]) -> None:
        self.design, self.laws = design, design.laws
        self.state = np.full(shape, LIVE)
        self.look, self.n = np.zeros(shape, int), np.zeros(shape, int)
        self.q, self.low, self.high = (np.full(shape, np.inf) for _ in range(3))
        self.flip, self.mean = np.full(shape, np.nan), np.full(shape, np.nan)
        self.looks = np.zeros(shape[:-1], int)
        self.flips_at, self.claimed = np.zeros(shape, int), np.zeros(shape, int)
        self.history: list[np.ndarray] = []

    def judge(
        self,
        k: int,
        n: int,
        d_XAN: np.ndarray,
        here: np.ndarray,
        flat_XA: np.ndarray | None,
    ) -> None:
        """Look k with n seeds, of the arms `here`; changes their state."""
        design, w = self.design, n / self.design.looks[-1]
        d = np.where(here[..., None], d_XAN[..., :n], 0.0)
        size = np.abs(d).max(-1) * stats.ROUNDING if flat_XA is None else flat_XA
        mean, error = d.mean(-1), d.std(-1, ddof=1) / np.sqrt(n)
        self.look[here], self.n[here], self.mean[here] = k, n, mean[here]
        flat = here & (np.ptp(d, -1) <= size)
        self.state[flat], self.q[flat] = FLAT, np.inf
        here = here & ~flat
        error[~here] = 1.0
        p = 2 * special.stdtr(n - 1, -np.abs(mean / error))
        self.q = np.where(here, np.minimum(self.q, p / w), self.q)
        if design.smallest is not None:
            above = special.stdtr(n - 1, -(mean + design.smallest) / error)
            below = special.stdtr(n - 1, (mean - design.smallest) / error)
            self.low = np.where(here, np.minimum(self.low, above / w), self.low)
            self.high = np.where(here, np.minimum(self.high, below / w), self.high)
        self._claim(k, d_XAN)
        here = here & (self.state == LIVE)
        equal = here & (self.equivalence() <= EQUIVALENCE)
        self.state[equal] = EQUAL
        here &= ~equal
        bound = mean - special.stdtrit(n - 1, BOUND) * error
        hopeless = {GAIN: -(design.smallest or 0.0), EQUALITY: 0.0, WORSE: np.inf}
        given_up = here & (bound > hopeless[design.pursue])
        self.state[given_up] = GIVEN_UP
        if k == len(design.looks):
            self.state[here & ~given_up] = END

    def _claim(self, k: int, d_XAN: np.ndarray) -> None:
        """Holm over all arms; a claim needs the sign-flip test as well, at the n where
        the arm stands or stopped.
        """
        alpha = self.design.alpha
        self.history.append(self.p())
        can = np.isin(self.state, (LIVE, EQUAL, GIVEN_UP)) & (self.n > 0)
        wanted = can & (holm_adjusted(self.history[-1]) <= alpha)
        for at in zip(*np.nonzero(wanted)):
            if self.flips_at[at] != self.n[at]:
                self.flip[at] = stats.sign_flip(d_XAN[at][: self.n[at]])
                self.flips_at[at] = self.n[at]
            if self.flip[at] <= alpha:
                self.state[at], self.claimed[at] = CLAIM, k

    def p(self) -> np.ndarray:
        """P(Q) of every arm; 1 of one that cannot be judged."""
        return self.laws.two_sided.p(self.q)

    def equivalence(self) -> np.ndarray:
        """Holm over the arms of the larger one-sided repeated p of d ≤ −s and d ≥ s."""
        if self.design.smallest is None:
            return np.ones(self.state.shape)
        each = self.laws.one_sided.p(np.maximum(self.low, self.high))
        dead = np.isin(self.state, (LOST, FLAT))
        return holm_adjusted(np.where(dead, 1.0, each))

    def replay(self) -> Replay:
        """What became of the arms."""
        p = self.p()
        return Replay(
            self.state,
            self.look,
            self.n,
            self.q,
            p,
            holm_adjusted(p),
            self.flip,
            self.equivalence(),
            self.mean,
            self.claimed,
            self.looks,
            np.stack(self.history) if self.history else p[None],
        )


def holm_adjusted(p_XA: np.ndarray) -> np.ndarray:
    """Holm's adjusted p along the last axis: max over j ≤ i of (m − j) p(j), 1 at most."""
    order = np.argsort(p_XA, -1, kind="stable")
    m = p_XA.shape[-1]
    steps = np.take_along_axis(p_XA, order, -1) * (m - np.arange(m))
    adjusted = np.minimum(1.0, np.maximum.accumulate(steps, -1))
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, adjusted, -1)
    return found


def repeated_interval(
    d: Sequence[float], looks: Sequence[int], last: int, level: float
) -> tuple[float, float]:
    """{θ : P(Q of d − θ) > level} after the looks up to number `last`, d in their order.

    The intersection of the t-intervals of each look at level w_k · limit; low > high
    where the looks leave nothing.
    """
    found = laws(tuple(looks)).two_sided.limit(level)
    ends = [
        stats.interval(d[:n], 1 - min(found * n / looks[-1], 1 - 1e-9))
        for n in looks[:last]
    ]
    return max(low for low, _ in ends), min(high for _, high in ends)


def _t(z_XN: np.ndarray, n: int) -> np.ndarray:
    """Student's t of the first n numbers."""
    first = z_XN[:, :n]
    return first.mean(1) * np.sqrt(n) / first.std(1, ddof=1)
