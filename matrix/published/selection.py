"""Which published runs are asked for, and a row without what W&B adds to it."""

from dataclasses import dataclass
from pathlib import Path

from kconf.syntax import ConfigError
from matrix.published.run import PublishedError, PublishedRun, missing, plain
from matrix.results import names


@dataclass(frozen=True)
class Query:
    """Which runs: `study` is a directory of run directories, or the group in W&B."""

    source: str
    entity: str = ""
    project: str = "kablate"
    study: str = ""
    names: tuple[str, ...] = ()
    output: Path = Path("results")


def choose(query: Query, runs: list[PublishedRun]) -> list[PublishedRun]:
    """The runs that the names mean: a whole name or id, or how one name begins."""
    if not runs:
        raise PublishedError(f"no run in {_place(query)}")
    if not query.names:
        return runs
    found = []
    for name in query.names:
        exact = [run for run in runs if name in (run.name, run.id)]
        begun = exact or [run for run in runs if run.name.startswith(name)]
        if not begun:
            known = [run.name for run in runs]
            raise missing("run", name, known, f"in {_place(query)}")
        if len(begun) > 1:
            several = ", ".join(f"{run.name} (id {run.id})" for run in begun)
            raise PublishedError(f"{name!r} may be {several}: name one, or its id")
        found += begun
    return found


def _place(query: Query) -> str:
    if query.source == "wandb":
        where = f"{query.entity or 'your default entity'}/{query.project}"
        return where + (f", group {query.study}" if query.study else "")
    return str(directory(query))


def directory(query: Query) -> Path:
    """The results directory, or the study's: a name in it, or a path. Raises
    PublishedError.
    """
    if not query.study:
        return query.output
    try:
        return names.study_dir(names.Results(query.output, None), query.study, "STUDY")
    except ConfigError as error:
        raise PublishedError(str(error)) from None


def logged(row: dict) -> dict:
    """A row of W&B's history without what W&B adds to it (_step, _runtime, …)."""
    return {key: plain(value) for key, value in row.items() if not key.startswith("_")}
