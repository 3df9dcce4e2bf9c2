"""Our tokenizers as tokenizer.json of the `tokenizers` library, and back.

A trained vocabulary gives the file that training gave, GPT-2's its own in the
same form. Bytes are a BPE without merges. The separator is the special token
<|endoftext|>, the last one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from gpt2.data.tokenization.bpe import BYTE_OF, BpeTokenizer, EOT
from gpt2.data.tokenization.tokenizers import ByteTokenizer, Tokenizer, TokenizerError
from gpt2.export.bundle import ExportError
from gpt2.export.papers import shortened, strict_json
from gpt2.settings.run import ModelSettings
from records.files import shown
from records.kinds import abbreviated, fields, integer, mapped, text

CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}
VOCABULARY = fields({"model": fields({"vocab": mapped(integer(0), text)})})


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


def restore(name: str, written: object) -> Tokenizer:
    """The tokenizer of that name and tokenizer.json. Raises ExportError for anything
    that is not one: what came back from elsewhere is looked at as a stranger's.
    """
    if type(written) is not str:
        raise ExportError(f"the tokenizer {name}: tokenizer.json is not there")
    if name == "byte":
        return ByteTokenizer()
    try:
        return BpeTokenizer(name, _ranks(strict_json(written)))
    except (ValueError, TokenizerError) as error:
        why = f"the tokenizer {name}: tokenizer.json: {shortened(error)}"
        raise ExportError(why) from None


def restore_fitting(
    place: Path, papers: Mapping[str, Any], settings: ModelSettings, written: object
) -> Tokenizer:
    """The tokenizer of an export. Raises ExportError, also for one that has tokens that
    the model does not.
    """
    try:
        tokenizer = restore(papers["tokenizer"], written)
    except ExportError as error:
        raise ExportError(f"{shown(place)}: {error}") from None
    if tokenizer.vocab_size > settings.vocab_size:
        raise ExportError(
            f"{shown(place)}: its tokenizer has {tokenizer.vocab_size} tokens, its model "
            f"{settings.vocab_size} (CONFIG_GPT2_VOCAB_SIZE)"
        )
    return tokenizer


def _ranks(content: Any) -> dict[bytes, int]:
    """Byte string -> token, of a tokenizer.json. Raises ValueError."""
    VOCABULARY(content)
    ranks = {}
    for token, rank in content["model"]["vocab"].items():
        strange = [char for char in token if char not in BYTE_OF]
        if token == EOT:
            continue
        if strange or not token:
            raise ValueError(f"{abbreviated(token)} is no token of bytes")
        ranks[bytes(BYTE_OF[char] for char in token)] = rank
    return ranks


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
