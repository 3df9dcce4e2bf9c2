"""Loss on the fixed evaluation windows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gpt2.data.documents import starts_of
from gpt2.distributed.ranks import ALONE, Ranks
from gpt2.model.gpt import GPT
from gpt2.training.unit_losses import UnitLosses


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy over all windows, in three units."""

    loss: float
    perplexity: float
    bits_per_byte: float


@torch.no_grad()
def evaluate(
    model: GPT,
    windows: np.ndarray,
    micro_batch: int,
    bytes_per_token: float,
    device: str,
    autocast: torch.autocast,
    between: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
    separator: int | None = None,
    losses: UnitLosses | None = None,
) -> Evaluation:
    """Loss in nats/token, exp(loss), and bits/byte = loss / (ln 2 · bytes/token).

    windows: int64 (n, T+1), the same for every arm, and every target of them counts
    in all; bytes_per_token: of the text that these targets stand for. losses: takes
    the loss of each of them, which changes no other number. separator: for a model
    whose documents do not see each other; it predicts the same targets from less.
    `between` is called before every micro-batch. The mode of the model is restored;
    no random number is drawn.
    The ranks take the micro-batches in turn and all get the result, whose sum runs
    in the order of one process.
    """
    was_training = model.training
    model.eval()
    starts = range(0, len(windows), micro_batch)
    sums = torch.zeros(len(starts), dtype=torch.float64)
    for number in range(ranks.rank, len(starts), ranks.world):
        between()
        start = starts[number]
        rows = torch.from_numpy(windows[start : start + micro_batch]).to(device)
        with autocast:
            starts_BT = starts_of(rows[:, :-1], separator)
            if losses is None:
                loss = model(rows[:, :-1], rows[:, 1:], starts_BT)
            else:
                loss, loss_BT = model.losses(rows[:, :-1], rows[:, 1:], starts_BT)
                losses.add(start, loss_BT)
        sums[number] = loss.item() * len(rows)
    model.train(was_training)
    mean = sum(ranks.sum_(sums).tolist()) / len(windows)
    perplexity = math.exp(mean) if mean < 700 else math.inf
    return Evaluation(mean, perplexity, mean / (math.log(2) * bytes_per_token))
