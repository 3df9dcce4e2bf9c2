"""The packed corpus as one run sees it: its batches and its fixed windows."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gpt2.data.documents import starts_of
from gpt2.data.loading.batch import Batch
from gpt2.data.loading.evaluation_text import EvaluationText
from gpt2.data.loading.loader import Prefetcher, TokenStream, micro_batch
from gpt2.data.loading.on_the_fly import train_windows
from gpt2.data.tokenization.token_bytes import token_bytes
from gpt2.settings.run import RunSettings
from records.manifest import read_manifest


class MicroBatch(NamedTuple):
    """What GPT.forward takes; starts_BT with documents apart, else None."""

    tokens_BT: torch.Tensor
    targets_BT: torch.Tensor
    starts_BT: torch.Tensor | None = None


# The micro-batches of one optimizer step.
StepBatches = list[MicroBatch]


class Corpus:
    """Train batches and evaluation windows of the corpus at `directory`.

    Raises MissingDataset, ManifestError, ShardError, and ValueError for a split
    shorter than one window.
    """

    def __init__(self, settings: RunSettings, directory: Path):
        self.manifest = read_manifest(directory)
        context, vocabulary = settings.model.block_size, settings.model.vocab_size
        val = TokenStream(directory, "val", settings.data.tokenizer, vocabulary)
        self.windows = train_windows(settings, directory, self.manifest)
        bytes_V = token_bytes(directory, self.manifest)
        self.eval_text = self.last_text = EvaluationText(
            val, context, settings.train.eval_windows, bytes_V
        )
        # What the evaluation at the end reads.
        if last := settings.train.final_eval_windows:
            self.last_text = EvaluationText(val, context, last, bytes_V)
        # The token that opens a document, where documents do not see each other.
        apart = settings.model.documents_apart
        self.separator = self.manifest.vocab_size - 1 if apart else None
        self.prefetch = settings.data.prefetch
        self.timeout = settings.data.timeout or None

    @property
    def eval_windows(self) -> np.ndarray:
        """The evaluation windows; int64 (n, T+1)."""
        return self.eval_text.windows

    @property
    def eval_sha256(self) -> str:
        """Hash of the evaluation windows: equal for arms that may be compared."""
        return self.eval_text.sha256

    @property
    def description(self) -> str:
        """One line for the log."""
        train, val = (self.manifest.splits[s] for s in ("train", "val"))
        size = f"{train.tokens:,}" if train.files else "unpacked"
        apart = ""
        if self.separator is not None:
            mean = round(val.tokens / val.documents)
            apart = f", documents apart ({mean:,} tokens each on average)"
        return (
            f"{self.manifest.corpus}, tokenizer {self.manifest.tokenizer}, "
            f"{size} + {val.tokens:,} tokens, {len(self.eval_windows)} evaluation "
            f"windows{apart}, sha256 {self.manifest.sha256[:12]}"
        )

    def batches(
        self, sizes: Batch, device: str, first: int, last: int, rank: int = 0
    ) -> Iterator[StepBatches]:
        """The rank's micro-batches of optimizer steps first … last-1."""

        def fetch(position: int) -> np.ndarray:
            return self.windows.rows(
                micro_batch(
                    position, sizes.micro, sizes.accumulation, rank, sizes.ranks
                )
            )

        start, pin = first * sizes.accumulation, device == "cuda"
        with (
            Prefetcher(fetch, start, self.prefetch, pin, self.timeout) as rows,
            closing(self.windows),  # before the thread that waits for it
        ):
            for _ in range(first, last):
                step = []
                for _ in range(sizes.accumulation):
                    batch_BT = next(rows).to(device, non_blocking=True)
                    tokens_BT, targets_BT = batch_BT[:, :-1], batch_BT[:, 1:]
                    starts_BT = starts_of(tokens_BT, self.separator)
                    step.append(MicroBatch(tokens_BT, targets_BT, starts_BT))
                yield step
