"""A cell's directory, command and environment, ready to be started.

The runner writes .config, config.py and run.json; the training process adds
everything else. All three are replaced when a cell is started again: its
identity is the same (the directory is named after it), only operational
symbols and provenance can differ.
"""

import os
from typing import Any, Mapping

from kconf import config_py
from matrix.plan.cells import Cell, Plan
from matrix.plan.model_facts import ENTRY
from records import atomic, history
from records.codehash import FROM_SNAPSHOT
from records.entry import UTF8
from records.layout import SCHEMA, CellDir

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def script(plan: Plan, cell: Cell) -> list[str]:
    """What python runs: the snapshot's entry point on the cell's directory."""
    return [
        str(plan.code_root / ENTRY),
        "--run-dir",
        str(cell.dir.path),
        "--data-dir",
        str(cell.dataset),
    ]


def environment(cell: Cell) -> dict[str, str]:
    """This process' environment with the cell's thread count on the CPU."""
    return {**os.environ, **additions(cell)}


def additions(cell: Cell) -> dict[str, str]:
    """What a cell's environment has beside that of whoever starts it."""
    found = {"PYTHONUNBUFFERED": "1", **UTF8, **FROM_SNAPSHOT}
    if cell.threads is not None:
        count = str(cell.threads)
        found |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, **PASSIVE}
    return found


def refuse_links(cell: CellDir) -> None:
    """Raise OSError for a link among a cell's files: the run would write to wherever
    it leads. A cell that nobody began has none, and no run of ours makes one.
    """
    for folder in (cell.path, cell.checkpoint_dir, cell.diverged):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_symlink():
                raise OSError(
                    f"{path} is a link, and no run writes through one: remove it"
                )


def write(
    plan: Plan, cell: Cell, argv: list[str], provenance: Mapping[str, Any]
) -> None:
    """Write .config, config.py and run.json."""
    cell.dir.path.mkdir(parents=True, exist_ok=True)
    atomic.write_text(cell.dir.dotconfig, cell.dotconfig)
    before = history.as_before(cell.values)
    config_py.write(cell.dir.config_py, cell.values, plan.operational, before)
    run = {
        "schema": SCHEMA,
        "cell": {
            "study": cell.study,
            "step": cell.step,
            "help": cell.help,
            "control": cell.control,
            "stage": plan.settings.stage,
            "changes": list(cell.changes),
            "fragment": cell.fragment,
            "arm": None if cell.arm is None else dict(cell.arm),
            "seed": cell.seed,
            "hash": cell.hash,
            "identity": dict(cell.identity),
        },
        "code_files": dict(cell.code_files),
        "overrides": dict(plan.overrides),
        "command": argv,
        "data_dir": str(cell.dataset),
        "provenance": dict(provenance),
    }
    atomic.write_json(cell.dir.run_json, run)
