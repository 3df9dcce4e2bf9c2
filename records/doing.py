"""A line that says what is being done, for what may take seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from records.durations import duration

FIRST, AGAIN, REDRAW = 1.0, 10.0, 0.5
"""Seconds: to the first line without a terminal, between two, between two drawings."""


class Activity:
    """What is being done, and for how long, on stderr: on a terminal at once, wiped at the
    end; elsewhere a line once it has taken FIRST seconds, and one more every AGAIN.
    """

    def __init__(self, text: str):
        self._stream, self._text = sys.stderr, text
        self._began = time.monotonic()
        self._terminal = self._stream.isatty()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="doing", daemon=True)
        if self._terminal:
            self._show()
        self._thread.start()

    def now(self, text: str) -> None:
        """Something else is being done from here on."""
        self._text = text

    def note(self, line: str) -> None:
        """A line for standard output, in between."""
        if self._terminal:
            self._write("\r\x1b[K")
        print(line, flush=True)
        if self._terminal:
            self._show()

    def end(self) -> None:
        """Nothing more is said; the terminal's line is wiped. Once is enough."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            if self._terminal:
                self._write("\r\x1b[K")

    def _tell(self) -> None:
        wait = REDRAW if self._terminal else FIRST
        while not self._over.wait(wait):
            wait = REDRAW if self._terminal else AGAIN
            self._show()

    def _show(self) -> None:
        seconds = int(time.monotonic() - self._began)
        shown = f"{self._text}, {duration(seconds)}" if seconds > FIRST else self._text
        self._write(f"\r\x1b[K{shown} …" if self._terminal else f"{shown} …\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


@contextmanager
def doing(text: str) -> Iterator[Activity]:
    """While entered, `text` is what is being done."""
    activity = Activity(text)
    try:
        yield activity
    finally:
        activity.end()
