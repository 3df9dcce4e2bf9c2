"""Reading runs from W&B's server, with W&B's own client."""

import wandb

from matrix.published import events
from matrix.published.run import PublishedError, PublishedRun
from matrix.published.selection import Query, choose, logged

EVENTS = 100_000
"""Samples of the machine that are asked for, at most."""
ERRORS = (wandb.Error, ValueError, OSError)


def fetch(query: Query) -> list[PublishedRun]:
    """The runs of a project (of one group, where a study is named).

    Raises PublishedError without a key, for a project or run that is not there and
    for a server that cannot be reached.
    """
    try:
        api = wandb.Api()
        entity = query.entity or api.default_entity
        if not entity:
            raise PublishedError("this W&B key has no default entity: name --entity")
        filters = {"group": query.study} if query.study else None
        found = api.runs(
            f"{entity}/{query.project}", filters=filters, include_sweeps=False
        )
        runs = {run.id: run for run in found}
        chosen = choose(query, [_listed(run) for run in runs.values()])
        return [_whole(listed, runs[listed.id]) for listed in chosen]
    except ERRORS as error:
        raise PublishedError(f"W&B, {query.project}: {error}") from error


def _listed(run: "wandb.apis.public.Run") -> PublishedRun:
    """What the list of runs says."""
    return PublishedRun(
        id=run.id,
        name=run.name,
        group=run.group or "",
        step=run.job_type or "",
        where=run.url,
        config={},
        tags=tuple(run.tags),
        project=f"{run.entity}/{run.project}",
    )


def _whole(listed: PublishedRun, run: "wandb.apis.public.Run") -> PublishedRun:
    """The same with its configuration, every row, and its machine's samples."""
    run.load_full_data()
    rows = sorted(run.scan_history(), key=lambda row: row["_step"])
    items = run.history(samples=EVENTS, pandas=False, stream="system")
    samples = [events.monitored(item, item["_timestamp"]) for item in items]
    return PublishedRun(
        id=listed.id,
        name=listed.name,
        group=listed.group,
        step=listed.step,
        where=listed.where,
        config={k: v for k, v in run.config.items() if not k.startswith("_")},
        tags=listed.tags,
        history=[logged(row) for row in rows],
        events=[row for row in samples if len(row) > 1],
        project=listed.project,
    )
