"""How far something is: one line that moves on a terminal, else whole lines."""

import sys
import time
from typing import TextIO

from records.durations import duration

TERMINAL_SECONDS, PLAIN_SECONDS = 0.1, 10.0
MARKS = 20
"""Of a bar."""


class ProgressLine:
    """A line on a stream (stderr), redrawn on a terminal; nothing where it is quiet."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False):
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.quiet = quiet
        self.began = time.monotonic()

    def show(self, text: str) -> None:
        """The line now; a line of its own where there is no terminal."""
        self._write(f"\r\033[K{text}" if self.terminal else f"{text}\n")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._write(f"\r\033[K{text}\n" if self.terminal else f"{text}\n")

    def close(self) -> None:
        """Wipe the terminal's line."""
        if self.terminal:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        if not self.quiet:
            self.stream.write(text)
            self.stream.flush()


class Counted(ProgressLine):
    """Counts towards a total: `packing: 25% of 4.0 MB, 0.1 MB/s, 1m 00s left`.

    A total of None is not known: the line then has no share and no time left; it may
    grow while it is counted. scale: of the numbers shown, in `unit`.

    Elsewhere than on a terminal a line is written every ten seconds, hence none for a
    short job.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        stream: TextIO | None = None,
        scale: float = 1e6,
        unit: str = "MB",
    ):
        super().__init__(stream)
        self.label, self.total = label, total
        self.scale, self.unit = scale, unit
        self.done = 0
        self._last = self.began

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS):
            self._last = now
            self.show(self._text(now))

    def _text(self, now: float) -> str:
        rate = self.done / max(now - self.began, 1e-9)
        speed = f"{self._amount(rate)}/s"
        if self.total is None:
            return f"{self.label}: {self._amount(self.done)}, {speed}"
        left = duration(max(self.total - self.done, 0) / rate)
        share = f"{self.done / self.total:.0%} of {self._amount(self.total)}"
        return f"{self.label}: {share}, {speed}, {left} left"

    def _amount(self, count: float) -> str:
        shown = count / self.scale
        whole = self.scale == 1 and (shown >= 10 or shown == round(shown))
        return f"{shown:,.0f} {self.unit}" if whole else f"{shown:.1f} {self.unit}"


class Steps(ProgressLine):
    """Steps of a run that has `start` of `total` behind it, on stdout."""

    def __init__(self, total: int, start: int, quiet: bool = False):
        super().__init__(sys.stdout, quiet)
        self.total, self.start = total, start

    def step(self, done: int, text: str) -> None:
        """`step 12/42  TEXT  ETA 30s`, behind a bar on a terminal."""
        spent = time.monotonic() - self.began
        left = (self.total - done) * spent / max(done - self.start, 1)
        line = f"step {done}/{self.total}  {text}  ETA {duration(left)}"
        filled = round(MARKS * done / self.total)
        bar = f"[{'#' * filled}{'.' * (MARKS - filled)}] " if self.terminal else ""
        self.show(bar + line)
