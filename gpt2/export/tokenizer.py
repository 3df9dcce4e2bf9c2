"""Our tokenizers as tokenizer.json of the `tokenizers` library, and back.

A trained vocabulary gives the file that training gave, GPT-2's its own in the
same form. Bytes are a BPE without merges. The separator is the special token
<|endoftext|>, the last one.
"""

import json
from typing import Any

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from gpt2.data.tokenization.bpe import BYTE_OF, BpeTokenizer, EOT, trained
from gpt2.data.tokenization.tokenizers import ByteTokenizer, Tokenizer, TokenizerError
from gpt2.export.bundle import ExportError

CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


def describe(tokenizer: Tokenizer) -> str:
    """tokenizer.json. Raises TokenizerError for ranks that no merges explain."""
    if isinstance(tokenizer, BpeTokenizer):
        ranks, words = tokenizer.ranks, True
    else:
        ranks, words = {bytes([byte]): byte for byte in range(256)}, False
    vocabulary = {_written(token): rank for token, rank in ranks.items()}
    library = Library(models.BPE(vocab=vocabulary, merges=merges(ranks)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=words
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([EOT])
    return library.to_str(pretty=True)


def restore(name: str, text: str) -> Tokenizer:
    """The tokenizer of that name and tokenizer.json. Raises ExportError."""
    try:
        return ByteTokenizer() if name == "byte" else trained(text.encode(), name)
    except TokenizerError as error:
        raise ExportError(f"the tokenizer {name}: {error}") from error


def vocabulary(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The tokens of a tokenizer.json in order, the separator last, and the merges."""
    model: dict[str, Any] = json.loads(text)["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    if EOT not in model["vocab"]:
        tokens.append(EOT)
    return tokens, [tuple(pair) for pair in model["merges"]]


def merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """The pairs that make the tokens of more than one byte, in order: what is
    left of a token's bytes when all earlier merges were made.

    Raises TokenizerError where that is not a pair.
    """
    found = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while True:
            pairs = [ranks.get(a + b, rank) for a, b in zip(parts, parts[1:])]
            first = min(pairs)
            if first >= rank:
                break
            at = pairs.index(first)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) != 2:
            raise TokenizerError(
                f"token {rank} {token!r} is made of {len(parts)} earlier ones, not 2"
            )
        found.append((_written(parts[0]), _written(parts[1])))
    return found


def _written(token: bytes) -> str:
    """The token as tokenizer.json has it: a character per byte."""
    return "".join(CHARACTER_OF[byte] for byte in token)
