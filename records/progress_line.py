"""Progress of a long read: one line that moves on a terminal, else a few."""

import sys
import time
from typing import TextIO

TERMINAL_SECONDS = 0.1
PLAIN_SECONDS = 10.0


class Meter:
    """Counts bytes towards a total and says how fast and how much longer.

    A total of None is not known: the line then has no share and no time left.
    scale and unit: of the numbers shown, where it is not bytes that are counted.

    On a terminal the line is redrawn; elsewhere a whole line is written every
    ten seconds, hence none for a short job.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        stream: TextIO | None = None,
        scale: float = 1e6,
        unit: str = "MB",
    ):
        self.label, self.total = label, total
        self.scale, self.unit = scale, unit
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.done = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """This many bytes more are done."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS):
            self._last = now
            self._show(now)

    def close(self) -> None:
        """Wipe the terminal's line."""
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def _show(self, now: float) -> None:
        rate = self.done / max(now - self._start, 1e-9)
        speed = f"{self._amount(rate)}/s"
        if self.total is None:
            line = f"{self.label} {self._amount(self.done)}, {speed}"
        else:
            left = max(self.total - self.done, 0) / rate
            line = (
                f"{self.label} {self.done / self.total:4.0%} of "
                f"{self._amount(self.total)}, {speed}, {left:.0f} s left"
            )
        self.stream.write(f"\r\033[K{line}" if self.terminal else f"{line}\n")
        self.stream.flush()

    def _amount(self, count: float) -> str:
        return f"{count / self.scale:.1f} {self.unit}"
