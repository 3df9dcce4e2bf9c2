"""`make watch`: a study as its records show it, from any terminal.

Reads the run directories and nothing else: neither a plan nor a configuration,
so it works beside the runner, on another host, and after everything has ended.
"""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from matrix import units
from matrix.launch.tail import Tail
from records import heartbeat, pointer
from records.cell import CellStatus, read_status
from records.layout import CellDir, RecordError

EVERY = 2.0
COLUMNS = ("cell", "state", "step", "loss", "tokens/s", "left", "holder", "beat", "GPU")
LEFT = ("cell", "state", "holder", "GPU")


class Watch:
    """The cells of `study_dir`, read again and again."""

    def __init__(self, study_dir: Path):
        self.study_dir = study_dir
        self._tails: dict[Path, Tail] = {}

    def table(self) -> Table:
        """The study as it stands."""
        lines = [self._line(path) for path in self._cells()]
        states = [line[1] for line in lines]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        title = f"{self.study_dir}: {counts or 'no cell has begun'}"
        table = Table(title=escape(title), title_justify="left", expand=False)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in LEFT else "right")
        for line in lines:
            table.add_row(*map(escape, line))
        return table

    def _cells(self) -> list[Path]:
        found = self.study_dir.glob("*/seed-*/????????")
        return sorted(path for path in found if path.is_dir())

    def _line(self, path: Path) -> tuple[str, ...]:
        name = f"{path.parts[-3]} {path.parts[-2]} {path.name}"
        try:
            cell = pointer.follow(CellDir(path)).dir
            status = read_status(cell)
        except RecordError as error:
            return (name, "damaged", *[units.DASH] * 6, str(error.why))
        tail = self._tails.setdefault(path, Tail(cell.metrics))
        tail.poll()
        running = status.state == "running"
        return (
            name,
            status.state,
            f"{_step(cell, status, tail)}/{tail.steps or '?'}",
            units.loss(tail.loss),
            units.count(tail.rate) if running else units.DASH,
            units.duration(tail.remaining) if running else units.DASH,
            str(status.holder or units.DASH),
            _beat(cell) if running else units.DASH,
            _gpu(cell) if running else units.DASH,
        )


def _step(cell: CellDir, status: CellStatus, tail: Tail) -> int:
    """The newest of what was logged and what the loop says."""
    beat = heartbeat.newest(cell.progress()) if status.state == "running" else None
    return max(tail.step, beat["step"] if beat else 0)


def _beat(cell: CellDir) -> str:
    """Age of the heartbeat and what the loop was at."""
    row = heartbeat.newest(cell.progress())
    if row is None:
        return units.DASH
    return f"{units.duration(max(time.time() - row['time'], 0.0))}, {row['phase']}"


def _gpu(cell: CellDir) -> str:
    """The newest sample of the GPUs, on average."""
    row: dict[str, Any] = heartbeat.newest(cell.gpu) or {}
    parts = [
        f"{row[key]:.0f} {unit}"
        for key, unit in (
            ("gpu/compute_util_avg", "%"),
            ("gpu/memory_used_avg_gb", "GiB"),
            ("gpu/power_avg_w", "W"),
            ("gpu/temperature_avg_c", "°C"),
        )
        if key in row
    ]
    return " ".join(parts) or units.DASH


def watch(study_dir: Path, once: bool, console: Console | None = None) -> int:
    """Show the study until Ctrl-C; once where asked or without a terminal."""
    console = console or Console()
    shown = Watch(study_dir)
    if once or not console.is_terminal:
        if not console.is_terminal:  # no width to keep to
            console = Console(file=console.file, width=200)
        console.print(shown.table())
        return 0
    with Live(shown.table(), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(EVERY)
                live.update(shown.table(), refresh=True)
        except KeyboardInterrupt:
            return 0
