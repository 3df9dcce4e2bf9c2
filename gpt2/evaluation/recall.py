"""Recall accuracy: tasks `kablate_recall_N` of runs that trained on recall rows.

Rows of N pairs are made as those of the run's corpus (gpt2/data/sources/recall.py), of
other seeds. Of the answers of a row's first round

    acc  = share for which the most probable token after the query is the value
    loss = mean of − log p(value), nats

over the tokens of the tokenizer, where no answer to the same query came before.

Legend: B rows, T bytes of a row, V tokens of the tokenizer, n answers.
"""

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gpt2.data.sources.recall import VERSION, Row, recall_row
from gpt2.evaluation.errors import EvaluationError
from gpt2.generation.generate import Trained
from gpt2.settings.recall import RecallSettings

NAME = re.compile(r"kablate_recall_([1-9][0-9]{0,3})")
ROWS = 256
"""Rows of a task without LIMIT."""


@dataclass(frozen=True)
class RecallScore:
    """Over the answers of all rows; sha256 is that of the rows."""

    sha256: str
    answers: int
    acc: float
    loss: float

    @property
    def metrics(self) -> dict[str, float]:
        """acc and loss."""
        return {"acc": self.acc, "loss": self.loss}


def pairs_of(task: str) -> int | None:
    """N of a task's name, None for another task."""
    found = NAME.fullmatch(task)
    return int(found[1]) if found else None


def source(corpus: RecallSettings) -> str:
    """What makes the rows, beside the seed and N: the identity of the task."""
    sizes = f"{corpus.keys} keys, {corpus.values} values, {corpus.length} tokens"
    return f"recall version {VERSION}, {sizes}"


def evaluation_rows(
    corpus: RecallSettings, pairs: int, seed: int, count: int
) -> list[Row]:
    """Rows of a task. Raises EvaluationError where N does not fit the corpus."""
    sizes = (pairs, corpus.keys, corpus.values, corpus.length)
    try:
        return [recall_row(f"evaluation {seed}", n, *sizes) for n in range(count)]
    except ValueError as error:
        raise EvaluationError(f"kablate_recall_{pairs}: {error}") from error


@torch.no_grad()
def score_rows(trained: Trained, rows: list[Row], batch: int) -> RecallScore:
    """The score of a model that reads rows of these lengths, `batch` to a pass."""
    digest, right, nats, answers = hashlib.sha256(), 0, 0.0, 0
    for start in range(0, len(rows), batch):
        group = rows[start : start + batch]
        text_BT = np.stack([np.frombuffer(row.text, np.uint8) for row in group])
        digest.update(text_BT.tobytes())
        tokens_BT = torch.from_numpy(text_BT.astype(np.int64)).to(trained.kind)
        logits_BTV = trained.model(tokens_BT[:, :-1])
        for row, logits_TV in enumerate(logits_BTV):
            place_n = torch.tensor(group[row].answers, device=trained.kind)
            logits_nV = logits_TV[place_n - 1, : trained.tokenizer.vocab_size]
            target_n = tokens_BT[row, place_n]
            right += int((logits_nV.argmax(dim=-1) == target_n).sum())
            lost_n = F.cross_entropy(logits_nV, target_n, reduction="none")
            nats += lost_n.double().sum().item()
            answers += len(target_n)
    return RecallScore(digest.hexdigest(), answers, right / answers, nats / answers)
