"""menuconfig on a terminal whose locale or name the system does not know."""

import os
import pty
import select
import sys
import time

import pytest

from kconf import dotconfig
from tests.conftest import ROOT

DRAWN = b"Quit (prompts for save)"


@pytest.fixture
def menuconfig(tmp_path, tree):
    """status, output = menuconfig(keys, TERM=…): on a terminal of its own."""
    config = tmp_path / ".config"
    dotconfig.write(config, tree, tree.resolve([]))

    def run(keys: bytes, **environment: str) -> tuple[int, str]:
        given = {"KCONFIG_CONFIG": str(config), "TERM": "xterm", **environment}
        words = [sys.executable, "scripts/kconfig.py", "menuconfig"]
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, words, {**os.environ, **given})
        output, typed, deadline = b"", False, time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
            output += piece
            if DRAWN in output and not typed:
                typed = os.write(terminal, keys) > 0
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert b"Traceback" not in output, output.decode(errors="replace")
        return status, output.decode(errors="replace")

    return run


def test_a_locale_that_is_not_installed(menuconfig):
    status, output = menuconfig(b"q", LC_ALL="xx_YY.UTF-8")
    assert status == 0 and DRAWN.decode() in output
    assert "is not installed: C.UTF-8 instead" in output


def test_a_terminal_that_nobody_knows(menuconfig):
    status, output = menuconfig(b"q", TERM="nosuch")
    assert status == 1 and "TERM=nosuch: " in output and "try TERM=xterm" in output


def test_an_interrupt_in_the_menu(menuconfig):
    status, output = menuconfig(b"\x03")
    assert status == 130 and output.endswith("interrupted\r\n")
