"""A clock by itself, and the bar of a terminal."""

import io
import sys

import pytest

from gpt2.training import clock
from gpt2.training.trainer import _step_line
from records import progress_line
from tests.gpt2.script import Script


def test_a_clock_by_itself():
    """Between start and pause it counts, with what the device still does."""
    script = Script()
    patch = pytest.MonkeyPatch()
    patch.setattr(clock, "time", script.clocks)
    one = clock.Clock(3.0, lambda: script.synchronize("cpu"))

    def passes(seconds: float, queued: float = 0.0) -> None:
        script.now, script.queued = script.now + seconds, script.queued + queued

    passes(1)
    assert one.read() == 3.0
    passes(1, queued=16)
    one.start()  # what was queued before is not its work
    passes(2, queued=4)
    assert one.read() == one.seconds == 9.0
    passes(1, queued=8)
    one.pause()
    assert one.seconds == 18.0
    passes(32)
    assert one.read() == 18.0
    one.start()
    passes(0.5)
    one.start()  # drops what ran since the last reading
    passes(0.25)
    assert one.read() == 18.25
    patch.undo()


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    """A quarter done in 10 s since step 2: 30 s to go, five of twenty marks."""
    script, stream = Script(), Terminal()
    monkeypatch.setattr(progress_line, "time", script.clocks)
    monkeypatch.setattr(sys, "stdout", stream)
    shown = progress_line.Steps(42, 2)
    script.now += 10
    row = {"step": 11, "loss": 2.5, "lr": 3e-4, "tokens_per_s": 1234.5, "mfu": 0.1234}
    shown.step(12, _step_line(row))
    line = "step 12/42  train loss 2.5000 nats/token  lr 3.00e-04  1,234 tokens/s  MFU 12.3 %  ETA 30s"
    bar = f"[{'#' * 6}{'.' * 14}] {line}"
    assert stream.getvalue() == f"\r\033[K{bar}"
    shown.note("said")
    assert stream.getvalue() == f"\r\033[K{bar}\r\033[Ksaid\n"
