"""The verdicts of a sequential study after the looks that its runs allow.

Every report replays the looks from the runs (matrix/evidence/sequential.py): nothing
about them is remembered, so nothing can be forgotten or edited. What an arm has beyond
the look at which it stopped is not read.
"""

from dataclasses import dataclass, replace
from typing import Mapping, Sequence

import numpy as np

from matrix.evidence import sequential, stats
from matrix.evidence.sequential import CLAIM, END, EQUAL, FLAT, GIVEN_UP, LIVE, LOST
from matrix.evidence.verdict import Contrast, INVALID, Look
from matrix.evidence.verdict import NEUTRAL, NON_DIAGNOSTIC, Rule, SUPPORTED
from matrix.evidence.verdict import (
    UNRESOLVED,
    Verdict,
    decide,
    measure,
    obstacle_of,
    verdict_of,
)
from matrix.results.selection import GAIN, Looks

OUTCOMES = {
    CLAIM: SUPPORTED,
    EQUAL: NEUTRAL,
    GIVEN_UP: UNRESOLVED,
    END: UNRESOLVED,
    LIVE: UNRESOLVED,
    LOST: INVALID,
    FLAT: NON_DIAGNOSTIC,
}


@dataclass(frozen=True)
class Progress:
    """Where a sequential study stands.

    `judged` looks of `planned` (seeds at each); `needs` says of every step how many of
    the `seeds`, from the first on, it must have by the next look; nothing is needed of
    an arm beyond the look at which it stopped. `over` when no arm lives.
    """

    planned: tuple[int, ...]
    seeds: tuple[int, ...]
    judged: int
    needs: Mapping[str, int]
    over: bool

    def needed(self, step: str, seed: int) -> bool:
        """Whether a step must have a run of this seed by the next look."""
        return seed in self.seeds[: self.needs.get(step, 0)]


def judge(
    contrasts: Sequence[Contrast],
    control: str,
    rule: Rule,
    looks: Looks,
) -> tuple[tuple[Verdict, ...], Progress]:
    """A verdict per contrast, in their order, and where the study stands.

    The A/A arms run the first look only and are measured apart.
    """
    family = [contrast for contrast in contrasts if not contrast.aa]
    found = _replay(family, rule, looks)
    verdicts = _verdicts(family, found, rule, looks)
    first = looks.seeds[: looks.at[0]]
    for contrast in contrasts:
        if contrast.aa:
            invalid, unfair = contrast.by_look[0] if contrast.by_look else ((), ())
            alone = replace(
                _cut(contrast, first),
                invalid=contrast.invalid + invalid,
                unfair=contrast.unfair + unfair,
            )
            (verdicts[contrast.step],) = decide([alone], rule)
    judged = int(found.looks_X)
    live = found.state_XA == LIVE
    following = looks.at[min(judged, len(looks.at) - 1)]
    needs = {
        contrast.step: following if alive else int(n)
        for contrast, alive, n in zip(family, live, found.n_XA)
    }
    needs |= {contrast.step: looks.at[0] for contrast in contrasts if contrast.aa}
    needs[control] = max(needs.values(), default=looks.at[0])
    progress = Progress(looks.at, looks.seeds, judged, needs, not live.any())
    return tuple(verdicts[contrast.step] for contrast in contrasts), progress


def _replay(family: Sequence[Contrast], rule: Rule, looks: Looks) -> sequential.Replay:
    """The looks over the family; an arm that cannot be judged at all has lost its runs."""
    seeds = looks.seeds
    shape = (len(family), len(seeds))
    d_AN = np.zeros(shape)
    ready_A, flat_A = np.zeros(len(family), int), np.zeros(len(family))
    lost_A = np.zeros(len(family), bool)
    sign = 1.0 if rule.lower_is_better else -1.0
    for number, contrast in enumerate(family):
        if contrast.invalid or contrast.unfair:
            lost_A[number] = True
            continue
        d = contrast.differences
        have = next((k for k, seed in enumerate(seeds) if seed not in d), len(seeds))
        against = next(
            (k for k in range(len(looks.at)) if _against(contrast, k, looks)), None
        )
        lost_A[number] = have < len(seeds) and seeds[have] in contrast.lost
        if against is not None:
            have = min(have, looks.at[against - 1] if against else 0)
            lost_A[number] = True
        ready_A[number] = have
        d_AN[number, :have] = [sign * d[seed] for seed in seeds[:have]]
        values = [*contrast.arm.values(), *contrast.control.values()]
        flat_A[number] = stats.ROUNDING * max(map(abs, values), default=0.0)
    design = sequential.Design(looks.at, rule.alpha, rule.smallest, looks.pursue)
    return sequential.replay(d_AN, design, ready_A, lost_A, flat_A)


def _against(
    contrast: Contrast, k: int, looks: Looks
) -> tuple[str, tuple[str, ...]] | None:
    """What stands against the seeds of look k (from 0) being judged: (outcome, reasons).
    What lies behind them is not looked at.
    """
    invalid, unfair = contrast.by_look[k] if contrast.by_look else ((), ())
    due = looks.seeds[: looks.at[k]]
    d = [value for seed, value in contrast.differences.items() if seed in due]
    if not invalid and not np.isfinite(d).all():
        invalid = ("not a finite number",)
    if invalid:
        return INVALID, invalid
    return (NON_DIAGNOSTIC, unfair) if unfair else None


def _verdicts(
    family: Sequence[Contrast],
    found: sequential.Replay,
    rule: Rule,
    looks: Looks,
) -> dict[str, Verdict]:
    after = [stats.holm(p_A.tolist(), rule.alpha) for p_A in found.p_KXA]
    verdicts = {}
    for number, contrast in enumerate(family):
        state, n = int(found.state_XA[number]), int(found.n_XA[number])
        at = int(found.look_XA[number])
        cut = _cut(contrast, looks.seeds[:n])
        outcome, reasons = OUTCOMES[state], (_words(state, at, rule, looks),)
        measured = None
        if state == LOST:
            outcome, reasons = _loss(contrast, at, looks)
        elif state == FLAT:
            outcome, reasons = obstacle_of(cut) or (outcome, ("without spread",))
        elif at:
            d = [cut.differences[seed] for seed in looks.seeds[:n]]
            p_equal = float(found.equivalence_XA[number])
            equivalence = None if rule.smallest is None else p_equal
            claimed = int(found.claimed_XA[number]) or len(after)
            held = after[claimed - 1][number]
            # p is the plain one of these seeds, adjusted that of Holm over repeated ones
            interval = sequential.repeated_interval(d, looks.at, at, held.level)
            measured = measure(d, held, equivalence, None)
            measured = replace(measured, interval=interval, bca=None)
        p = float(found.p_XA[number])
        look = Look(at, looks.at, p, "" if state == LIVE else reasons[0])
        verdicts[contrast.step] = verdict_of(
            cut, outcome, reasons, measured, rule, look
        )
    return verdicts


def _cut(contrast: Contrast, seeds: Sequence[int]) -> Contrast:
    """The contrast with these seeds alone."""
    return replace(
        contrast,
        arm={seed: x for seed, x in contrast.arm.items() if seed in seeds},
        control={seed: x for seed, x in contrast.control.items() if seed in seeds},
    )


def _words(state: int, at: int, rule: Rule, looks: Looks) -> str:
    """Why an arm stands where it stands."""
    where = f"at look {at} of {len(looks.at)}"
    if state == LIVE:
        return f"goes on: judged {where}" if at else "goes on: no look was judged yet"
    if state == GIVEN_UP and looks.pursue == GAIN:
        return f"no gain of {rule.smallest:g} in sight {where}"
    if state == GIVEN_UP:
        return f"not better {where}"
    if state == END:
        return "undecided at the last look"
    return f"stopped {where}"


def _loss(contrast: Contrast, at: int, looks: Looks) -> tuple[str, tuple[str, ...]]:
    """What kept an arm from being judged at the look after `at`."""
    if contrast.invalid:
        return INVALID, contrast.invalid
    if contrast.unfair:
        return NON_DIAGNOSTIC, contrast.unfair
    following = min(at, len(looks.at) - 1)
    against = _against(contrast, following, looks)
    if against is not None:
        return against
    due = looks.seeds[: looks.at[following]]
    lost = (contrast.lost[seed] for seed in due if seed in contrast.lost)
    return INVALID, tuple(lost)
