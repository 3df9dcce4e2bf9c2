"""Two processes: they share the steps out, then are two ranks of one training.

One thread each: a small model gains nothing from a second one, and two cores
are the smallest machine that is asked to check every study in a minute.
"""

import multiprocessing
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from gpt2.check.proofs.ranks import joined, two_ranks
from gpt2.check.prove import Case, Recorded, prove
from gpt2.check.table import Verdict
from records.entry import shielded

SPAWN = multiprocessing.get_context("spawn")
# Seconds for the second process to end once nothing is left for it to do.
PATIENCE = 30


class PartnerLost(RuntimeError):
    """The second process ended early or badly; the message says how and at what."""


class Pair:
    """This process and a partner, started once. Use it in a with statement.

    Leaving it well raises PartnerLost where the partner does not end with status 0.
    """

    def __init__(self):
        self.pipe, far = SPAWN.Pipe()
        self.taken = SPAWN.Value("i", 0)
        self.folder = tempfile.TemporaryDirectory()
        self.store = str(Path(self.folder.name) / "store")
        arguments = (far, self.taken, self.store)
        self.partner = SPAWN.Process(target=_serve, args=arguments, daemon=True)
        with shielded():
            self.partner.start()
        far.close()

    def __enter__(self) -> "Pair":
        torch.set_num_threads(1)
        return self

    def __exit__(self, kind, *_) -> None:
        self.pipe.close()
        self.partner.join(PATIENCE if kind is None else 0)
        well = kind is not None or self.partner.exitcode == 0
        lost = None if well else self._lost("after its last proof")
        self.partner.kill()
        self.partner.join()
        self.folder.cleanup()
        if lost is not None:
            raise lost

    def prove(self, cases: list[Case], progress: Callable[[int], None]) -> list[Case]:
        """Every case proven, by whichever process was free. Raises PartnerLost."""
        self._send(cases, "before the first proof")
        own = _share(cases, self.taken, progress)
        others = [index for index in range(len(cases)) if index not in own]
        if others:
            verdict = cases[others[-1]].verdict
            at = f"while it proved {verdict.study} {verdict.step}"
        else:
            at = "before the first proof"
        proven = {**own, **self._receive(at)}
        return [proven[index] for index in range(len(cases))]

    def two_ranks(self, cases: list[Case]) -> None:
        """The proof that takes both processes at once, into each verdict. A case
        that the partner does not live through is broken, and so is every one
        after it. Raises PartnerLost when it has ended before.
        """
        at = "before the proofs of two ranks"
        self._send([case.subject for case in cases], at)
        if not cases:
            return
        try:
            with joined(0, self.store):
                for case in cases:
                    with Recorded(case.verdict, "two ranks"):
                        two_ranks(case.subject, 0)
                        case.verdict.proofs.append("two ranks")
        except RuntimeError as error:
            raise self._lost(at) from error

    def _send(self, what: object, at: str) -> None:
        try:
            self.pipe.send(what)
        except OSError as error:
            raise self._lost(at) from error

    def _receive(self, at: str) -> dict[int, Case]:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._lost(at) from error

    def _lost(self, at: str) -> PartnerLost:
        """How the partner ended, and what it was at."""
        self.partner.join(PATIENCE)
        code = self.partner.exitcode
        if code is None:
            return PartnerLost(f"the second process does not answer {at}")
        how = f"with status {code}"
        if code < 0:
            how = f"by signal {-code}, {signal.Signals(-code).name},"
        said = "what it said stands above"
        return PartnerLost(f"the second process ended {how} {at}: {said}")


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
    if not subjects:
        return
    with joined(1, store):
        for subject in subjects:
            with Recorded(Verdict("", subject.name, "", ""), "two ranks"):
                two_ranks(subject, 1)
