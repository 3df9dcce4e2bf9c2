"""The text of an evaluation: its windows, their bytes, and the documents in them.

A target belongs to the document that goes on through it; a separator ends the
document before it. Pieces of a document in several windows are one unit, because
what a model finds hard in a document it finds hard throughout: sums by document are
the independent observations of a text, as far as there are any.

Legend: n windows, T targets of a window, S segments (a document's share of a window),
U units, V tokens.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpt2.data.loading.loader import EvalWindows, TokenStream

DOCUMENT, WINDOW = "document", "window"
FEWEST_DOCUMENTS = 20
"""Below this the windows are the units: an error from a few clusters is none."""
GAP = 1 << 14


@dataclass(frozen=True)
class Units:
    """What the losses of an evaluation are summed over, in the order of the text.

    kind: DOCUMENT or WINDOW. segment_nT: the segment of every target, ascending.
    unit_S: the unit of every segment. tokens_U: targets of every unit.
    """

    kind: str
    segment_nT: np.ndarray
    unit_S: np.ndarray
    tokens_U: np.ndarray


class EvaluationText:
    """`count` fixed windows of a split, as far as it has them.

    windows: int64 (n, T+1). bytes: of the text that their targets stand for.
    Raises ValueError for a split shorter than one window, and for targets without text.
    """

    def __init__(
        self, stream: TokenStream, context: int, count: int, bytes_V: np.ndarray
    ):
        fixed = EvalWindows(stream, context, count)
        self._stream, self._starts = stream, fixed.starts
        self.windows = fixed.rows(np.arange(len(fixed)))
        self.bytes = int(bytes_V[self.windows[:, 1:]].sum())
        self.separator = len(bytes_V) - 1
        self.most = (stream.tokens - 1) // context * context
        if self.bytes == 0:
            raise ValueError(f"{stream.name}: the evaluation windows hold no text")

    @property
    def tokens(self) -> int:
        """Targets of all windows; `most` is how many those of the whole split have."""
        return self.windows[:, 1:].size

    @property
    def bytes_per_token(self) -> float:
        """Of the targets: bits/byte are those of exactly the text that is scored."""
        return self.bytes / self.tokens

    @cached_property
    def sha256(self) -> str:
        """Of the windows: equal for arms that may be compared."""
        return hashlib.sha256(self.windows.tobytes()).hexdigest()

    def units(self) -> Units:
        """By document where there are enough of them, else by window."""
        document_nT = self._documents()
        first_nT = np.ones(document_nT.shape, bool)
        first_nT[:, 1:] = document_nT[:, 1:] != document_nT[:, :-1]
        segment_nT = (np.cumsum(first_nT) - 1).reshape(first_nT.shape)
        unit_S, kind = document_nT[first_nT], DOCUMENT
        if unit_S[-1] + 1 < FEWEST_DOCUMENTS:
            unit_S, kind = np.nonzero(first_nT)[0], WINDOW
        tokens_S = np.bincount(segment_nT.ravel())
        tokens_U = np.bincount(unit_S, weights=tokens_S).astype(np.int64)
        return Units(kind, segment_nT, unit_S, tokens_U)

    def _documents(self) -> np.ndarray:
        """The number of every target's document among those that are read."""
        inputs_nT = self.windows[:, :-1]
        within_nT = np.cumsum(inputs_nT == self.separator, axis=1)
        document_nT = np.empty_like(within_nT)
        T, number, end = inputs_nT.shape[1], 0, int(self._starts[0])
        for row, start in enumerate(self._starts.tolist()):
            number += self._parted(end, start)
            # a window that begins with a separator has no target of the one before
            document_nT[row] = number + within_nT[row]
            number, end = int(document_nT[row, -1]), start + T
        return np.unique(document_nT, return_inverse=True)[1].reshape(document_nT.shape)

    def _parted(self, first: int, last: int) -> bool:
        """Whether a document ends among the tokens first … last - 1."""
        for start in range(first, last, GAP):
            row = self._stream.rows(np.array([start]), min(GAP, last - start))
            if (row == self.separator).any():
                return True
        return False
