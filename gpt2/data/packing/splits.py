"""Which part of the corpus is validation.

`pieces` turns documents into (split, text, ends, name): `ends` says whether a
separator follows the piece, `name` is the document's. Two ways, chosen by CONFIG_VAL_SPLIT:

document  a document is validation iff the first 8 bytes of sha256(text), read
          as a fraction of 2^64 (big-endian), are below VAL_FRACTION. What
          else is in the corpus does not matter.
tail      the last VAL_FRACTION of the corpus' bytes, cut in front of a UTF-8
          character. A corpus of one document gets no separator: its tokens
          are exactly the text.
"""

import hashlib
from typing import Iterator

from gpt2.data.sources.corpora import Document, Source
from gpt2.settings.run import DataSettings

Piece = tuple[str, memoryview, bool, str]


def pieces(
    settings: DataSettings, documents: Iterator[Document], source: Source
) -> Iterator[Piece]:
    """(split, text, ends, name) for every non-empty piece of every document."""
    filled = ((name, text) for name, text in documents if text)
    if settings.split == "document":
        for name, text in filled:
            split = "val" if fraction_of(text) < settings.val_fraction else "train"
            yield split, memoryview(text), True, name
        return
    cut = int(source.bytes * (1 - settings.val_fraction))
    separate = source.documents > 1
    start = 0
    for name, text in filled:
        here = character_start(text, min(max(cut - start, 0), len(text)))
        view = memoryview(text)
        if here:
            yield "train", view[:here], separate and here == len(text), name
        if here < len(text):
            yield "val", view[here:], separate, name
        start += len(text)


def fraction_of(text: bytes) -> float:
    """The first 8 bytes of sha256(text) over 2^64: uniform in [0, 1]."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


def character_start(text: bytes, position: int) -> int:
    """The position, moved back to the start of the UTF-8 character it is in.

    Where no character starts within 3 bytes, the text is not UTF-8 and the
    position stays.
    """
    for start in range(position, max(position - 4, -1), -1):
        if start == len(text) or text[start] & 0xC0 != 0x80:
            return start
    return position
