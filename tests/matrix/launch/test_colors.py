"""NO_COLOR and FORCE_COLOR, on a terminal and in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.matrix.conftest import RUN

ROOT = Path(__file__).resolve().parents[3]
COLOR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m")
WATCH = "import sys; from pathlib import Path; from matrix.watch import watch; "
WATCH += "watch(Path(sys.argv[1]), len(sys.argv) > 2)"


def on_a_terminal(argv: list[str], **environment: str) -> str:
    """What a command writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0, said.decode()
    return said.decode()


def command(checkout) -> list[str]:
    """The runner, on one cell."""
    return [sys.executable, "-c", RUN, str(checkout.root)]


@pytest.mark.parametrize("given", [{}, {"NO_COLOR": "1"}])
def test_the_table_of_a_run(checkout, given):
    environment = {"STEPS": "0", "SEEDS": "1", **given}
    said = on_a_terminal(command(checkout), **environment)
    assert "done    00-control seed-1" in said and "\x1b[" in said  # a live table
    assert (COLOR.search(said) is None) == bool(given)


def test_watch(checkout):
    """A table that goes on for ever is for a terminal; FORCE_COLOR makes none."""
    study = checkout.root / "results" / "toy"
    study.mkdir(parents=True)
    watch = [sys.executable, "-c", WATCH, str(study)]
    assert not COLOR.search(on_a_terminal([*watch, "once"], NO_COLOR="1"))
    given = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(watch, cwd=ROOT, env=given, capture_output=True, timeout=60)
    assert b"no cell has" in done.stdout and b"\x1b" not in done.stdout


def test_a_pipe_is_no_terminal(checkout):
    """FORCE_COLOR asks for colours, not for a table that redraws itself in a log."""
    process = checkout.start(STEPS="0", SEEDS="1", FORCE_COLOR="1", TERM="xterm")
    said, _ = process.communicate()
    assert process.returncode == 0 and "start   00-control seed-1" in said
    assert "\x1b" not in said
