"""What a report, a verdict, a promotion, a preregistration, tags and runs.csv are about.

The plan makes the selection (matrix/plan/selection.py); one without a plan takes what
lies in the study's directory.
"""

from dataclasses import dataclass, field
from typing import Mapping

from matrix.results.metrics import Metric, VAL_LOSS

FIXED, SCREEN_CONFIRM, SEQUENTIAL = "fixed", "screen-confirm", "sequential"
"""The designs of a study: judged once; arms ranked first and then confirmed; ranked, if
there are many, and judged at several looks."""
ONE, SCREEN, CONFIRM = "one", "screen", "confirm"
"""The stages of a study: judged at once, or arms ranked first and then confirmed."""
TUNE = "tune"
"""The stage of runs that chose an arm's values (CONFIG_TUNE) and are never judged."""
GAIN, EQUALITY, WORSE = "gain", "equality", "worse"
"""What a sequential study pursues: until when an arm that shows nothing is run."""
FEWEST_SUPPORTED = 6
"""Seeds below which nothing is SUPPORTED."""


def fewest_flips(alpha: float) -> int:
    """The fewest differences whose sign-flip p can be as small as alpha: 2 / 2^n ≤ α."""
    n = 1
    while 2.0 ** (1 - n) > alpha:
        n += 1
    return n


def fewest_supported(alpha: float) -> int:
    """Seeds below which nothing is SUPPORTED at level alpha."""
    return max(FEWEST_SUPPORTED, fewest_flips(alpha))


@dataclass(frozen=True)
class Looks:
    """The looks of a sequential study: how many of the fresh `seeds`, taken in this
    order, an arm has at each, and what is pursued (GAIN, EQUALITY or WORSE).
    """

    at: tuple[int, ...]
    seeds: tuple[int, ...]
    pursue: str = EQUALITY


SMALLEST_LOSS = 0.002
"""The smallest effect of interest on the loss where none is named, nats/token."""


@dataclass(frozen=True)
class Terms:
    """What was settled before the runs: metric, smallest effect, level, stage.

    The metric of a run is the mean of its last `last_evals` evaluations. `smallest` is
    in the metric's unit, None where none was named for it. `screened` are the seeds
    that a screening has used, `tuned` those that chose the arms' values, and `family`
    the steps announced beside those with runs (preregistered ones, promoted ones).
    `looks` are those of a sequential study, None of the other designs.
    """

    metric: Metric = VAL_LOSS
    last_evals: int = 1
    smallest: float | None = SMALLEST_LOSS
    alpha: float = 0.05
    stage: str = ONE
    screened: frozenset[int] = frozenset()
    family: tuple[str, ...] = ()
    looks: Looks | None = None
    tuned: frozenset[int] = frozenset()

    @property
    def planned_seeds(self) -> frozenset[int]:
        """Seeds whose runs may lie there without being judged: of looks that come
        later, and what an arm has beyond the look at which it stopped."""
        return frozenset() if self.looks is None else frozenset(self.looks.seeds)


@dataclass(frozen=True)
class Selection:
    """Which runs of a study are meant, and by what terms they are judged.

    `steps` are those of the plan, the control first, and `seeds` its seeds: cells
    without a run are named. `hashes` are those of its cells (whole or their first 8
    digits): other runs are left out; None leaves none out. `helps` describes the
    steps. `excluded` are the combinations of a test matrix that are no arm, and why.
    `trial` are the one-shot overrides that make these runs others than .config's.
    """

    steps: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    hashes: frozenset[str] | None = None
    helps: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[tuple[str, str], ...] = ()
    terms: Terms = Terms()
    trial: tuple[str, ...] = ()
