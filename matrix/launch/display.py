"""What a person sees while cells run: a live table, or plain lines."""

import shlex
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from matrix import units
from matrix.launch.child import Outcome
from matrix.launch.local import Display
from matrix.launch.tail import Tail
from matrix.plan.cells import Cell, Plan
from records import read

LOSSES = ("train loss", "val loss")
EVERY = 60.0
"""Seconds between the progress lines of a running cell without a terminal."""


def final_loss(cell: Cell) -> float | None:
    """The validation loss of a finished cell's last evaluation, else None."""
    if not cell.dir.summary.exists():
        return None
    return read.summary(cell.dir.summary).get("final_eval", {}).get("loss")


def losses(tail: Tail) -> str:
    """train loss 3.2100, val loss 3.3000 nats/token; of what is known."""
    found = zip(LOSSES, (tail.training_loss, tail.validation_loss))
    known = [
        f"{name} {units.loss(value)}" for name, value in found if value is not None
    ]
    return f"{', '.join(known)} nats/token" if known else f"{LOSSES[0]} {units.DASH}"


def verdict(cell: Cell, outcome: Outcome, seconds: float) -> str:
    """One line about a cell that ended."""
    line = f"{outcome.kind:<7} {cell.name}"
    if outcome.kind == "done":
        line += f"  val loss {units.loss(final_loss(cell))} nats/token"
        line += f"  {outcome.why or units.duration(seconds)}"
        return line
    line += f"  {outcome.why}"
    return line + (f"  ({cell.dir.train_log})" if outcome.kind == "failed" else "")


@dataclass
class Plain:
    """Lines for logs and pipes: starts, ends, and a progress line a minute."""

    plan: Plan
    verbose: bool = False
    every: float = EVERY
    _tails: dict[str, tuple[Cell, Tail, float]] = field(default_factory=dict)
    _ended: int = 0

    def started(self, cell: Cell, argv: list[str]) -> None:
        """A cell was started; its command follows with V=1."""
        self.say(f"start   {cell.name}  {cell.dir.path}")
        if self.verbose:
            self.say(f"        {shlex.join(argv)}")
        self._tails[cell.hash] = (cell, Tail(cell.dir.metrics), time.monotonic())

    def waiting(self, cell: Cell, holder: str) -> None:
        """A cell runs elsewhere."""
        self._tails.pop(cell.hash, None)
        self.say(f"running elsewhere: {cell.name} in {holder}; waiting for it")

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        """A cell came to an end."""
        self._tails.pop(cell.hash, None)
        self._ended += 1
        count = f"[{self._ended}/{len(self.plan.pending)}]"
        self.say(f"{verdict(cell, outcome, seconds)}  {count}")

    def log(self, cell: Cell, lines: list[str]) -> None:
        """The end of a failed cell's log."""
        for line in lines:
            self.say(f"    | {line}")

    def say(self, text: str) -> None:
        """One line, at once."""
        print(text, flush=True)

    def refresh(self) -> None:
        """A progress line for each cell that had none for a while."""
        for key, (cell, tail, last) in list(self._tails.items()):
            if time.monotonic() - last < self.every:
                continue
            tail.poll()
            self._tails[key] = (cell, tail, time.monotonic())
            self.say(
                f"        {cell.name}  step {tail.step}/{tail.steps or '?'}"
                f"  {losses(tail)}  {units.count(tail.rate)} tokens/s"
                f"  {units.duration(tail.remaining)} left"
            )

    def close(self) -> None:
        """Nothing to put back."""


class Terminal:
    """A table that redraws itself; what ended scrolls above it."""

    def __init__(self, plan: Plan, console: Console, verbose: bool = False):
        self.plan, self.console, self.verbose = plan, console, verbose
        self._tails: dict[str, tuple[Cell, Tail, str]] = {}
        self._ended = 0
        self._drawn = 0.0
        self._live = Live(
            self._table(), console=console, auto_refresh=False, transient=True
        )
        self._live.start()

    def started(self, cell: Cell, argv: list[str]) -> None:
        """A cell gets its line; its command is shown with V=1."""
        if self.verbose:
            self.say(shlex.join(argv))
        self._tails[cell.hash] = (cell, Tail(cell.dir.metrics), "running")

    def waiting(self, cell: Cell, holder: str) -> None:
        """A cell that runs elsewhere gets its line."""
        state = f"running elsewhere ({holder})"
        self._tails[cell.hash] = (cell, Tail(cell.dir.metrics), state)

    def ended(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        """The verdict scrolls up, the line goes."""
        self._tails.pop(cell.hash, None)
        self._ended += 1
        style = {"done": "green", "failed": "red"}.get(outcome.kind, "yellow")
        self.say(verdict(cell, outcome, seconds), style)

    def log(self, cell: Cell, lines: list[str]) -> None:
        """The end of a failed cell's log."""
        for line in lines:
            self.say(f"    | {line}")

    def say(self, text: str, style: str | None = None) -> None:
        """One line above the table."""
        self.console.print(Text(text, style=style or ""), soft_wrap=True)

    def refresh(self) -> None:
        """Redraw, four times a second at most."""
        if time.monotonic() - self._drawn < 0.25:
            return
        self._drawn = time.monotonic()
        for _, tail, _ in self._tails.values():
            tail.poll()
        self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        """Remove the table; the verdicts above it stay."""
        self._live.stop()

    def _table(self) -> Table:
        title = f"{self.plan.settings.label}: {self._ended} of "
        title += f"{len(self.plan.pending)} ended"
        table = Table(title=escape(title), title_justify="left", expand=False)
        columns = ("cell", "state", "step", *LOSSES, "tokens/s", "left")
        for name in columns:
            justify = "left" if name in ("cell", "state") else "right"
            table.add_column(name, justify=justify)
        for cell, tail, state in self._tails.values():
            table.add_row(
                escape(cell.name),
                escape(state),
                f"{tail.step}/{tail.steps or '?'}",
                units.loss(tail.training_loss),
                units.loss(tail.validation_loss),
                units.count(tail.rate),
                units.duration(tail.remaining),
            )
        return table


def display(plan: Plan, verbose: bool) -> Display:
    """A table on a terminal, lines otherwise. Without colours where NO_COLOR is set."""
    console = Console(force_terminal=sys.stdout.isatty())  # not by FORCE_COLOR
    if console.is_terminal:
        return Terminal(plan, console, verbose)
    return Plain(plan, verbose)
