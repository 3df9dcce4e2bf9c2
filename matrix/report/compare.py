"""Two runs, two steps or two studies side by side: configuration, fairness, metrics.

`make compare A=… B=…`. A run is a directory with run.json (…/seed-K/HASH8), a step the
directory above its seeds, a study the one above its steps. Two runs are one pair: a
difference is shown and nothing is concluded from it. Two steps are compared over the
seeds that both have, two studies so step by step; that is a description too: what
differs is not one declared step, and no family of claims is corrected for.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Sequence

from kconf.bind import format_value
from matrix import units
from matrix.results import config_differences, fairness
from matrix.results.metrics import METRICS, Metric
from matrix.results.rows import deviation
from matrix.results.run import DAMAGED, DONE, ReportError, Run
from matrix.results.study import Study, load
from records.files import shown
from records.text_table import WIDTH, fitted

PROPERTIES = (
    ("parameters", "parameters"),
    ("without embeddings", "parameters_no_embedding"),
    ("FLOPs per token", "flops_per_token"),
    ("tokens", "tokens"),
    ("steps", "steps"),
    ("effective batch", "effective_batch"),
    ("cache per token and layer", "cache_per_token_layer"),
)
ROOM = WIDTH - 2
WALL = "total_time_all_attempts"
DESCRIPTIVE = "Descriptive: no verdict follows from this (docs/evidence.md)."


@dataclass(frozen=True)
class Side:
    """One of the two: its directory, and the finished runs by step and seed; of a step
    its own, of a run itself.
    """

    path: Path
    study: Study
    step: str | None = None
    run: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """The runs that are compared."""
        if self.run:
            return [self.run]
        counted = self.study.counted
        return [run for (step, _), run in counted.items() if self.step in (None, step)]

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "run" if self.run else "step" if self.step else "study"


def side(path: Path) -> Side:
    """The run, step or study at `path`. Raises ReportError for anything else."""
    path = path.resolve()
    if (path / "run.json").exists():
        study_dir = path.parent.parent.parent
        study = load(study_dir)
        name = shown(path.relative_to(study_dir).as_posix())
        run = next((run for run in study.runs if run.run_dir == name), None)
        if run is None:
            raise ReportError(f"{path}: a run lies in STUDY/STEP/seed-K/HASH8")
        if run.state != DONE:
            raise ReportError(f"{path}: {run.state}: {run.why}")
        return Side(path, study, run=run)
    if any(path.glob("seed-*/*")):
        found = Side(path, load(path.parent), step=shown(path.name))
    else:
        found = Side(path, load(path))
    if not found.runs:
        raise ReportError(
            f"{path}: neither a run nor a {found.kind} with finished runs"
        )
    return found


def compare(a: Path, b: Path, last_evals: int = 1) -> str:
    """The comparison as text; ends with a newline.

    Raises ReportError when they are of two kinds, or either cannot be read.
    """
    left, right = side(a), side(b)
    if left.kind != right.kind:
        raise ReportError(
            f"{a} and {b}: one is a {left.kind}, the other a {right.kind}"
        )
    lines = [f"A {shown(left.path)}", f"B {shown(right.path)}", ""]
    lines += _damaged(left, right)
    lines += _titled("Configuration", _configuration(left, right))
    lines += _titled("Fairness", _fairness(left, right))
    if left.run and right.run:
        lines += _titled("Numbers", _two_runs(left.run, right.run, last_evals))
    elif left.step:
        lines += _titled("Numbers", _two_steps(left, right, last_evals))
    else:
        lines += _titled("Steps", _two_studies(left.study, right.study, last_evals))
    return "\n".join([*lines, DESCRIPTIVE]) + "\n"


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    wrapped = [
        f"{'    ' if number else '  '}{part}"
        for line in lines or ["the same"]
        for number, part in enumerate(_parts(line))
    ]
    return [title, *wrapped, ""]


def _parts(line: str) -> list[str]:
    """The line, or what of it fits the width, line by line."""
    if len(line) <= ROOM:
        return [line]
    return textwrap.wrap(line, ROOM - 2, break_on_hyphens=False)


def _damaged(left: Side, right: Side) -> list[str]:
    """The runs of two steps or studies that cannot be read and are in no number."""
    if left.run:
        return []
    lines = [
        f"{side.path.name}: {run.step} seed {run.seed}: {run.why}"
        for side in (left, right)
        for run in side.study.runs
        if run.state == DAMAGED and side.step in (None, run.step)
    ]
    return _titled("Damaged, left out", lines) if lines else []


def _configuration(left: Side, right: Side) -> list[str]:
    """CONFIG_X: A's value, B's value; of two studies per step that both have."""
    pairs = _pairs(left, right)
    found: dict[str, list[str]] = {}
    for one, other in pairs:
        for symbol in config_differences.differing(one, other):
            values = (format_value(run.config.get(symbol)) for run in (one, other))
            text = f"CONFIG_{symbol}: {' | '.join(values)}"
            found.setdefault(text, []).append(one.step)
    mixed = [*_mixed("A", left), *_mixed("B", right)]
    if left.kind != "study":
        return [*mixed, *found]
    told = [f"{text} ({', '.join(units.distinct(s))})" for text, s in found.items()]
    return [*mixed, *told]


def _mixed(name: str, side: Side) -> list[str]:
    """A line per step whose runs are not one configuration: a trial's are among them."""
    lines = []
    for step in units.distinct(run.step for run in side.runs):
        first, *others = (run for run in side.runs if run.step == step)
        symbols = units.distinct(
            symbol
            for run in others
            for symbol in config_differences.differing(first, run)
        )
        if symbols:
            named = ", ".join(f"CONFIG_{symbol}" for symbol in symbols)
            lines.append(f"{name}: the runs of {step} differ in {named}")
    return lines


def _pairs(left: Side, right: Side) -> list[tuple[Run, Run]]:
    """The runs that belong together: the two, those of one seed, or of one step and
    seed.
    """
    if left.run and right.run:
        return [(left.run, right.run)]
    if left.step and right.step:
        one, other = left.study.of(left.step), right.study.of(right.step)
        return [(one[seed], other[seed]) for seed in sorted(one.keys() & other.keys())]
    shared = left.study.counted.keys() & right.study.counted.keys()
    return [(left.study.counted[k], right.study.counted[k]) for k in sorted(shared)]


def _fairness(left: Side, right: Side) -> list[str]:
    """What must match and does not, A's values before B's."""
    lines = []
    for title, _, having in fairness.ledger([*left.runs, *right.runs]):
        values = [
            " / ".join(
                units.distinct(
                    value for run, value in having if any(run is r for r in each.runs)
                )
            )
            for each in (left, right)
        ]
        if values[0] != values[1]:
            lines.append(f"{title}: {values[0]} | {values[1]}")
    return lines + fairness.resumed_elsewhere([*left.runs, *right.runs])


def _two_runs(one: Run, other: Run, last_evals: int) -> list[str]:
    """Facts and metrics of both, with the difference B − A of the metrics."""
    rows = [
        (title, *(_number(r.value(n)) for r in (one, other)), "")
        for title, n in PROPERTIES
    ]
    took = (units.duration(r.value(WALL)) for r in (one, other))
    rows.append(("wall time", *took, ""))
    for metric in METRICS.values():
        a, b = (metric.of(run, last_evals) for run in (one, other))
        if a is not None and b is not None:
            title = f"{metric.title}, {metric.unit}"
            rows.append((title, _number(a), _number(b), f"{b - a:+.6g}"))
    return fitted(rows, right=(1, 2, 3), width=ROOM)


def _two_steps(left: Side, right: Side, last_evals: int) -> list[str]:
    """Means of both over the seeds that both have, and B − A with its deviation."""
    pairs = _pairs(left, right)
    if not pairs:
        return ["no seed is finished in both"]
    seeds = units.numbers_in(one.seed for one, _ in pairs)
    rows = [(f"means of seeds {seeds}", "A", "B", "B − A", "SD of B − A")]
    for metric in METRICS.values():
        values = [[metric.of(run, last_evals) for run in pair] for pair in pairs]
        if any(value is None for pair in values for value in pair):
            continue
        d = [b - a for a, b in values]
        means = [_number(fmean(each)) for each in zip(*values)]
        spread = _number(deviation(d))
        rows.append((metric.name, *means, f"{fmean(d):+.6g}", spread))
    return fitted(rows, right=(1, 2, 3, 4), width=ROOM)


def _number(value: float | None) -> str:
    return units.DASH if value is None else f"{value:.6g}"


def _two_studies(one: Study, other: Study, last_evals: int) -> list[str]:
    """Per step: mean loss of both, and B − A over the seeds that both have."""
    metric: Metric = METRICS["val_loss"]
    rows = [("validation loss, nats/token", "A", "B", "B − A", "")]
    for step in units.distinct([*one.steps, *other.steps]):
        a, b = (
            {seed: metric.of(run, last_evals) for seed, run in study.of(step).items()}
            for study in (one, other)
        )
        d = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
        means = [units.loss(fmean(x.values()) if x else None) for x in (a, b)]
        difference = units.signed(fmean(d) if d else None)
        spread = f", SD {units.spread(deviation(d))}" if len(d) > 1 else ""
        seeds = f"{units.plural(len(d), 'shared seed')}{spread}"
        rows.append((step, *means, difference, seeds))
    return fitted(rows, right=(1, 2, 3), width=ROOM)
