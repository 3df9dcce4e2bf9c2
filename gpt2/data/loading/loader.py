"""From a packed split to batches, as a pure function of (seed, sample).

Legend: T context length, n tokens of the split. A sample is a window of T+1
tokens: T inputs and, shifted by one, T targets. Windows lie at stride T and may
cross shards and documents, so every token is a target once.

Epoch e of seed s shifts all windows by an offset in 0..T-1 and visits them in
the order of a permutation, both keyed by (s, e). The number of windows is the
same for every offset, floor(n/T) - 1, hence fewer than 2T tokens at the ends
are left out of an epoch, other ones each time. Sample i of a run is window
i mod W of epoch i div W; nothing is counted or remembered, so a run resumes by
its number of steps, and micro-batches, accumulation and ranks only cut the
same sequence differently.
"""

import hashlib
import queue
import threading
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch

from gpt2.data.permutation import Permutation
from gpt2.data.shards import ShardError, open_split
from records.manifest import NAME, read_manifest


class TokenStream:
    """The tokens of one split, memory-mapped, as if in one piece."""

    def __init__(
        self,
        directory: Path,
        split: str,
        tokenizer: str | None = None,
        vocab_size: int | None = None,
        full: bool | None = None,
    ):
        """directory: of dataset.json; split: "train" or "val".

        tokenizer: CONFIG_TOKENIZER's name, must be the manifest's; vocab_size:
        the model's, at least the manifest's; full: as in shards.open_split.
        Raises MissingDataset, ManifestError and ShardError.
        """
        directory = Path(directory)
        manifest = read_manifest(directory)
        where = directory / NAME
        if tokenizer is not None and tokenizer != manifest.tokenizer:
            raise ShardError(where, f"tokenizer {manifest.tokenizer}", tokenizer)
        if vocab_size is not None and vocab_size < manifest.vocab_size:
            raise ShardError(
                where,
                f"a vocabulary of {manifest.vocab_size}",
                f"at most CONFIG_GPT2_VOCAB_SIZE={vocab_size}",
            )
        self.name = f"{where} split {split}"
        self.split = manifest.splits[split]
        self.shards = open_split(directory, manifest, split, full)
        self.tokens = self.split.tokens
        self._ends = np.cumsum([len(shard) for shard in self.shards])

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """tokens[start : start + length] of each start; int64 (len, length).

        Raises IndexError when a row leaves the split.
        """
        starts = np.asarray(starts, np.int64)
        if (
            starts.size
            and not 0 <= starts.min() <= starts.max() <= self.tokens - length
        ):
            raise IndexError(
                f"rows of {length} tokens at {starts.min()}..{starts.max()}, "
                f"{self.name} has {self.tokens}"
            )
        out = np.empty((len(starts), length), np.int64)
        first = np.searchsorted(self._ends, starts, side="right")
        for row, start, number in zip(out, starts.tolist(), first.tolist()):
            done = 0
            while done < length:
                shard = self.shards[number]
                at = start + done - (int(self._ends[number]) - len(shard))
                piece = shard[at : at + length - done]
                row[done : done + len(piece)] = piece
                done += len(piece)
                number += 1
        return out


class TrainWindows:
    """Training samples of one seed: row i is a pure function of (seed, i)."""

    def __init__(
        self, stream: TokenStream, context: int, seed: int, aligned: bool = False
    ):
        """aligned: the split is rows of T tokens, and windows begin where they do: the
        offset of every epoch is 0. Raises ValueError when the split is shorter than one
        window.
        """
        _check_length(stream, context)
        self.stream, self.context, self.seed = stream, context, seed
        self.windows = max(stream.tokens // context - 1, 1)
        spare = min(context, stream.tokens - self.windows * context)
        self._offsets = 1 if aligned else spare
        self._cache: dict[int, tuple[int, Permutation]] = {}

    def epoch(self, number: int) -> tuple[int, Permutation]:
        """(offset, order of the windows) of an epoch."""
        if number not in self._cache:
            key = f"data:{self.seed}:{number}"
            digest = hashlib.sha256(f"{key}:offset".encode()).digest()
            offset = int.from_bytes(digest[:8], "little") % self._offsets
            self._cache = dict(list(self._cache.items())[-3:])
            self._cache[number] = offset, Permutation(self.windows, key)
        return self._cache[number]

    def starts(self, indices: np.ndarray) -> np.ndarray:
        """Position of each sample's first token; int64 (len,)."""
        indices = np.asarray(indices, np.int64)
        if indices.size and indices.min() < 0:
            raise IndexError(f"sample {indices.min()}, samples count from 0")
        epochs, places = np.divmod(indices, self.windows)
        starts = np.empty_like(indices)
        for number in np.unique(epochs).tolist():
            offset, order = self.epoch(number)
            here = epochs == number
            starts[here] = offset + self.context * order(places[here])
        return starts

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The samples; int64 (len, T+1). Index i counts from 0 without end."""
        return self.stream.rows(self.starts(indices), self.context + 1)

    def close(self) -> None:
        """Nothing is open: shards are mapped."""


class EvalWindows:
    """Fixed windows whose targets do not overlap, evenly over the split."""

    def __init__(self, stream: TokenStream, context: int, count: int):
        """count: wanted; len() says how many there are.

        Raises ValueError when the split is shorter than one window.
        """
        _check_length(stream, context)
        self.stream, self.context = stream, context
        available = (stream.tokens - 1) // context
        count = min(count, available)
        self.starts = np.arange(count) * available // count * context

    def __len__(self) -> int:
        return len(self.starts)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The windows of these numbers, 0..len-1; int64 (len, T+1)."""
        return self.stream.rows(self.starts[indices], self.context + 1)


def _check_length(stream: TokenStream, context: int) -> None:
    if stream.tokens < context + 1:
        raise ValueError(
            f"{stream.name} has {stream.tokens} tokens, a window of "
            f"CONFIG_GPT2_BLOCK_SIZE={context} needs {context + 1}: use a larger "
            "corpus, another CONFIG_VAL_FRACTION or a shorter context"
        )


def micro_batch(
    position: int, micro: int, accumulation: int = 1, rank: int = 0, ranks: int = 1
) -> np.ndarray:
    """Sample indices of a rank's micro-batch number `position`; (micro,).

    Micro-batch `position` is number position mod accumulation of optimizer
    step position div accumulation. All of a step's micro-batches of all ranks
    together are samples s*EB .. s*EB + EB-1, EB = micro * accumulation * ranks.
    """
    first = (position * ranks + rank) * micro
    return np.arange(first, first + micro, dtype=np.int64)


class LoaderTimeout(RuntimeError):
    """A batch did not come in time."""


class Prefetcher:
    """Batches fetch(start), fetch(start+1), … as tensors, made by a thread.

    It has no state but the position: resuming is another `start`. An exception
    in the thread is raised by `next`, and again by every later `next`.
    """

    def __init__(
        self,
        fetch: Callable[[int], np.ndarray],
        start: int,
        depth: int,
        pin: bool = False,
        timeout: float | None = None,
    ):
        """depth: batches ahead, 0 for none and no thread. pin: page-locked
        memory, for a copy to a GPU that does not block. timeout: seconds that
        `next` waits for the thread, None for ever."""
        self.fetch, self.position, self.depth, self.pin = fetch, start, depth, pin
        self.timeout = timeout
        self._closed, self._error = threading.Event(), None
        self._room = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[torch.Tensor | BaseException]
        self._ready = queue.SimpleQueue()
        if depth:
            # a daemon: a read that never returns must not keep the process
            self._thread = threading.Thread(
                target=self._run, args=(start,), name="prefetch", daemon=True
            )
            self._thread.start()

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self

    def __next__(self) -> torch.Tensor:
        """The batch at `position`, which then moves on by one.

        Raises LoaderTimeout when the thread does not deliver in time.
        """
        if self._closed.is_set():
            raise RuntimeError("next() on a closed Prefetcher")
        batch = self._take() if self.depth else self._make(self.position)
        self.position += 1
        return batch

    def close(self) -> None:
        """Stop the thread; what it prepared is dropped."""
        self._closed.set()
        self._room.release()
        if self.depth and not isinstance(self._error, LoaderTimeout):
            self._thread.join()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> torch.Tensor:
        """The thread's next batch, or its error."""
        if self._error is None:
            try:
                found = self._ready.get(timeout=self.timeout)
            except queue.Empty:
                found = LoaderTimeout(
                    f"batch {self.position} did not come within {self.timeout:g} s: "
                    "is the corpus on a disk or a server that does not answer? "
                    "CONFIG_DATA_TIMEOUT sets the limit, 0 waits for ever"
                )
            self._room.release()
            if isinstance(found, torch.Tensor):
                return found
            self._error = found
        raise self._error

    def _run(self, position: int) -> None:
        """In the thread: batches from `position` on, until closed or an error."""
        while self._room.acquire() and not self._closed.is_set():
            try:
                self._ready.put(self._make(position))
            except BaseException as error:
                if self._closed.is_set():
                    raise  # nobody will ask for it
                self._ready.put(error)
                return
            position += 1

    def _make(self, position: int) -> torch.Tensor:
        batch = torch.from_numpy(self.fetch(position))
        return batch.pin_memory() if self.pin else batch
