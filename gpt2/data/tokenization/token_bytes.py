"""How many bytes of text each token stands for: what bits/byte divides by.

A token that is part of a character counts its own bytes, a separator none. So the
bytes of any stretch of tokens are known without a tokenizer: a run reads shards, and
has no vocabulary at hand.

    byte  1 for each of 0-255
    bpe   by tokenizer.json beside the shards, whose characters stand for bytes
    gpt2  by token_bytes.bin beside them, which `make data` writes: the sha256 of
          what follows, then a little-endian u16 per token
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from gpt2.data.shards import ShardError
from records import atomic
from records.manifest import Manifest

NAME = "token_bytes.bin"
TOKENIZER = "tokenizer.json"
SHA256_BYTES = 32


def token_bytes(directory: Path, manifest: Manifest) -> np.ndarray:
    """Bytes by token, int64 (vocabulary,). Raises ShardError for a file that is missing
    or is not what `make data` left.
    """
    if manifest.tokenizer == "byte":
        lengths = np.ones(manifest.vocab_size, np.int64)
        lengths[-1] = 0
        return lengths
    if manifest.tokenizer == "gpt2":
        return _written(directory / NAME, manifest)
    return _trained(directory / TOKENIZER, manifest)


def write(directory: Path, tokens: list[bytes]) -> None:
    """token_bytes.bin for a vocabulary without its separator, which is the last token."""
    table = np.array([*map(len, tokens), 0], "<u2").tobytes()
    atomic.write_bytes(directory / NAME, hashlib.sha256(table).digest() + table)


def _written(path: Path, manifest: Manifest) -> np.ndarray:
    content = _content(path)
    table = content[SHA256_BYTES:]
    if hashlib.sha256(table).digest() != content[:SHA256_BYTES]:
        raise ShardError(path, "damaged content", "a table that fits its checksum")
    return _sized(path, np.frombuffer(table, "<u2").astype(np.int64), manifest)


def _trained(path: Path, manifest: Manifest) -> np.ndarray:
    """Lengths by the vocabulary of tokenizer.json, without the separator."""
    content = _content(path)
    found = hashlib.sha256(content).hexdigest()
    if manifest.tokenizer_sha256 not in (None, found):
        raise ShardError(path, f"content {found}", manifest.tokenizer_sha256)
    lengths = np.zeros(manifest.vocab_size, np.int64)
    for token, rank in json.loads(content)["model"]["vocab"].items():
        if rank < manifest.vocab_size - 1:
            lengths[rank] = len(token)
    if not lengths[:-1].all():
        missing = int(np.argmin(lengths))
        raise ShardError(path, f"no token {missing}", "every token of the shards")
    return lengths


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ShardError(path, error.strerror, "the bytes of each token") from error


def _sized(path: Path, lengths: np.ndarray, manifest: Manifest) -> np.ndarray:
    if len(lengths) != manifest.vocab_size:
        raise ShardError(path, f"{len(lengths)} tokens", manifest.vocab_size)
    return lengths
