"""Held-out text: loss, perplexity and bits/byte with a sliding window.

A text of tokens x_1 … x_n follows the separator x_0, as a document does in
training. The model reads windows of at most T tokens, T its context, and each
window ends `stride` tokens after the one before:

    window 1 scores x_1 … x_T, each after all that precede it;
    every later window scores the next `stride` tokens, each after at least
    T - stride + 1 tokens.

Every token is scored exactly once. A stride of T costs one pass over the text;
a stride of 1 gives every token the whole context and costs n passes.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.data.sources.files import CorpusError, unmarked
from gpt2.data.tokenization.tokenizers import TokenizerError, encode
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.scoring import Window, score
from gpt2.generation.generate import Trained
from records.progress_line import Counted


@dataclass(frozen=True)
class TextScore:
    """A text's log p in nats over its tokens, and what it stands on.

    least: tokens before each scored one at least, once the text has as many.
    """

    sha256: str
    bytes: int
    tokens: int
    context: int
    stride: int
    log_probability: float

    @property
    def least(self) -> int:
        """Tokens that a scored token follows, at least; fewer at the beginning."""
        return self.context - self.stride + 1

    @property
    def loss(self) -> float:
        """- log p / tokens, nats/token."""
        return -self.log_probability / self.tokens

    @property
    def metrics(self) -> dict[str, float]:
        """loss in nats/token, perplexity = exp(loss), bits_per_byte."""
        bits = -self.log_probability / math.log(2)
        perplexity = math.exp(self.loss) if self.loss < 700 else math.inf
        return {
            "loss": self.loss,
            "perplexity": perplexity,
            "bits_per_byte": bits / self.bytes,
        }


def read(path: Path) -> bytes:
    """The text, without a byte order mark of UTF-8, as in a corpus.

    Raises EvaluationError for one that is not there, is empty, or has the mark of
    another encoding.
    """
    try:
        content = unmarked(f"TEXT={path}", path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"TEXT={path}: {error.strerror}") from error
    except CorpusError as error:
        raise EvaluationError(str(error)) from error
    if not content:
        raise EvaluationError(
            f"TEXT={path}: the file is empty, there is nothing to score"
        )
    return content


def sha256(content: bytes) -> str:
    """What identifies a text."""
    return hashlib.sha256(content).hexdigest()


def resolve_stride(stride: int | None, context: int) -> int:
    """The stride, half the context unless one is named.

    Raises EvaluationError for one outside 1 … context.
    """
    if stride is None:
        return max(context // 2, 1)
    if not 1 <= stride <= context:
        raise EvaluationError(
            f"STRIDE={stride}: it must be 1 to {context}, the model's context"
        )
    return stride


def windows(tokens: np.ndarray, context: int, stride: int) -> Iterator[Window]:
    """The windows over x_0 … x_n; tokens: (n + 1,), x_0 is not scored."""
    last, end = len(tokens) - 1, 0
    while end < last:
        before, end = end, min(end + stride if end else context, last)
        start = max(end - context, 0)
        yield Window(tokens[start:end], tokens[before + 1 : end + 1])


def evaluate_text(
    trained: Trained,
    path: Path,
    stride: int | None = None,
    batch: int = 8,
    progress: Counted | None = None,
) -> TextScore:
    """Score the file at `path`; `progress` counts its tokens.

    Raises EvaluationError for a file that cannot be read or is empty, for bytes that
    the tokenizer cannot encode, and for a stride out of range.
    """
    content, tokenizer = read(path), trained.tokenizer
    stride = resolve_stride(stride, trained.context)
    try:
        tokens = encode(tokenizer, f"TEXT={path}", content)
    except TokenizerError as error:
        raise EvaluationError(str(error)) from error
    whole = np.concatenate([np.array([tokenizer.eot], tokens.dtype), tokens])
    total, progress = 0.0, progress or Counted(path.name, 0, scale=1, unit="tokens")
    progress.total += len(tokens)
    cut = list(windows(whole, trained.context, stride))
    for window, scored in zip(cut, score(trained, cut, batch)):
        total += scored.log_probability
        progress.advance(len(window.targets))
    return TextScore(
        sha256=sha256(content),
        bytes=len(content),
        tokens=len(tokens),
        context=trained.context,
        stride=stride,
        log_probability=total,
    )
