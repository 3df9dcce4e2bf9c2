"""The command line that the W&B scripts share."""

import argparse
import os
import sys
from pathlib import Path
from typing import Callable, Sequence

from matrix.published.run import PublishedError, PublishedRun
from matrix.published.selection import Query
from matrix.published.sources import SOURCES, fetch
from matrix.published.table import Answer
from matrix.trackers.wandb_variables import ENTITY, PROJECT

Ask = Callable[[Sequence[PublishedRun], argparse.Namespace], Answer]


def parser(doc: str) -> argparse.ArgumentParser:
    """The shared options; `doc` is the script's docstring."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--source",
        choices=SOURCES,
        default="wandb",
        help="W&B's server, its offline files in the run directories, or our records",
    )
    said = {name: os.environ.get(name, "") for name in (ENTITY, PROJECT)}
    made.add_argument(
        "--entity", default=said[ENTITY], help=f"W&B user or team (${ENTITY})"
    )
    made.add_argument(
        "--project",
        default=said[PROJECT] or "kablate",
        help=f"W&B project (${PROJECT}, else kablate)",
    )
    made.add_argument(
        "--run-name",
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN",
        help="name, id, or how one name begins; several give several (all)",
    )
    made.add_argument(
        "--study",
        default="",
        help="a study's name or directory; on the server its group",
    )
    made.add_argument(
        "--output", type=Path, default=Path("results"), help="results directory"
    )
    form = made.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    return made


def answer(ask: Ask, given: argparse.Namespace) -> int:
    """Fetch, ask, print; returns the exit status (1 with the cause on an error)."""
    query = Query(
        given.source,
        given.entity,
        given.project,
        given.study,
        tuple(given.run_name),
        given.output,
    )
    try:
        found = ask(fetch(query), given)
    except PublishedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    form = "json" if given.json else "csv" if given.csv else "text"
    print(getattr(found, form)())
    return found.status


def main(doc: str, ask: Ask, argv: Sequence[str] | None = None) -> int:
    """A script without options of its own."""
    return answer(ask, parser(doc).parse_args(argv))
