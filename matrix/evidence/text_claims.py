"""Whether a claim holds for other text than what was evaluated.

A verdict's test takes its error from the seeds alone: it speaks of the text that was
read. A claim goes beyond it where the same t-test with the error of seeds and text
together excludes 0 at the level at which Holm held the arm; a NEUTRAL where the 90 %
interval with that error lies within the smallest effect of interest.
"""

import math
from dataclasses import dataclass
from typing import Sequence

from scipy import special

from matrix.evidence import sequential
from matrix.evidence.verdict import EQUIVALENCE, LIMITED, NEUTRAL, SUPPORTED, Verdict
from matrix.results import text_error
from matrix.results.metrics import BITS_PER_BYTE, Metric
from matrix.results.rows import Row
from matrix.results.run import Run
from matrix.results.selection import Terms
from matrix.results.text_error import TextError

CLAIMS = (SUPPORTED, LIMITED, NEUTRAL)


@dataclass(frozen=True)
class TextEvidence:
    """error: in the metric's unit for losses and bits/byte, else in nats/token; None
    where there is none, and `why`. p: of no difference, two-sided, by `error.both`.
    carried: whether the verdict is a claim and holds with both errors.
    """

    error: TextError | None
    why: str = ""
    p: float | None = None
    carried: bool = False


def on_text(
    control: Row, arms: Sequence[Row], terms: Terms, verdicts: Sequence[Verdict]
) -> dict[str, TextEvidence]:
    """By step, for a metric that a text has a share in; {} for speeds and sizes."""
    if not of_text(terms.metric):
        return {}
    given = {verdict.step: verdict for verdict in verdicts}
    return {row.step: _of(control, row, terms, given[row.step]) for row in arms}


def of_text(metric: Metric) -> bool:
    """Whether the metric is read off a text."""
    return metric.evaluated or metric.evaluation is not None


def _of(control: Row, row: Row, terms: Terms, verdict: Verdict) -> TextEvidence:
    if not terms.metric.evaluated:
        return TextEvidence(None, f"not recorded for {terms.metric.name}")
    judged = [
        {seed: run for seed, run in side.runs.items() if seed in verdict.differences}
        for side in (row, control)
    ]
    error, why = text_error.of_runs(*judged)
    if error is None:
        return TextEvidence(None, why)
    if terms.metric is BITS_PER_BYTE:
        error = error.scaled(_bits_per_nat(next(iter(judged[0].values()))))
    p = p_value(error)
    return TextEvidence(error, "", p, _carried(error, p, verdict, terms))


def p_value(error: TextError) -> float:
    """Two-sided p of no difference by Student's t with the error of both sources."""
    if error.both == 0.0:
        return 1.0  # nothing varies: nothing to test with
    return float(2 * special.stdtr(error.df, -abs(error.difference) / error.both))


def _carried(error: TextError, p: float, verdict: Verdict, terms: Terms) -> bool:
    measured = verdict.measured
    if measured is None or verdict.outcome not in CLAIMS:
        return False
    if verdict.outcome != NEUTRAL:
        return p <= _level(verdict)
    if terms.metric.name == "perplexity" or terms.smallest is None:
        return False  # the error is in nats
    limit = float(-special.stdtrit(error.df, (1 - EQUIVALENCE) / 2))
    return abs(error.difference) + limit * error.both < terms.smallest


def _level(verdict: Verdict) -> float:
    """The level of one p that Holm held the arm at; at a look, its share of it."""
    level, look = verdict.measured.level, verdict.look
    if look is None:
        return level
    return sequential.laws(look.planned).nominal(level)[look.number - 1]


def _bits_per_nat(run: Run) -> float:
    """bits/byte for 1 nat/token, on the text that the run was evaluated on."""
    text = run.evaluated_text
    return text.tokens / (math.log(2) * text.bytes)
