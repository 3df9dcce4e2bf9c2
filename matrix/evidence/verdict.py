"""The rule: what the runs of an arm allow to be said about it.

Arms are paired with the control by seed. The family is every contrast that was
announced; one that is invalid, missing or cannot be compared stays in it with
p = 1, so that losing an arm never makes the others look better. RULE says which
verdict is given when.

Where α is below 1/32, six seeds cannot flip to it: `Rule.fewest` is the number that
can, and takes the place of 6. docs/evidence.md says why. The control again with other initial values (A/A) is
no claim: it is measured, gets no verdict and is not in the family.
"""

import math
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from matrix.evidence import planning, stats
from matrix.evidence.planning import Planning, Spread
from matrix.results.selection import FEWEST_SUPPORTED, fewest_supported

SUPPORTED, LIMITED, NEUTRAL = "SUPPORTED", "LIMITED", "NEUTRAL"
UNRESOLVED, NON_DIAGNOSTIC, INVALID = "UNRESOLVED", "NON_DIAGNOSTIC", "INVALID"
AA = "A/A"
FEWEST = 3
"""Seeds below which nothing is said."""
EQUIVALENCE = 0.90
"""Confidence of the printed interval that speaks of ± the smallest effect."""
NEUTRAL_LEVEL = 0.05
"""The chance that any arm of the family is NEUTRAL and is not within ± the smallest."""
RULE = (
    f"SUPPORTED: at least {FEWEST_SUPPORTED} seeds, Holm-adjusted p of the paired t-test "
    "and exact sign-flip p at most the level. LIMITED: "
    f"{FEWEST} to {FEWEST_SUPPORTED - 1} seeds, Holm p. NEUTRAL: within the smallest "
    f"effect of interest by two one-sided t-tests at {NEUTRAL_LEVEL:g}, Holm-adjusted. "
    "UNRESOLVED: these runs cannot tell. NON_DIAGNOSTIC: the arms cannot be compared. "
    "INVALID: a run failed, diverged or is missing. Intervals have the level at which "
    "Holm's procedure held the arm. docs/evidence.md says why."
)
"""The rule as reports print it."""


@dataclass(frozen=True)
class Rule:
    """What was settled in advance.

    `smallest` is the smallest effect of interest in the metric's unit, None
    where none was named (then nothing is NEUTRAL). `lower_is_better` is the
    metric's direction.
    """

    alpha: float = 0.05
    smallest: float | None = 0.002
    lower_is_better: bool = True

    @property
    def fewest(self) -> int:
        """Seeds below which nothing is SUPPORTED."""
        return fewest_supported(self.alpha)


@dataclass(frozen=True)
class Contrast:
    """An arm against its control, before it is judged.

    `arm` and `control` are the metric by seed. `invalid` says which runs failed
    or are missing, `unfair` why the two cannot be compared; `aa` marks the
    control with other initial values. `lost` are the seeds of a sequential study whose
    run, or whose control's, will never be there, and why; `by_look` what is invalid and
    what is unfair about the seeds of each look. `unchecked` is what could not
    be looked at, which a claim must say.
    """

    step: str
    arm: Mapping[int, float]
    control: Mapping[int, float]
    invalid: tuple[str, ...] = ()
    unfair: tuple[str, ...] = ()
    aa: bool = False
    lost: Mapping[int, str] = field(default_factory=dict)
    by_look: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that both have."""
        return tuple(sorted(self.arm.keys() & self.control.keys()))

    @property
    def differences(self) -> dict[int, float]:
        """Arm minus control by seed."""
        return {seed: self.arm[seed] - self.control[seed] for seed in self.seeds}


@dataclass(frozen=True)
class Measured:
    """The numbers of a contrast that could be tested; intervals as (low, high).

    `interval` has confidence 1 − `level`, the level at which Holm held this arm;
    `narrow` is the 90 % interval. `equivalence` is the Holm-adjusted p of a true
    difference outside ± the smallest effect of interest (None: none was named, or an
    A/A arm). `planning` is what the seeds could have seen (None of an A/A arm).
    """

    difference: float
    sd: float
    t: float
    p: float
    adjusted: float
    level: float
    flip: float
    interval: tuple[float, float]
    narrow: tuple[float, float]
    equivalence: float | None
    planning: Planning | None
    bca: tuple[float, float] | None


@dataclass(frozen=True)
class Look:
    """The look of a sequential study at which an arm stands or stopped.

    `number` of the looks `planned` (seeds at each), 0 before the first; `p` is the
    repeated p. `stopped` says what ended its runs, "" while it goes on.
    """

    number: int
    planned: tuple[int, ...]
    p: float
    stopped: str

    @property
    def early(self) -> bool:
        """Whether it stopped before the last look."""
        return bool(self.stopped) and 0 < self.number < len(self.planned)


@dataclass(frozen=True)
class Verdict:
    """What is said about an arm, and what it stands on.

    `direction` is "better" or "worse" for SUPPORTED and LIMITED, else "".
    `measured` is None where nothing could be tested; `differences` are there all
    the same. `outliers` are seeds, marked and never dropped. `look` is there in a
    sequential study. `unchecked` is what a claim stands on and nobody could look at.
    """

    step: str
    outcome: str
    direction: str
    reasons: tuple[str, ...]
    differences: Mapping[int, float]
    r: float | None
    outliers: tuple[int, ...]
    measured: Measured | None
    look: Look | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """SUPPORTED better, UNRESOLVED …; a claim with what was not checked."""
        words = f"{self.outcome} {self.direction}".rstrip()
        if self.unchecked and self.outcome in (SUPPORTED, LIMITED, NEUTRAL):
            return f"{words} ({'; '.join(self.unchecked)})"
        return words


def decide(contrasts: Sequence[Contrast], rule: Rule) -> tuple[Verdict, ...]:
    """A verdict per contrast, in their order; the family is all but the A/A arms."""
    obstacles = [obstacle_of(contrast) for contrast in contrasts]
    values = [list(contrast.differences.values()) for contrast in contrasts]
    p = [1.0 if found else stats.paired_t(d).p for found, d in zip(obstacles, values)]
    family = [k for k, contrast in enumerate(contrasts) if not contrast.aa]
    levels = dict(zip(family, stats.holm([p[k] for k in family], rule.alpha)))
    outside = _equivalence([None if obstacles[k] else values[k] for k in family], rule)
    equivalent = dict(zip(family, outside))
    spread = _spread([contrasts[k] for k in family if obstacles[k] is None])
    verdicts = []
    for number, (contrast, obstacle) in enumerate(zip(contrasts, obstacles)):
        measured = None
        if obstacle is None:
            alone = stats.Holm(p[number], rule.alpha)  # an A/A arm, outside the family
            holm, d = levels.get(number, alone), values[number]
            able = None if contrast.aa else _planning(len(d), spread, holm, rule)
            measured = measure(d, holm, equivalent.get(number), able)
        verdicts.append(_judge(contrast, obstacle, measured, rule))
    return tuple(verdicts)


def _equivalence(
    family: Sequence[Sequence[float] | None], rule: Rule
) -> list[float | None]:
    """Holm-adjusted equivalence p of a family's differences; None among them has p = 1."""
    if rule.smallest is None:
        return [None] * len(family)
    p = [1.0 if d is None else stats.equivalence(d, rule.smallest) for d in family]
    return [holm.adjusted for holm in stats.holm(p, NEUTRAL_LEVEL)]


def obstacle_of(contrast: Contrast) -> tuple[str, tuple[str, ...]] | None:
    """Why a contrast cannot be tested: (outcome, reasons); None when it can."""
    both = {**contrast.control, **contrast.arm}
    unpaired = sorted(set(both) - set(contrast.seeds))
    wild = [k for k, d in contrast.differences.items() if not math.isfinite(d)]
    invalid = list(contrast.invalid)
    if unpaired and not invalid:
        invalid.append(f"without a pair: {_seeds(unpaired)}")
    if wild:
        invalid.append(f"not a finite number in {_seeds(wild)}")
    if not both and not invalid:
        invalid.append("no run has the metric")
    if invalid:
        return INVALID, tuple(invalid)
    if contrast.unfair:
        return NON_DIAGNOSTIC, contrast.unfair
    n = len(contrast.seeds)
    if n < FEWEST:
        return NON_DIAGNOSTIC, (f"n = {n}: fewer than {FEWEST} seeds say nothing",)
    return _without_spread(contrast)


def _without_spread(contrast: Contrast) -> tuple[str, tuple[str, ...]] | None:
    """Equal differences leave nothing to test with; equal arms, nothing to test."""
    d = list(contrast.differences.values())
    if not any(d):
        return NON_DIAGNOSTIC, (
            f"bit-identical to the control in all {len(d)} seeds: nothing that "
            "training saw differs (the same initialisation salt, or a mechanism "
            "that never ran)",
        )
    sizes = [
        abs(value) for value in (*contrast.arm.values(), *contrast.control.values())
    ]
    if stats.tied(d, scale=max(sizes)):
        return NON_DIAGNOSTIC, (
            f"all {len(d)} differences are {d[0]:+g}: without spread over the seeds "
            "there is no noise to hold them against",
        )
    return None


def _spread(contrasts: Sequence[Contrast]) -> Spread | None:
    """The spread of a difference over all arms; arms on the same seeds share a table."""
    tables: dict[tuple[tuple[int, float], ...], list[list[float]]] = {}
    for contrast in contrasts:
        control = {seed: contrast.control[seed] for seed in contrast.seeds}
        rows = tables.setdefault(tuple(control.items()), [list(control.values())])
        rows.append([contrast.arm[seed] for seed in contrast.seeds])
    return planning.pooled(list(tables.values())) if tables else None


def _planning(n: int, spread: Spread, holm: stats.Holm, rule: Rule) -> Planning:
    return planning.plan(n, spread, holm.level, rule.alpha, rule.fewest, rule.smallest)


def measure(
    d: Sequence[float],
    holm: stats.Holm,
    equivalence: float | None,
    able: Planning | None,
) -> Measured:
    """The numbers of differences that can be tested, at the level that Holm held."""
    test = stats.paired_t(d)
    return Measured(
        difference=test.mean,
        sd=test.sd,
        t=test.t,
        p=test.p,
        adjusted=holm.adjusted,
        level=holm.level,
        flip=stats.sign_flip(d),
        interval=stats.interval(d, 1 - holm.level),
        narrow=stats.interval(d, EQUIVALENCE),
        equivalence=equivalence,
        planning=able,
        bca=stats.bca(d),
    )


def _judge(
    contrast: Contrast,
    obstacle: tuple[str, tuple[str, ...]] | None,
    measured: Measured | None,
    rule: Rule,
) -> Verdict:
    outcome, reasons = AA, ()
    if obstacle is not None:
        outcome, reasons = obstacle
    elif not contrast.aa:
        outcome = _outcome(measured, len(contrast.seeds), rule)
    return verdict_of(contrast, outcome, reasons, measured, rule)


def verdict_of(
    contrast: Contrast,
    outcome: str,
    reasons: tuple[str, ...],
    measured: Measured | None,
    rule: Rule,
    look: Look | None = None,
) -> Verdict:
    """A verdict with what describes its differences: r, outliers, the direction."""
    direction = ""
    if outcome in (SUPPORTED, LIMITED):
        lower = measured.difference < 0
        direction = "better" if lower == rule.lower_is_better else "worse"
    finite = all(map(math.isfinite, contrast.differences.values()))
    d = list(contrast.differences.values()) if finite else []
    pairs = contrast.seeds if finite else ()
    return Verdict(
        step=contrast.step,
        outcome=outcome,
        direction=direction,
        reasons=reasons,
        differences=contrast.differences,
        r=stats.correlation(
            [contrast.arm[k] for k in pairs], [contrast.control[k] for k in pairs]
        ),
        outliers=tuple(pairs[at] for at in stats.outliers(d)),
        measured=measured,
        look=look,
        unchecked=contrast.unchecked,
    )


def _outcome(measured: Measured, n: int, rule: Rule) -> str:
    if measured.adjusted <= rule.alpha:
        if n < rule.fewest:
            return LIMITED
        if measured.flip <= rule.alpha:
            return SUPPORTED
    outside = measured.equivalence
    return NEUTRAL if outside is not None and outside <= NEUTRAL_LEVEL else UNRESOLVED


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
