"""The papers of an export: JSON, read strictly, and the kind of each field.

    format, version   "kablate", and VERSION
    dtype             fp32, bf16, f16 or, of GGUF alone, q8_0
    tokenizer         byte, bpe or gpt2
    symbols           configuration symbols that can change a result
    run               study, step, seed, hash and commit, as far as recorded
    weights_sha256    of the weights as read back, in fp32
    sha256            of the file that holds the papers (gpt2/export/seal.py)
    files             of a folder: name -> sha256 of every other file in it

Version 1 had neither of the last two.
"""

import json
from typing import Any

from gpt2.export.formats import BLOCKS, DTYPES
from records.files import shown
from records.kinds import (
    LARGEST,
    Kind,
    Unfit,
    abbreviated,
    choice,
    digest,
    fields,
    integer,
    mapped,
    matching,
    name,
    nullable,
    text,
)

FORMAT, VERSION = "kablate", 2
MOST_SYMBOLS, MOST_FILES = 10_000, 1_000
MOST_VALUES = 2_000_000
"""Of one JSON text, which so takes some 500 MB at most."""
LONGEST_TEXT, LONGEST_MESSAGE = 1 << 16, 400
"""Characters of a symbol's value, and of what a message shows of a file."""
TOKENIZERS = ("byte", "bpe", "gpt2")


def strict_json(content: str | bytes) -> Any:
    """The value of JSON in UTF-8. Raises ValueError for anything else, for a field
    that stands twice, NaN and infinity, endless nesting, and over MOST_VALUES values.
    """
    try:
        written = content if isinstance(content, str) else content.decode("utf-8")
        if sum(map(written.count, ",[{")) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        return json.loads(written, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the field {abbreviated(twice)} stands twice")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no value of JSON")


def shortened(words: object) -> str:
    """What a message shows of text that a file holds: one line, its middle left out."""
    line = shown(words)
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[:LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2:]}"


def _value(value: Any) -> None:
    """The value of a symbol."""
    if type(value) is str:
        text(value)
        if len(value) > LONGEST_TEXT:
            raise Unfit(f"has {len(value)} characters, at most {LONGEST_TEXT}")
    elif type(value) is int:
        integer(-LARGEST)(value)
    elif value is not None and type(value) is not bool:
        raise Unfit(f"is {abbreviated(value)}, expected true, a whole number or text")


def _at_most(most: int, kind: Kind) -> Kind:
    """An object of that kind, of so many fields."""

    def bounded(value: Any) -> None:
        if type(value) is dict and len(value) > most:
            raise Unfit(f"has {len(value)} fields, at most {most}")
        kind(value)

    return bounded


def _unknown(value: Any) -> None:
    raise Unfit("is no field of this version")


SYMBOL = matching("[A-Z][A-Z0-9_]{0,99}", "a symbol")
FILE = matching("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "a file of the folder")
RUN = fields(
    {"commit": nullable(name)},
    {"study": name, "step": name, "seed": integer(0), "hash": name},
    _unknown,
)
REQUIRED: dict[str, Kind] = {
    "format": choice(FORMAT),
    "version": integer(1, VERSION),
    "dtype": choice(*DTYPES, *BLOCKS),
    "tokenizer": choice(*TOKENIZERS),
    "symbols": _at_most(MOST_SYMBOLS, mapped(_value, SYMBOL)),
    "run": RUN,
    "weights_sha256": digest,
}
FILES = _at_most(MOST_FILES, mapped(digest, FILE))
OF_VERSION = {
    1: fields(REQUIRED, {}, _unknown),
    2: fields({**REQUIRED, "sha256": digest}, {"files": FILES}, _unknown),
}
