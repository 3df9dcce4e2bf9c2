"""Two processes: they share the steps out, then are two ranks of one training.

One thread each: a small model gains nothing from a second one, and two cores
are the smallest machine that is asked to check every study in a minute.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from gpt2.check.prove import Case, Recorded, prove
from gpt2.check.ranks import join, two_ranks
from gpt2.check.table import Verdict

SPAWN = multiprocessing.get_context("spawn")


class PartnerLost(RuntimeError):
    """The second process ended; what it printed stands above."""


class Pair:
    """This process and a partner, started once. Use it in a with statement."""

    def __init__(self):
        self.pipe, far = SPAWN.Pipe()
        self.taken = SPAWN.Value("i", 0)
        self.folder = tempfile.TemporaryDirectory()
        self.store = str(Path(self.folder.name) / "store")
        arguments = (far, self.taken, self.store)
        self.partner = SPAWN.Process(target=_serve, args=arguments, daemon=True)
        self.partner.start()
        far.close()

    def __enter__(self) -> "Pair":
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_) -> None:
        self.pipe.close()
        self.partner.join(timeout=5)
        if self.partner.is_alive():
            self.partner.kill()
            self.partner.join()
        self.folder.cleanup()

    def prove(self, cases: list[Case], progress: Callable[[int], None]) -> list[Case]:
        """Every case proven, by whichever process was free. Raises PartnerLost."""
        self._send(cases)
        own = _share(cases, self.taken, progress)
        proven = {**own, **self._receive()}
        return [proven[index] for index in range(len(cases))]

    def two_ranks(self, cases: list[Case]) -> None:
        """The proof that takes both processes at once, into each verdict. A case
        that the partner does not live through is broken, and so is every one
        after it. Raises PartnerLost when it has ended before.
        """
        self._send([case.subject for case in cases])
        if cases:
            join(0, self.store)
        for case in cases:
            with Recorded(case.verdict):
                case.verdict.promise = "two ranks"
                two_ranks(case.subject, 0)
                case.verdict.proofs.append("two ranks")
                case.verdict.promise = None
        if cases:
            torch.distributed.destroy_process_group()

    def _send(self, what: object) -> None:
        try:
            self.pipe.send(what)
        except OSError as error:
            raise PartnerLost(PartnerLost.__doc__) from error

    def _receive(self) -> dict[int, Case]:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise PartnerLost(PartnerLost.__doc__) from error


def _share(
    cases: list[Case], taken, progress: Callable[[int], None]
) -> dict[int, Case]:
    """Take the next case that nobody has taken, until none is left."""
    done = {}
    while True:
        with taken.get_lock():
            index, taken.value = taken.value, taken.value + 1
        progress(index)
        if index >= len(cases):
            return done
        prove(cases[index])
        done[index] = cases[index]


def _serve(pipe: Connection, taken, store: str) -> None:
    """The partner's life; it ends when the other side closes the pipe."""
    torch.set_num_threads(1)
    try:
        pipe.send(_share(pipe.recv(), taken, lambda index: None))
        subjects = pipe.recv()
    except EOFError:
        return
    if subjects:
        join(1, store)
    for subject in subjects:
        with Recorded(Verdict("", subject.name, "", "")):
            two_ranks(subject, 1)
