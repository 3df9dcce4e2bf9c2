"""What a report, a verdict, a promotion, a preregistration, tags and runs.csv are about.

The plan makes the selection (matrix/plan/selection.py); one without a plan takes what
lies in the study's directory.
"""

from dataclasses import dataclass, field
from typing import Mapping

from matrix.results.metrics import Metric, VAL_LOSS

ONE, SCREEN, CONFIRM = "one", "screen", "confirm"
"""The stages of a study: judged at once, or arms ranked first and then confirmed."""


@dataclass(frozen=True)
class Terms:
    """What was settled before the runs: metric, smallest effect, level, stage.

    The metric of a run is the mean of its last `last_evals` evaluations. `smallest` is
    in the metric's unit, None where none was named for it. `screened` are the seeds
    that a screening has used and `family` the steps announced beside those with runs
    (preregistered ones, promoted ones).
    """

    metric: Metric = VAL_LOSS
    last_evals: int = 1
    smallest: float | None = 0.002
    alpha: float = 0.05
    stage: str = ONE
    screened: frozenset[int] = frozenset()
    family: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Which runs of a study are meant, and by what terms they are judged.

    `steps` are those of the plan, the control first, and `seeds` its seeds: cells
    without a run are named. `hashes` are those of its cells (whole or their first 8
    digits): other runs are left out; None leaves none out. `helps` describes the
    steps. `excluded` are the combinations of a test matrix that are no arm, and why.
    """

    steps: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    hashes: frozenset[str] | None = None
    helps: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[tuple[str, str], ...] = ()
    terms: Terms = Terms()
