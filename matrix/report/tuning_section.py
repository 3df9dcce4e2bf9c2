"""The section "Tuning": what each arm tried and chose, and whose rate was its own."""

from typing import Any, Mapping

from matrix import units
from matrix.evidence import tuning
from matrix.evidence.gather import Report
from matrix.plan.cells import Plan
from matrix.plan.tuning import edges, moved_since
from matrix.report.document import Block, Column, Notice, Section, Table, Text
from matrix.results.metrics import named
from records import sealed_record
from records.text_table import fitted

CHOSEN = "chosen"


def section(report: Report) -> Section | None:
    """The section; None where nothing was tuned and no arm has a rate of its own."""
    found = report.tuning
    blocks: list[Block] = []
    if found.own:
        lines = [f"{step}: {found.remark(step)}" for step in found.own]
        title = "Rates that no declared budget chose"
        blocks.append(Notice(title, tuple(lines)))
    if found.record is not None:
        blocks.append(Text(_budget(found.record)))
        if found.untuned:
            lines = [f"{step} {why}" for step, why in found.untuned.items()]
            blocks.append(Notice("Not tuned as the others", tuple(lines)))
        notes = [*_edges(found.record), *_moved(report)]
        if notes:
            blocks.append(Notice("What the tuning leaves open", tuple(notes)))
        blocks.append(table(found.record))
    return Section("Tuning", tuple(blocks)) if blocks else None


def table(record: Mapping[str, Any]) -> Table:
    """A row per arm and point: its values, the metric, and which one was chosen."""
    names = tuning.symbols(record)
    columns = (
        Column("Step", "code"),
        *(Column(name) for name in names),
        Column(_metric(record)),
        Column("", "text"),
        Column("Runs", "code"),
    )
    return Table(columns, tuple(_rows(record)))


def _rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for step, arm in record["arms"].items():
        for trial in arm["trials"]:
            values = trial["values"]
            mark = CHOSEN if values == arm["chosen"] else ""
            metric = trial["metric"]
            shown = "diverged" if metric is None else units.loss(metric)
            runs = " ".join(f"../{record['study']}/{run}" for run in trial["runs"])
            rows.append((step, *values.values(), shown, mark, runs))
    return rows


def _metric(record: Mapping[str, Any]) -> str:
    """The metric with its unit."""
    metric = named(record["metric"])
    return f"{metric.title}, {metric.unit}"


def sealed_text(plan: Plan) -> str:
    """Seal the tuning of a plan; its table and where it lies, for a terminal."""
    path, record = tuning.seal(plan)
    head = ("step", *tuning.symbols(record), named(record["metric"]).title, "")
    numbers = range(1, len(head) - 1)
    lines = fitted([head, *(row[:-1] for row in _rows(record))], right=numbers)
    lines += ["", *(f"edge: {line}" for line in _edges(record)), _budget(record)]
    seal = record[sealed_record.SEAL]
    return "\n".join([*lines, f"{path}\nsha256 {seal}", "next: make"])


def _budget(record: Mapping[str, Any]) -> str:
    """What every arm had, counted in the record."""
    counts = {step: tuning.trial_count(arm) for step, arm in record["arms"].items()}
    points = {len(arm["trials"]) for arm in record["arms"].values()}
    seeds = units.numbers_in(record["seeds"])
    of = f"on seeds {seeds}, which no verdict takes"
    if len(set(counts.values())) == 1 and len(points) == 1:
        each = units.plural(points.pop(), "point")
        runs = units.plural(next(iter(counts.values())), "run")
        budget = (
            f"Every arm, the control too, tried {each} in {runs} {of}: equal budgets."
        )
    else:
        each = ", ".join(f"{step} {count}" for step, count in counts.items())
        budget = f"Unequal budgets, runs per arm {of}: {each}."
    asked = f"CONFIG_TUNE={record['tune']}"
    if record["points"]:
        asked += f", {record['points']} Sobol points (seed {record['sobol_seed']})"
    metric = f"{_metric(record)}, the best mean over these seeds"
    return f"{budget} {asked}. Chosen by {metric}."


def _edges(record: Mapping[str, Any]) -> list[str]:
    """A line per choice at an edge: a better value may lie beyond it."""
    return [
        f"{step}: {line}; a better one may lie beyond"
        for step, arm in record["arms"].items()
        for line in edges(arm)
    ]


def _moved(report: Report) -> list[str]:
    """A line where the control's runs are configured otherwise than the tuning was."""
    runs = list(report.rows[0].runs.values())
    if not runs:
        return []
    operational = frozenset(runs[0].operational)
    moved = moved_since(report.tuning.record, runs[0].config, operational)
    return [f"tuned under other settings: {', '.join(moved)}"] if moved else []
