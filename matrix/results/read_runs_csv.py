"""Reads runs.csv: what it holds of every run, and what it cannot carry.

A cell is read as the type that its record is declared to have (records/fields.py). The
file has the last evaluation of a run and no configuration, so a claim made from it
says that the configurations were not checked.
"""

import csv
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from matrix.results import inert_csv
from matrix.results.fairness import MUST_MATCH
from matrix.results.received import MOST_RUNS, TITLE, HandedOn, Refused, documents_of
from matrix.results.received import numbered, refuse, require_apart
from matrix.results.received import require_finished, require_kinds, require_place
from matrix.results.recorded import IN_CSV
from matrix.results.run import DONE, Run, natural
from matrix.results.runs_csv import COUNTED, HEAD, LEFT_OUT, OPEN
from matrix.results.selection import Selection
from matrix.results.study import Received, of_runs
from records.kinds import Unfit, name, text

NEEDED = ("final_loss", "steps", "tokens", "config_hash", "code_hash", "dataset_sha256")
REQUIRED = (*HEAD, "loss", *NEEDED, "control", "error")
MOST_COLUMNS = 200
TIMED = ("tokens_per_s", "average_step_time", "train_time", "eval_time", "wall_time")
TIMED += ("total_time_all_attempts", "energy_joules", "energy_per_token")
TIMED += ("energy_seconds", "energy_remark")
"""Columns that a neighbour on the GPU changes; nothing here says who had one."""
LACKING = (
    "It holds of every run the last evaluation alone: no learning curves, no losses at "
    "equal training time, no mean over several last evaluations, no statistics of the "
    "heads, no pruned share over training, nothing of make eval.",
    "It holds no configurations: whether a step and its control differ in anything but "
    "the step could not be checked. What is claimed holds only if they do not, and says "
    "so. Which step is the control again with other initial values (A/A) cannot be told "
    "either: every step counts in the family.",
    "It holds no times and no neighbours: whether control and arms ran in the same days, "
    "whether runs shared a GPU or were resumed under other software could not be checked. "
    "Speeds, times and energy are not reported.",
    "It holds neither preregistration nor promotion, nor which runs were replaced, nor "
    "whether a run that is left out is a judged one with another seed.",
    "It holds no metric, smallest effect, level or design: what is said is about val_loss "
    "at the defaults of 0.002 nats/token and 0.05, and a confirmation is not judged.",
)
WHOLE = re.compile(r"-?[0-9]{1,19}")
REAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|nan|-?inf")


def read(path: Path) -> HandedOn:
    """The study of the file. Raises ReportError."""
    found = list(_rows(path))
    if not found:
        refuse(path, "holds no run")
    runs = [run for _, run, _ in found]
    require_apart(path, [line for line, *_ in found], runs)
    _require_one_study(path, found)
    _require_cells(path, found)
    order = sorted(found, key=lambda each: _order(each[1]))
    left = {run.run_dir for _, run, row in found if row["counted"] == LEFT_OUT}
    whole = [run for _, run, _ in order]
    study = of_runs(
        found[0][2]["study"],
        [run for run in whole if run.run_dir not in left],
        Selection(),
    )
    study = replace(
        study,
        runs=tuple(whole),
        left_out=(
            *study.left_out,
            *(run for run in whole if run.run_dir in left),
        ),
        received=Received(path.name, tuple(_lacking(found)), False),
    )
    return HandedOn(study, Selection(), {}, ())


def _order(run: Run) -> tuple[Any, ...]:
    return (natural(run.step), run.seed, run.hash8)


def _rows(path: Path) -> Iterator[tuple[int, Run, dict[str, str]]]:
    """(line, run, cells by column) of every row. Raises ReportError."""
    reader = csv.reader(_text(path), strict=True)
    try:
        columns = next(reader, [])
        _require_columns(columns)
        for count, cells in enumerate(reader, start=1):
            if count > MOST_RUNS:
                raise Refused(f"holds more than {MOST_RUNS:,} runs")
            if len(cells) != len(columns):
                raise Refused(f"has {len(cells)} cells for {len(columns)} columns")
            row = {word: inert_csv.original(cell) for word, cell in zip(columns, cells)}
            yield reader.line_num, _run(row), row
    except csv.Error as error:
        raise Refused(f"is no CSV: {error}").at(path, reader.line_num) from None
    except Refused as error:
        raise error.at(path, reader.line_num) from None


def _text(path: Path) -> Iterator[str]:
    for line, data in numbered(path):
        try:
            yield data.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError:
            raise Refused("is not UTF-8").at(path, line) from None


def _require_columns(columns: Sequence[str]) -> None:
    if len(columns) > MOST_COLUMNS:
        raise Refused(f"has {len(columns)} columns")
    if len(set(columns)) < len(columns):
        raise Refused("names a column twice")
    missing = [word for word in REQUIRED if word not in columns]
    if missing:
        raise Refused(
            f"lacks the columns {', '.join(missing)}: no runs.csv of a report"
        )


def _run(row: Mapping[str, str]) -> Run:
    """The run of a row. Raises Refused."""
    try:
        TITLE(row["study"])
        name(row["study"])
        name(row["step"])
        text(row["error"])
    except Unfit as unfit:
        raise Refused(str(unfit)) from None
    for word, known in (
        ("reused", ("yes", "no")),
        ("counted", (COUNTED, OPEN, LEFT_OUT)),
        ("control", ("", "True", "False")),
    ):
        if row[word] not in known:
            raise Refused(
                f"{word} is {row[word][:40]!r}, expected {' or '.join(known)}"
            )
    if re.fullmatch("[0-9]{1,18}", row["seed"], re.ASCII) is None:
        raise Refused(f"seed is {row['seed'][:40]!r}, expected a whole number")
    values = {
        word: _typed(word, row[word])
        for word in IN_CSV
        if row.get(word) and word not in TIMED
    }
    values |= {"final_step": values["steps"]} if "steps" in values else {}
    documents = documents_of(values)
    config = documents.setdefault("config", {})
    documents |= {"operational": frozenset(), "evaluations": {}, "attempts": {}}
    run = Run(
        step=row["step"],
        seed=int(row["seed"]),
        hash8=row["hash"],
        run_dir=row["run_dir"],
        state=row["state"],
        why=row["error"],
        began=0.0,
        time=0.0,
        documents={**documents, "config": config},
        evals=tuple(_last(values)),
        reused=row["reused"] == "yes",
    )
    require_place(run)
    require_finished(run, NEEDED)
    if row["counted"] == COUNTED:
        _require_counted(run, row)
    return run


def _require_counted(run: Run, row: Mapping[str, str]) -> None:
    """A run that counts is done and has the loss that it counts with."""
    if run.state != DONE:
        raise Refused(f"counts, and its state is {run.state[:40]!r}")
    if REAL.fullmatch(row["loss"]) is None or not math.isfinite(float(row["loss"])):
        raise Refused(f"counts, and its loss is {row['loss'][:40]!r}")


def _last(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The last evaluation, where there is one."""
    names = {"steps": "step", "tokens": "tokens", "final_loss": "loss"}
    if names.keys() <= values.keys():
        names["final_bits_per_byte"] = "bits_per_byte"
        names["final_perplexity"] = "perplexity"
        yield {key: values[word] for word, key in names.items() if word in values}


def _typed(word: str, cell: str) -> Any:
    """The value of a cell, of the type that its record has. Raises Refused."""
    for parse in (_whole, _real, _flag, str):
        value = parse(cell)
        if value is not None and _fits(word, value):
            return value
    raise Refused(f"{word} is {cell[:40]!r}, which its record cannot hold")


def _whole(cell: str) -> int | None:
    return int(cell) if WHOLE.fullmatch(cell) else None


def _real(cell: str) -> float | None:
    return float(cell) if REAL.fullmatch(cell) else None


def _flag(cell: str) -> bool | None:
    return {"True": True, "False": False}.get(cell)


def _fits(word: str, value: Any) -> bool:
    try:
        require_kinds(documents_of({word: value}))
    except Unfit:
        return False
    return True


def _require_one_study(path: Path, found: Sequence[tuple[int, Run, dict]]) -> None:
    first = found[0][2]["study"]
    for line, _, row in found:
        if row["study"] != first:
            why = (
                f"line {line} is of the study {row['study']!r}, the first of {first!r}"
            )
            refuse(path, why)


def _require_cells(path: Path, found: Sequence[tuple[int, Run, dict]]) -> None:
    """No cell is counted twice."""
    seen: dict[tuple[str, int], int] = {}
    for line, run, row in found:
        if row["counted"] != COUNTED:
            continue
        key = (run.step, run.seed)
        if key in seen:
            why = f"counts {run.step} seed {run.seed} again, after line {seen[key]}"
            refuse(path, f"line {line} {why}")
        seen[key] = line


def _lacking(found: Sequence[tuple[int, Run, dict[str, str]]]) -> list[str]:
    """What this file does not hold, and what follows."""
    lines, columns = [*LACKING], found[0][2].keys()
    absent = [title for title, word in MUST_MATCH if word not in columns]
    if absent:
        lines.append(
            f"It has no column for {', '.join(absent)}: not compared with the control's."
        )
    strange = [word for word in columns if word not in {*REQUIRED, *IN_CSV}]
    if strange:
        lines.append(f"Columns that are not read: {', '.join(strange)}.")
    if any(
        row["counted"] == COUNTED and float(row["loss"]) != run.value("final_loss")
        for _, run, row in found
    ):
        lines.append(
            "Its column loss is not final_loss: the study was judged by the mean of "
            "several evaluations, this report by the last one."
        )
    return lines
