"""Tokenizers: documents (bytes) to token arrays and back.

A tokenizer has a name, a vocabulary, a separator and `encode`. It never sees
more than one document; build.py places the separator (`eot`) between two.
"""

import re
from typing import Protocol

import numpy as np

BLANKS = b" \n"
# The byte before a place where a text may be cut.
PARTS = re.compile(rb"[0-9A-Za-z](?=[%s])" % BLANKS)


class TokenizerError(Exception):
    """A text or a vocabulary that a tokenizer cannot use; it says which and why."""


class Tokenizer(Protocol):
    """What every tokenizer offers; `eot` is the largest token."""

    name: str
    vocab_size: int
    eot: int
    dtype: np.dtype

    def encode(self, text: bytes | memoryview | str) -> np.ndarray:
        """Tokens of one text, `dtype` (tokens,), never `eot`."""

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of the tokens; separators are left out."""


class ByteTokenizer:
    """Tokens 0-255 are the bytes of the text, 256 separates documents.

    Nothing is decoded, so text that is not valid UTF-8 is kept as it is and
    `decode(encode(b)) == b` for any bytes b.
    """

    name = "byte"
    vocab_size = 257
    eot = 256
    dtype = np.dtype("<u2")

    def encode(self, text: bytes | memoryview | str) -> np.ndarray:
        """Tokens of one document, uint16 (bytes,); a str is encoded as UTF-8.

        Raises TokenizerError for a str with a lone surrogate.
        """
        if isinstance(text, str):
            text = as_bytes(text)
        return np.frombuffer(text, dtype=np.uint8).astype(self.dtype)

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of the tokens; separators are left out.

        Raises ValueError for a token outside 0-256.
        """
        return text_tokens(tokens, self).astype(np.uint8).tobytes()


def text_tokens(tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens without separators. Raises ValueError for one outside 0-eot."""
    tokens, last = np.asarray(tokens), tokenizer.eot
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) <= last:
        raise ValueError(
            f"tokens {int(tokens.min())}-{int(tokens.max())} found, "
            f"a {tokenizer.name} token is 0-{last}"
        )
    return tokens[tokens != last]


def as_bytes(text: str) -> bytes:
    """The UTF-8 of a text. Raises TokenizerError for a lone surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}, which no UTF-8 text can hold: "
            "remove or replace it"
        ) from error


def as_text(text: bytes | memoryview | str, name: str = "") -> str:
    """The text of UTF-8 bytes. Raises TokenizerError where there is none."""
    if isinstance(text, str):
        as_bytes(text)
        return text
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        where = f"{name}: " if name else ""
        raise TokenizerError(
            f"{where}byte {error.start} ({text[error.start]:#04x}) is no UTF-8, and this "
            "tokenizer reads text: convert the file, or use CONFIG_TOKENIZER_BYTE=y"
        ) from error


def encode(tokenizer: Tokenizer, name: str, text: bytes | memoryview) -> np.ndarray:
    """tokenizer.encode(text); the TokenizerError names the document."""
    try:
        return tokenizer.encode(text)
    except TokenizerError as error:
        raise TokenizerError(f"{name}: {error}") from error


def cut(text: memoryview, limit: int) -> int:
    """Where to cut a text of more than `limit` bytes without changing a token.

    No tokenizer here has a token that goes on with a blank after an ASCII
    letter or digit. The last such place within the limit is taken; where there
    is none, the first after it, or the end.
    """
    if len(text) <= limit:
        return len(text)
    raw = bytes(text[: limit + 1])
    for place in range(limit, 0, -1):
        if _parts(raw, place):
            return place
    found = PARTS.search(text, limit)
    return len(text) if found is None else found.end()


def _parts(text: bytes | memoryview, place: int) -> bool:
    before = text[place - 1]
    return text[place] in BLANKS and before < 128 and chr(before).isalnum()
