"""How far an evaluation is: one line that moves on a terminal, else a few."""

import sys
import time
from typing import TextIO

TERMINAL_SECONDS, PLAIN_SECONDS = 0.1, 10.0


class Countdown:
    """Counts towards a total: `text.txt: 40% of 12,000 tokens, 12 s left`.

    On a terminal the line is redrawn; elsewhere a whole line is written every ten
    seconds, hence none for a short job.
    """

    def __init__(self, label: str, total: int, noun: str, stream: TextIO | None = None):
        self.label, self.total, self.noun = label, total, noun
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        terminal, now = self.stream.isatty(), time.monotonic()
        if now - self._last < (TERMINAL_SECONDS if terminal else PLAIN_SECONDS):
            return
        self._last = now
        left = (self.total - self.done) * (now - self._start) / self.done
        line = (
            f"{self.label}: {self.done / self.total:.0%} of {self.total:,} {self.noun}, "
            f"{left:.0f} s left"
        )
        self.stream.write(f"\r\033[K{line}" if terminal else f"{line}\n")
        self.stream.flush()

    def close(self) -> None:
        """Wipe the terminal's line."""
        if self.stream.isatty():
            self.stream.write("\r\033[K")
            self.stream.flush()
