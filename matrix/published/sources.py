"""Where published runs are read from: run directories, W&B's files, W&B's server."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator

from matrix.published import events
from matrix.published.run import PublishedError, PublishedRun
from matrix.published.selection import Query, choose, directory, logged
from matrix.results import whole_run
from matrix.results.run import HASH_DIR
from matrix.trackers import wandb_files
from matrix.trackers.content import describe, flatten, flatten_gpu
from matrix.trackers.content import flatten_summary
from matrix.trackers.row_order import FOLDER
from matrix.trackers.session import CURRENT, state
from matrix.trackers.target import TrackerError, require_extra
from matrix.trackers.wandb_variables import ONLINE, variable_mode
from records import read
from records.cell import DAMAGED
from records.files import shown
from records.layout import CellDir, RecordError

SOURCES = ("wandb", "offline", "local")


def fetch(query: Query) -> list[PublishedRun]:
    """The runs of a query, in the order of its names. Raises PublishedError."""
    try:
        if query.source == "wandb":
            word, mode = variable_mode(os.environ)
            if mode not in ("", ONLINE):
                raise PublishedError(
                    f"{word}: W&B's server is not asked. --source offline and --source "
                    "local read the run directories"
                )
            require_extra("wandb")
            from matrix.published import cloud

            return cloud.fetch(query)
        read = local if query.source == "local" else offline
        return choose(query, list(_each(query, read)))
    except (TrackerError, RecordError) as error:
        raise PublishedError(str(error)) from error


def _each(
    query: Query, read: Callable[[Path], PublishedRun | None]
) -> Iterator[PublishedRun]:
    """The runs below a study, or below every study of the results directory; one whose
    records are damaged is named and left out.
    """
    place = directory(query)
    if not place.is_dir():
        raise PublishedError(f"{place}: no such directory")
    depth = "*/seed-*/*" if query.study else "*/*/seed-*/*"
    for path in sorted(place.glob(depth)):
        if not HASH_DIR.match(path.name):
            continue
        try:
            run = read(path)
        except RecordError as error:
            print(f"left out, damaged: {error}", file=sys.stderr)
            continue
        if run is not None:
            yield run


def local(path: Path) -> PublishedRun | None:
    """The run directory `path`, under the names that trackers have.

    Raises RecordError for a run that a report would leave out.
    """
    cell, status = whole_run.place_and_status(CellDir(path))
    if status.state == DAMAGED:
        raise RecordError(cell.path, status.reason)
    path = cell.path
    about = describe(path)
    if about is None:
        return None
    history = [flatten(row) for row in read.metrics(cell.metrics)]
    if cell.gpu.exists():
        history += [flatten_gpu(row) for row in read.samples(cell.gpu)]
    if cell.summary.exists():
        history.append(flatten_summary(read.summary(cell.summary)))
    mirrored = state(path, "wandb")
    return PublishedRun(
        id=about.id,
        name=about.name,
        group=about.group,
        step=about.job_type,
        where=str(path),
        config=about.config,
        tags=tuple(mirrored.get("tags", ())),
        history=[row for row in history if row],
        project=_project(mirrored.get("entity"), mirrored.get("project")),
        uploaded=(mirrored.get("state"), mirrored.get("mode")) == (CURRENT, ONLINE),
    )


def _project(entity: object, project: object) -> str | None:
    """ENTITY/PROJECT of a run in W&B; None where it was not sent there."""
    return shown(f"{entity or 'default entity'}/{project}") if project else None


def offline(path: Path) -> PublishedRun | None:
    """The W&B run below the run directory `path`, None where none was written.

    A run that was mirrored in several goes lies in several files; a row that two of
    them hold is one row.
    """
    files = wandb_files.segments(path / FOLDER)
    if not files:
        return None
    found = PublishedRun("", "", "", "", str(path / FOLDER), {}, uploaded=False)
    rows, samples = {}, []
    for record in (record for file in files for record in wandb_files.records(file)):
        body = record.get(record["type"])
        if record["type"] == "run":
            found = replace(
                found,
                id=body["run_id"],
                name=body["display_name"],
                group=body["run_group"],
                step=body["job_type"],
                config=body["config"]["update"],
                tags=tuple(body.get("tags", ())),
                project=_project(body.get("entity"), body.get("project")),
            )
        elif record["type"] == "history":
            rows[body["step"]["num"]] = body["item"]
        elif record["type"] == "stats":
            samples.append(events.monitored(body["item"], body["timestamp"]))
    return replace(
        found,
        config={k: v for k, v in found.config.items() if not k.startswith("_")},
        history=[logged(rows[number]) for number in sorted(rows)],
        events=[row for row in samples if len(row) > 1],
    )
