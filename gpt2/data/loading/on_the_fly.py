"""Training samples of a corpus that is read on the fly.

The training tokens of a seed are one endless sequence (gpt2/data/loading/feeder.py); sample
i is its tokens iT … iT + T, T the context, so every token is a target once. As in
packed mode a sample is a function of (seed, i): nothing about it is kept in a
checkpoint, and a run resumes by its number of steps. What makes that fast is a
journal beside dataset.json: it holds the position behind each block that any run
has read, and how many tokens lie before it, whatever the seed.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gpt2.data.loading.frames import HEAD, START
from gpt2.data.loading.loader import TokenStream, TrainWindows
from gpt2.data.packing.journal import Journal, STREAM
from gpt2.settings.run import DataSettings, RunSettings
from records.kinds import fields, name, nullable
from records.layout import read_json
from records.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]
REVISION = fields({"revision": nullable(name)})
CHOSEN = {"gpt2.data.loading.feeder": ("DATA_ON_THE_FLY",)}
"""What the child runs (records/imports.py)."""
PYTHON = (sys.executable, "-P", "-B")
CHILD = "import sys; sys.path.insert(0, {!r}); "
CHILD += "from gpt2.data.loading.feeder import main; main()"


class FeedError(OSError):
    """The corpus cannot be read on; the message says why and what helps."""


def train_windows(
    settings: RunSettings, directory: Path, manifest: Manifest
) -> "TrainWindows | LiveWindows":
    """The training samples of a run, packed or read on the fly.

    Raises what TokenStream raises, and ValueError for a split shorter than one
    window.
    """
    data, context, seed = settings.data, settings.model.block_size, settings.train.seed
    if data.on_the_fly:
        return LiveWindows(data, directory, manifest, context, seed)
    vocabulary = settings.model.vocab_size
    stream = TokenStream(directory, "train", data.tokenizer, vocabulary)
    return TrainWindows(stream, context, seed, aligned=data.recall is not None)


class LiveWindows:
    """Training samples of one seed, to be asked for in ascending order.

    Going back is possible and costs a new process. Close it in the end.
    """

    def __init__(
        self,
        settings: DataSettings,
        directory: Path,
        manifest: Manifest,
        context: int,
        seed: int,
    ):
        self.settings, self.directory, self.context = settings, directory, context
        self.seed, self.manifest = seed, manifest
        self.documents = 0
        self._journal = Journal(directory)
        self._dtype = np.dtype(manifest.dtype)
        self._child: subprocess.Popen | None = None
        self._closed = False
        self._first = self._end = self._known = 0
        self._held: list[np.ndarray] = []

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The samples; int64 (len, T+1). Index i counts from 0 without end.

        Raises FeedError.
        """
        out = np.empty((len(indices), self.context + 1), np.int64)
        for row, index in zip(out, np.asarray(indices).tolist()):
            self._read(index * self.context, row)
        return out

    def _read(self, start: int, row: np.ndarray) -> None:
        """Tokens start, start + 1, … of the sequence into `row`."""
        if self._child is None or start < self._first:
            self._open(start)
        while True:
            while self._held and self._first + len(self._held[0]) <= start:
                self._first += len(self._held.pop(0))
            if self._end >= start + len(row):
                break
            self._receive()
        place, done = start - self._first, 0
        for piece in self._held:
            taken = piece[place : place + len(row) - done]
            row[done : done + len(taken)] = taken
            place, done = max(place - len(piece), 0), done + len(taken)
            if done == len(row):
                return

    def _open(self, start: int) -> None:
        """Start a process at the last known position that is not behind `start`."""
        self._end_process()
        if self._closed:
            raise FeedError("the corpus was closed while a batch was asked for")
        position, seen = self._journal.last({"train": start})
        self._known = max(self._known, seen["train"])
        self._first = self._end = seen["train"]
        task = {
            "settings": asdict(self.settings),
            "revision": read_json(self.directory / STREAM, REVISION)["revision"],
            "source": self.manifest.source_sha256,
            "directory": str(self.directory),
            "seed": self.seed,
            "position": position or START,
        }
        self._child = subprocess.Popen(
            [*PYTHON, "-c", CHILD.format(str(ROOT))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # signals to the run are the run's own
        )
        self._child.stdin.write(json.dumps(task).encode() + b"\n")
        self._child.stdin.flush()

    def _receive(self) -> None:
        """One frame of the process."""
        child = self._child
        head = child.stdout.read(HEAD.size)
        if len(head) < HEAD.size:
            raise FeedError(
                f"the process that reads {self.manifest.origin} ended with status "
                f"{child.wait()}; train.log has what it said"
            )
        kind, count, length = HEAD.unpack(head)
        content = child.stdout.read(length)
        if kind == b"E":
            raise FeedError(content.decode())
        if kind == b"P":
            self._note(json.loads(content))
            return
        tokens = np.frombuffer(content, self._dtype)
        self._held.append(tokens)
        self._end += len(tokens)
        self._report(count)

    def _note(self, position: dict) -> None:
        """Keep a position that no run has reached before."""
        if self._end > self._known:
            self._journal.add(position, {"train": self._end})
            self._known = self._end

    def _report(self, count: int) -> None:
        every, before = self.settings.report_documents, self.documents
        self.documents += count
        if every and self.documents // every > before // every:
            print(
                f"data: {self.documents:,} documents read, {self._end:,} tokens since "
                "the beginning",
                flush=True,
            )

    def close(self) -> None:
        """End the process, also while another thread waits for it."""
        self._closed = True
        self._end_process()

    def _end_process(self) -> None:
        child, self._child = self._child, None
        self._held = []
        if child is not None:
            child.stdin.close()
            child.kill()
            child.wait()
            child.stdout.close()
