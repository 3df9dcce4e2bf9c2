"""What storing weights in fewer bits does to the perplexity.

Legend: B windows, T inputs, V tokens of the tokenizer.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gpt2.data.documents import starts_of
from gpt2.data.loading.loader import EvalWindows, TokenStream
from gpt2.data.shards import ShardError
from gpt2.export.bundle import ExportError, Parcel
from gpt2.generation.generate import Trained
from gpt2.settings.run import DataSettings
from kconf import config_py
from kconf.bind import build
from records import history, read
from records.layout import CellDir
from records.manifest import NAME, ManifestError

TOKENS = 4096
"""Targets that are scored: some windows of the text, evenly over it."""
TEXT = Path(__file__).resolve().parents[2] / "README.md"
"""Scored where the run's own validation data is gone."""


def perplexity_change(run: Path, trained: Trained, parcel: Parcel) -> str:
    """A line: the perplexity of the trained and of the stored weights, on the run's
    validation data or, where that is gone, on TEXT.

    Raises ExportError for validation data that is damaged.
    """
    windows_BT, text = _windows(run, trained)
    before, after = (perplexity(each, windows_BT) for each in (trained, parcel))
    return (
        f"perplexity: {before:,.4f} in fp32, {after:,.4f} in {parcel.papers['dtype']} "
        f"({after / before - 1:+.3%}), over {windows_BT[:, 1:].numel():,} tokens of {text}"
    )


@torch.no_grad()
def perplexity(trained: Trained | Parcel, windows_BT: torch.Tensor) -> float:
    """exp of the mean loss of x_1 … x_T of every window, over the tokenizer's tokens."""
    model, tokenizer, total = trained.model, trained.tokenizer, 0.0
    separator = tokenizer.eot if model.settings.documents_apart else None
    for row_1T in windows_BT.split(1):
        inputs_1T, target_T = row_1T[:, :-1], row_1T[0, 1:]
        logits_1TV = model(inputs_1T, starts_BT=starts_of(inputs_1T, separator))
        logits_TV = logits_1TV[0, :, : tokenizer.vocab_size]
        total += F.cross_entropy(logits_TV, target_T, reduction="sum").item()
    return math.exp(total / windows_BT[:, 1:].numel())


def _windows(run: Path, trained: Trained) -> tuple[torch.Tensor, str]:
    """int64 (B, T + 1), and whose they are."""
    context = trained.context
    cell = CellDir(run)
    values = history.completed(config_py.read(cell.config_py).values)
    data = build(DataSettings, values)
    packed = Path(read.trained(cell.run_json).get("data_dir", data.directory))
    if (packed / NAME).exists():
        try:
            stream = TokenStream(packed, "val", data.tokenizer)
            windows = EvalWindows(stream, context, max(TOKENS // context, 1))
        except (ManifestError, ShardError, ValueError) as error:
            raise ExportError(f"the run's validation data: {error}") from error
        rows = windows.rows(np.arange(len(windows)))
        return torch.from_numpy(rows), "the run's validation data"
    tokens = trained.tokenizer.encode(TEXT.read_bytes())[: TOKENS + 1].astype(np.int64)
    length = min(context, len(tokens) - 1)
    count = (len(tokens) - 1) // length
    starts = np.arange(count) * length
    rows = tokens[starts[:, None] + np.arange(length + 1)]
    where = f"this checkout's {TEXT.name}, as the run's validation data is not at "
    return torch.from_numpy(rows), f"{where}{packed}"
