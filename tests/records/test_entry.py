"""How a program ends: its status and its last line, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from records import entry
from records.readable import plain

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, signal, sys, time
sys.path[0] = {root!r}
from records import entry
from records.doing import doing
def main(arguments):
    {body}
    return 0
if __name__ == "__main__":
    entry.run(main, {goes_on!r})
"""


@pytest.fixture
def program(tmp_path):
    """words = program(body): a python command that runs it as `main`."""

    def write(body: str, goes_on: str = "") -> list[str]:
        path = tmp_path / "program.py"
        text = PROGRAM.format(root=str(ROOT), body=body, goes_on=goes_on)
        path.write_text(text, encoding="utf-8")
        return [sys.executable, str(path)]

    return write


def ended(words: list[str], **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        words, capture_output=True, env={**os.environ, **environment}, timeout=60
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def interrupted(words: list[str], number: int = signal.SIGINT) -> tuple[int, str]:
    """The status and the output of a program that prints a line, then is signalled."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    first = process.stdout.readline()
    began = time.monotonic()
    os.killpg(process.pid, number)
    rest, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert "Traceback" not in rest
    return process.returncode, first + rest


def test_the_status_is_that_of_main(program):
    assert ended(program("return 3")).returncode == 3
    done = ended(program("sys.exit('error: no')"))
    assert (done.returncode, done.stderr) == (1, b"error: no\n")


WAITS = 'print("ready", flush=True); time.sleep(30)'


def test_an_interrupt_is_a_line_and_130(program):
    assert interrupted(program(WAITS)) == (130, "ready\ninterrupted\n")
    status, output = interrupted(program(WAITS, "make data"))
    assert output == "ready\ninterrupted; make data goes on from here\n"


def test_an_interrupt_while_modules_are_imported(program):
    """No library turns it into something else, or goes on without half of itself."""
    body = f"""
    with entry.importing():
        try:
            {WAITS}
        except BaseException:
            print("swallowed", flush=True)"""
    assert interrupted(program(body)) == (130, "ready\ninterrupted\n")


def test_sigterm_leaves_what_was_entered(program):
    body = f"""
    try:
        {WAITS}
    finally:
        print("left")"""
    assert interrupted(program(body), signal.SIGTERM) == (143, "ready\nleft\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_left(program, stream):
    """141, though the program takes an OSError for a file's and goes on."""
    body = f"""
    try:
        print("x" * 100_000, file=sys.{stream}, flush=True)
    except OSError as error:
        print("error:", error)"""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    process = subprocess.Popen(program(body), **streams)
    os.close(writer)
    said = b"".join(filter(None, process.communicate(timeout=30)))
    assert (process.returncode, said) == (141, b"")


def test_an_output_that_is_full_or_closed(program):
    body = 'print("x" * 100_000); sys.stdout.flush()'
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program(body), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"error: the output: No space left on device\n"
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *program(body)]
    assert ended(words).returncode == 0


TEXT = "0.028–0.060 ± 2 × 10² → ≥ 5 … é λ"
ASCII = "0.028-0.060 +/- 2 x 10^2 -> >= 5 ... e lambda"
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("how", [{"PYTHONIOENCODING": "ascii"}, BARE])
def test_what_a_terminal_lacks_is_written_in_ascii(program, how):
    done = ended(program(f"print({TEXT!r}); print({TEXT!r}, file=sys.stderr)"), **how)
    assert done.returncode == 0
    assert done.stdout.decode("ascii") == f"{ASCII}\n"
    assert done.stderr.decode("ascii") == f"{ASCII}\n"
    latin = {"PYTHONIOENCODING": "latin-1"}
    shown = ended(program('print("é ≥ ²")'), **latin).stdout
    assert shown == "é >= ²\n".encode("latin-1")


def test_a_name_beyond_ascii_in_a_bare_locale(program, tmp_path):
    """As a word and as a file, which the C locale alone would not let us have."""
    body = 'open(sys.argv[1], "w", encoding="utf-8").write(sys.argv[2])'
    words = [*program(body), str(tmp_path / "größe"), "naïve"]
    assert ended(words, **BARE).returncode == 0
    assert (tmp_path / "größe").read_text(encoding="utf-8") == "naïve"


def test_every_character_of_ours_has_a_form_in_ascii():
    """What the rooms print is readable: no number of a character stands for one."""
    rooms = ("gpt2", "kconf", "kernels", "matrix", "records", "scripts")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    used = {c for path in paths for c in path.read_text(encoding="utf-8")}
    shown = {c: plain(c) for c in used if ord(c) > 127}
    numbers = [c for c, text in shown.items() if "\\u" in text]
    assert shown["≥"] == ">=" and set(numbers) <= set("⌈⌉")


POOL = """
    with entry.pool(2) as pool:
        with entry.shielded():
            idle = pool.submit(int)
            waiting = [pool.submit(time.sleep, 30)]
        idle.result()
        deadline = time.monotonic() + 30
        while not waiting[0].running() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        print("ready", flush=True)
        waiting[0].result()"""


def test_an_interrupt_ends_a_pool_of_processes(program):
    """At once; none of them says anything, neither at work nor idle."""
    assert interrupted(program(POOL)) == (130, "ready\ninterrupted\n")


def test_who_waits_for_a_program_of_ours_lets_it_end(program, tmp_path):
    """Ctrl-C reaches both: the inner one takes its time, and its status counts."""
    inner = tmp_path / "inner.py"
    inner.write_text(
        "import signal, sys, time\n"
        "def slow(*_):\n"
        "    time.sleep(0.5); print('saved', flush=True); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, slow)\n"
        "print('ready', flush=True); time.sleep(30)\n"
    )
    body = f"return entry.delegate([sys.executable, {str(inner)!r}], {str(tmp_path)!r})"
    assert interrupted(program(body)) == (130, "ready\nsaved\n")


def test_what_takes_long_is_said(program, monkeypatch):
    body = "import records.doing; records.doing.FIRST = 0.1"
    words = program(body + "; exec(\"with doing('packing'): time.sleep(0.5)\")")
    assert ended(words).stderr.decode() == "packing …\n"
    body = "exec(\"with doing('packing'): time.sleep(0.1)\")"
    assert ended(program(body)).stderr == b""


def test_the_status_of_a_stop(capsys):
    entry.say_stopped(entry.TERMINATED, "make")
    assert capsys.readouterr().err == "stopped; make goes on from here\n"
