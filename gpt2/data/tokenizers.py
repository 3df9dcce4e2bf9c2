"""Tokenizers: documents (bytes) to token arrays and back.

A tokenizer is a name, a vocabulary and `encode`. It never sees more than one
document; the separator between documents (`eot`) is placed by prepare.py.
"""

import numpy as np


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
        """Tokens of one document, uint16 (bytes,); a str is encoded as UTF-8."""
        if isinstance(text, str):
            text = text.encode("utf-8")
        return np.frombuffer(text, dtype=np.uint8).astype(self.dtype)

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of the tokens; separators are left out.

        Raises ValueError for a token outside 0-256.
        """
        tokens = np.asarray(tokens)
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) <= self.eot:
            raise ValueError(
                f"tokens {int(tokens.min())}-{int(tokens.max())} found, "
                f"a byte token is 0-{self.eot}"
            )
        return tokens[tokens != self.eot].astype(np.uint8).tobytes()


TOKENIZERS = {ByteTokenizer.name: ByteTokenizer}
