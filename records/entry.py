"""How a program begins and ends: its streams, its signals, its exit status.

Every script ends in `entry.run(main)`, and imports what takes long inside `main`, under
`importing`, once its arguments are known to be right. So an interrupt at any moment is
a line and status 130, a reader that has left is status 141, SIGTERM is 143, and what a
terminal cannot show is shown in ASCII.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from records import private, readable
from records.doing import doing

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
UNREAD = 128 + signal.SIGPIPE
UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
"""For a python whose output goes to a file or to this program."""


def run(main: Callable[[list[str]], int], goes_on: str = "") -> NoReturn:
    """Exit with the status of main(words of the command line).

    goes_on: what goes on with it after an interrupt, as in "make data".
    """
    try:
        _take_any_name()
        sys.stdout, sys.stderr = _stream(sys.stdout), _stream(sys.stderr)
        signal.signal(signal.SIGTERM, _terminate)
        status = main(sys.argv[1:])
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = INTERRUPTED
        say_stopped(status, goes_on)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is Python's own end
    sys.stdout.flush()
    sys.exit(status)


def say_stopped(status: int, goes_on: str = "") -> None:
    """The last line of what was interrupted or asked to stop, by its exit status."""
    what = "interrupted" if status == INTERRUPTED else "stopped"
    more = f"; {goes_on} goes on from here" if goes_on else ""
    sys.stdout.flush()
    print(f"{what}{more}", file=sys.stderr, flush=True)


@contextmanager
def importing(what: str = "torch") -> Iterator[None]:
    """While entered, modules that take seconds are imported, and that is said. torch
    makes folders when it is imported: they are claimed before (records/private.py).

    An interrupt ends the process there and then, with status 130: nothing is lost, and
    a library that is half imported can make something else of a KeyboardInterrupt.
    """
    sys.stdout.flush()
    if what == "torch":
        private.claim()
    before = signal.signal(signal.SIGINT, _leave)
    try:
        with doing(f"importing {what}"):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """While entered, what a person can cause and mend, an error of these kinds, ends the
    process with a line and status 1.
    """
    try:
        yield
    except kinds as error:
        raise SystemExit(f"error: {error}") from None


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started while entered never see SIGINT: who started them ends
    them. One that comes meanwhile comes to this process afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def pool(processes: int) -> "Iterator[ProcessPoolExecutor]":
    """A pool of fresh processes, to be given work under `shielded`; an error or an
    interrupt ends what they are at.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def delegate(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> int:
    """Run a program of ours in the foreground: its exit status, 128 + n after a signal.

    Ctrl-C reaches it as it reaches this process, which waits for its end; SIGTERM is
    passed on.
    """
    import subprocess

    held = signal.signal(signal.SIGINT, lambda number, frame: None)
    child = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        status = child.wait()
    except SystemExit:
        child.terminate()
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, held)
    return 128 - status if status < 0 else status


class _Standard(io.TextIOWrapper):
    """A standard stream; a process whose stream takes nothing more ends.

    With status 141 where the reader has left. It is a SystemExit, which no `except
    OSError` on the way takes for an error of a file.
    """

    def write(self, text: str) -> int:
        """As TextIOWrapper."""
        try:
            return super().write(text)
        except OSError as error:
            raise self._end(error) from None

    def flush(self) -> None:
        """As TextIOWrapper."""
        try:
            super().flush()
        except OSError as error:
            raise self._end(error) from None

    def _end(self, error: OSError) -> SystemExit:
        """What is left in the buffers goes nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        if error.errno == errno.EPIPE:
            return SystemExit(UNREAD)
        return SystemExit(f"error: the output: {error.strerror}")


def _stream(given: TextIO | None) -> TextIO:
    """The same standard stream, which refuses no character; None where it is closed."""
    if given is None:
        return open(os.devnull, "w", encoding="utf-8")
    given.flush()
    return _Standard(
        open(given.fileno(), "wb", closefd=False),
        encoding=given.encoding,
        errors=readable.ERRORS,
        line_buffering=given.line_buffering or given.write_through,
    )


def _take_any_name() -> None:
    """Start again in Python's UTF-8 mode where names of files and the words of the
    command line could be ASCII only; the terminal gets what its encoding has.
    """
    if sys.getfilesystemencoding() != "ascii":
        return
    encoding = sys.stdout.encoding if sys.stdout else "ascii"
    os.environ.update({**UTF8, "PYTHONIOENCODING": encoding})
    words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execv(sys.executable, words)


def _terminate(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does: everything that is entered is left, then the process ends."""
    raise SystemExit(128 + number)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"\r\x1b[K" * sys.stderr.isatty() + b"interrupted\n")
    os._exit(INTERRUPTED)
