"""`make watch`: a study as its records show it, from any terminal.

Reads the run directories and nothing else: neither a plan nor a configuration,
so it works beside the runner, on another host, and after everything has ended.
"""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from matrix import units
from matrix.launch.display import LOSSES
from matrix.launch.tail import Tail
from matrix.results import whole_run
from records import fields, heartbeat, pointer
from records.cell import CellStatus, read_status
from records.files import shown
from records.jsonl import Row
from records.layout import CellDir, RecordError
from records.lease import skew
from records.text_table import WIDTH

EVERY = 2.0
LEAST = 12
"""Columns of a terminal that names and processes keep."""
SAME = 1.0
"""Seconds by which two clocks may differ before a word is said about it."""
COLUMNS = ("cell", "state", "step", *LOSSES, "left", "process")
WORDS = ("cell", "process")
"""Columns whose text goes on in another line where the terminal is narrow."""


class Watch:
    """The cells of `study_dir`, read again and again."""

    def __init__(self, study_dir: Path):
        self.study_dir = study_dir
        self._tails: dict[Path, Tail] = {}
        self._whole: set[Path] = set()

    def table(self) -> Table:
        """The study as it stands."""
        lines = [self._line(path) for path in self._cells()]
        states = [line[1] for line in lines]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        title = f"{shown(self.study_dir)}: {counts or 'no cell has begun'}"
        table = Table(
            title=escape(title), title_justify="left", box=None, pad_edge=False
        )
        for name in COLUMNS:
            wraps = name in WORDS
            justify = "left" if wraps or name == "state" else "right"
            least = LEAST if wraps else None
            table.add_column(
                name,
                justify=justify,
                no_wrap=not wraps,
                overflow="fold",
                min_width=least,
            )
        for line in lines:
            table.add_row(*map(escape, line))
        return table

    def _cells(self) -> list[Path]:
        found = self.study_dir.glob("*/seed-*/????????")
        return sorted(path for path in found if path.is_dir())

    def _line(self, path: Path) -> tuple[str, ...]:
        name = shown(f"{path.parts[-3]} {path.parts[-2]} {path.name}")
        try:
            return (name, *self._columns_of(CellDir(path)))
        except RecordError as error:
            return (name, "damaged", *[units.DASH] * 4, str(error))

    def _columns_of(self, own: CellDir) -> tuple[str, ...]:
        """What stands behind the cell's name. Raises RecordError.

        A run that has ended is read as a whole once: it does not change any more.
        """
        cell = pointer.follow(own).dir
        status = read_status(cell)
        if status.state != "running" and own.path not in self._whole:
            whole_run.check(own, status)
            self._whole.add(own.path)
        tail = self._tails.setdefault(own.path, Tail(cell.metrics))
        tail.poll()
        if tail.damage is not None:
            raise tail.damage
        return _columns(cell, status, tail)


def _columns(cell: CellDir, status: CellStatus, tail: Tail) -> tuple[str, ...]:
    """The columns of a cell after its name. Raises RecordError."""
    running = status.state == "running"
    beat = heartbeat.newest(cell.progress()) if running else None
    step = max(tail.step, beat["step"] if beat else 0)
    return (
        status.state,
        f"{step}/{tail.steps or '?'}",
        units.loss(tail.training_loss),
        units.loss(tail.validation_loss),
        units.duration(tail.remaining) if running else units.DASH,
        "; ".join(_process(cell, status, tail, beat)) or units.DASH,
    )


def _process(
    cell: CellDir, status: CellStatus, tail: Tail, beat: Row | None
) -> list[str]:
    """Who trains the cell, its newest heartbeat, its speed and its GPUs."""
    parts = [str(status.holder or skew(cell.lease))]
    if beat:
        parts.append(f"beat {age(time.time() - beat['time'])}, {beat['phase']}")
    if status.state == "running":
        speed = units.count(tail.rate)
        parts += [f"{speed} tokens/s" if tail.rate else "", _gpu(cell)]
    return [part for part in parts if part]


def age(seconds: float) -> str:
    """How long ago a clock elsewhere was read: 4.2s ago, or "its clock is 1h 00m ahead"."""
    if seconds < -SAME:
        return f"its clock is {units.duration(-seconds)} ahead"
    return f"{units.duration(max(seconds, 0.0))} ago"


def _gpu(cell: CellDir) -> str:
    """The newest sample of the GPUs, on average. Raises RecordError."""
    row = heartbeat.newest(cell.gpu, fields.reading) or {}
    parts = [
        f"{row[key]:.0f} {unit}"
        for key, unit in (
            ("gpu/compute_util_avg", "%"),
            ("gpu/memory_used_avg_gb", "GiB"),
            ("gpu/power_avg_w", "W"),
            ("gpu/temperature_avg_c", "°C"),
        )
        if row.get(key) is not None
    ]
    return " ".join(parts)


def watch(study_dir: Path, once: bool, console: Console | None = None) -> int:
    """Show the study until Ctrl-C; once where asked or without a terminal."""
    console = console or Console(force_terminal=sys.stdout.isatty())
    shown = Watch(study_dir)
    if once or not console.is_terminal:
        if not console.is_terminal:  # no width to keep to
            console = Console(file=console.file, width=WIDTH, force_terminal=False)
        console.print(shown.table())
        return 0
    with Live(shown.table(), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(EVERY)
                live.update(shown.table(), refresh=True)
        except KeyboardInterrupt:
            return 0
