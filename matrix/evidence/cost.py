"""What a sequential study will cost, and what it will find: by simulation.

Of every seed the control and the arms share a part, so that any two of them correlate
by r; each has the standard deviation SD over seeds. The studies are simulated with
normal noise and judged by the function that judges the runs
(matrix/evidence/sequential.py).
"""

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from matrix.evidence.sequential import CLAIM, Design, replay
from matrix.settings import StudySettings

STUDIES = 2000
"""Simulated for a forecast: a power of 0.8 is known to 0.009."""
CHUNK = 500


@dataclass(frozen=True)
class Screening:
    """How many seeds rank the arms, how many of the best go on, and how many arms go on
    whatever they show (the first ones)."""

    seeds: int
    promote: int
    named: int = 0


@dataclass(frozen=True)
class Simulated:
    """Over simulated studies, means: `runs`, control and screening counted; `power` per
    true arm, nan without any; `false_claims`, the share of studies that claim an arm
    without an effect, or the wrong direction.
    """

    runs: float
    power: float
    false_claims: float


def simulate(
    effects: Sequence[float],
    design: Design,
    screening: Screening | None,
    sd: float,
    r: float,
    studies: int = STUDIES,
    seed: int = 0,
) -> Simulated:
    """Studies of arms with these true effects (arm minus control, lower is better)."""
    rng, parts = np.random.default_rng(seed), []
    for start in range(0, studies, CHUNK):
        count = min(CHUNK, studies - start)
        first = 0 if screening is None else screening.seeds
        y = noise(rng, (count, len(effects) + 1, first + design.looks[-1]), sd, r)
        y[:, 1:] += np.asarray(effects)[None, :, None]
        parts.append(judged(y[:, 1:] - y[:, :1], effects, design, screening))
    runs, claims, false = (np.concatenate(each) for each in zip(*parts))
    true = np.count_nonzero(effects)
    power = claims.mean() / true if true else float("nan")
    return Simulated(float(runs.mean()), float(power), float(false.mean()))


def noise(
    rng: np.random.Generator, shape: tuple[int, ...], sd: float, r: float
) -> np.ndarray:
    """Normal values [studies, control and arms, seeds], any two of a seed correlated by
    r ≥ 0."""
    shared = rng.standard_normal((shape[0], 1, shape[2]))
    return sd * (np.sqrt(r) * shared + np.sqrt(1 - r) * rng.standard_normal(shape))


def judged(
    d_XAN: np.ndarray,
    effects: Sequence[float],
    design: Design,
    screening: Screening | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(runs, true claims, whether anything false was claimed) of each study of
    differences [X, A, N]: the screening's seeds come first.
    """
    truth_XA = np.broadcast_to(np.asarray(effects, float), d_XAN.shape[:2])
    spent = 0
    if screening is not None:
        n, arms = screening.seeds, d_XAN.shape[1]
        mean_XA = d_XAN[..., :n].mean(-1)
        mean_XA[:, : screening.named] = -np.inf
        count = min(screening.promote + screening.named, arms)
        order = np.argsort(mean_XA, -1)[:, :count]
        d_XAN = np.take_along_axis(d_XAN[..., n:], order[..., None], 1)
        truth_XA = np.take_along_axis(truth_XA, order, 1)
        spent = n * (arms + 1)
    found = replay(d_XAN, design)
    claimed = found.state_XA == CLAIM
    right = claimed & (np.sign(found.mean_XA) == np.sign(truth_XA)) & (truth_XA != 0)
    runs = spent + found.n_XA.sum(-1) + found.n_XA.max(-1)
    return runs, right.sum(-1), (claimed & ~right).any(-1)


@dataclass(frozen=True)
class Cost:
    """Runs of a sequential study, the A/A arms counted: at best (every arm stops at the
    first look), typically with no true arm and with one of the smallest effect, at
    worst; and the power for that one.
    """

    best: int
    none_true: float
    one_true: float
    worst: int
    power: float


def cost(settings: StudySettings, arms: int, named: int, aa: int) -> Cost:
    """The cost of the configured study at CONFIG_ASSUMED_SD and CONFIG_ASSUMED_R."""
    looks = settings.sequence
    design = Design(looks.at, settings.alpha, settings.smallest, looks.pursue)
    screening, go_on, first = None, arms, 0
    if settings.screening:
        others = min(settings.promote, arms - named)
        screening = Screening(len(settings.screening), others, named)
        go_on = others + named
        first = screening.seeds * (arms + 1)
    beside = aa * looks.at[0]
    sd, r = settings.assumed_sd, settings.assumed_r
    gain = -(settings.smallest or sd)
    effects = [0.0] * (arms - 1)
    none = simulate([*effects, 0.0], design, screening, sd, r)
    one = simulate([*effects, gain], design, screening, sd, r)
    return Cost(
        first + looks.at[0] * (go_on + 1) + beside,
        none.runs + beside,
        one.runs + beside,
        first + looks.at[-1] * (go_on + 1) + beside,
        one.power,
    )


def lines(
    found: Cost, settings: StudySettings, hours: float | None, unit: str
) -> list[str]:
    """The cost in words; `hours` are those that a run keeps its devices, in `unit`
    (GPU-hours), None where no run has finished."""

    def runs(count: float) -> str:
        price = "" if hours is None else f" ({count * hours:.3g} {unit})"
        return f"{count:.0f}{price}"

    effect = settings.smallest or settings.assumed_sd
    unknown = f"; {unit} are known once a cell has finished" if hours is None else ""
    return [
        f"runs: {runs(found.best)} at best, typically {runs(found.none_true)} without a "
        f"true arm and {runs(found.one_true)} with one, {runs(found.worst)} at worst{unknown}",
        f"a true gain of {effect:g} is found with probability {found.power:.2f}, by "
        f"simulation with SD {settings.assumed_sd:g} and r {settings.assumed_r:g} "
        "(CONFIG_ASSUMED_SD, CONFIG_ASSUMED_R)",
    ]
