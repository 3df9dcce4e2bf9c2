"""dataset.json: what a packed corpus is, written last by `make data`.

The file names its shards and carries the hash that enters a cell's identity.
A directory without it is no dataset, whatever shards lie in it.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Mapping

from records import atomic
from records.fields import COUNT, MOMENT
from records.files import RecordError, read_bytes
from records.kinds import Kind, Unfit, digest, integer, listed, mapped
from records.kinds import matching, name, nullable, number, sound, text
from records.layout import parsed

SCHEMA = 2
NAME = "dataset.json"
SPLITS = ("train", "val")

_SHAPING_PREFIXES = (
    "DATASET_",
    "TOKENIZER_",
    "VAL_SPLIT_",
    "BPE_",
    "HF_",
    "FINEWEBEDU_",
    "SHUFFLE_",
)
_SHAPING = (
    "STDLIB_TESTS",
    "LOCAL_PATH",
    "LOCAL_SOURCES",
    "LOCAL_FIELD",
    "VAL_FRACTION",
    "DATA_TOKENS",
    "SYNTHETIC_MB",
)
# "corpus" and "corpus/" are one folder.
_PATHS = ("LOCAL_PATH", "HF_PATH")
# Shaping where they are set, so that packed corpora keep their names.
_SHAPING_IF_SET = (
    "DATASET_RECALL",
    "DATA_ON_THE_FLY",
    "DATA_VAL_TOKENS",
    "LOCAL_FILES",
    "LOCAL_SHUFFLE",
    "RECALL_KEYS",
    "RECALL_LENGTH",
    "RECALL_PAIRS",
    "RECALL_ROWS",
    "RECALL_SEED",
    "RECALL_VALUES",
)


class MissingDataset(Exception):
    """No packed corpus where the configuration looks for one."""

    def __init__(self, path: Path):
        self.path = path
        super().__init__(f"{path}: not there; `make data` packs the corpus")


class ManifestError(ValueError):
    """A dataset.json that cannot be read; the message names file and cause."""

    def __init__(self, path: Path, why: str):
        self.path, self.why = path, why
        super().__init__(f"{path}: {why}; `make data` rebuilds it")


@dataclass(frozen=True)
class Split:
    """One split: shard files in order and their totals.

    sha256 is that of the token stream, so it does not depend on where one
    shard ends and the next begins. `bytes` is text without separators. A split
    without files is read on the fly: its sha256 is that of what identifies it,
    and its totals are 0, for nobody knows them.
    """

    files: tuple[str, ...]
    tokens: int
    documents: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A packed corpus. Entropies are nats per token, None if not measured.

    tokenizer_sha256 is that of the tokenizer.json beside the shards, None for a
    tokenizer that is not trained on the corpus; origin says where the text is
    from. Schema 1 had neither.
    """

    corpus: str
    tokenizer: str
    vocab_size: int
    dtype: str
    splits: Mapping[str, Split]
    sha256: str
    source_sha256: str
    unigram_nats: float | None
    bigram_nats: float | None
    created: float
    tokenizer_sha256: str | None = None
    origin: str | None = None
    schema: int = SCHEMA


def streams_sha256(splits: Mapping[str, Split]) -> str:
    """The dataset's sha256 from those of its splits' token streams."""
    lines = "".join(f"{name} {splits[name].sha256}\n" for name in SPLITS)
    return hashlib.sha256(lines.encode("ascii")).hexdigest()


def dataset_dir(data_dir: Path | str, values: Mapping[str, Any]) -> Path:
    """DATA_DIR/<corpus>-<tokenizer>-<key8> of a configuration.

    The key is a hash of the symbols that shape the packed corpus; those that
    only say where or in which pieces it lies (DATA_DIR, SHARD_TOKENS) do not
    enter. Raises KeyError when no corpus or tokenizer is chosen.
    """
    shaping = {
        symbol: os.path.normpath(value) if value and symbol in _PATHS else value
        for symbol, value in values.items()
        if _shapes(symbol, value)
    }
    key = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
    corpus, tokenizer = (_member(values, p) for p in ("DATASET_", "TOKENIZER_"))
    return Path(data_dir) / f"{corpus}-{tokenizer}-{key[:8]}"


def _shapes(symbol: str, value: Any) -> bool:
    """Whether a symbol's value shapes the packed corpus."""
    if symbol in _SHAPING_IF_SET:
        return bool(value)
    return symbol.startswith(_SHAPING_PREFIXES) or symbol in _SHAPING


def _member(values: Mapping[str, Any], prefix: str) -> str:
    """The lower-case name of a choice's set member."""
    for symbol, value in values.items():
        if symbol.startswith(prefix) and value is True:
            return symbol.removeprefix(prefix).lower()
    raise KeyError(f"no CONFIG_{prefix}* is set")


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write dataset.json atomically."""
    atomic.write_json(directory / NAME, asdict(manifest))


def read_manifest(path: Path | str) -> Manifest:
    """The manifest of a dataset directory, or of its dataset.json.

    Raises MissingDataset, and ManifestError for a file that is torn, of
    another schema, lacks a field or whose hashes do not fit together.
    """
    path = Path(path)
    path = path if path.name == NAME else path / NAME
    try:
        raw = parsed(read_bytes(path))
    except FileNotFoundError:
        raise MissingDataset(path) from None
    except RecordError as error:
        raise ManifestError(path, error.why) from None
    except ValueError as error:
        raise ManifestError(path, f"not JSON: {error}") from error
    schema = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ManifestError(path, f"schema {schema!r:.40}, expected 1 to {SCHEMA}")
    if schema == 1:
        raw = {"tokenizer_sha256": None, "origin": None, **raw}
    facts = _exactly(path, "manifest", raw, Manifest)
    if not isinstance(facts["splits"], dict) or set(facts["splits"]) != set(SPLITS):
        raise ManifestError(path, f"splits {facts['splits']!r:.80}, expected {SPLITS}")
    facts["splits"] = {
        name: _split(path, name, facts["splits"][name]) for name in SPLITS
    }
    manifest = Manifest(**facts)
    expected = streams_sha256(manifest.splits)
    if manifest.sha256 != expected:
        raise ManifestError(
            path, f"sha256 {manifest.sha256} does not fit the splits' ({expected})"
        )
    return manifest


def _split(path: Path, name: str, raw: Any) -> Split:
    facts = _exactly(path, f"split {name}", raw, Split)
    facts["files"] = tuple(facts["files"])
    for file in facts["files"]:
        if not isinstance(file, str) or Path(file).name != file:
            raise ManifestError(path, f"split {name} names {file!r}, not a file here")
    return Split(**facts)


KINDS: dict[str, Kind] = {
    "corpus": name,
    "tokenizer": name,
    "vocab_size": integer(1),
    "dtype": matching("<u[24]|uint16|uint32", "<u2 or <u4"),
    "splits": mapped(sound),
    "unigram_nats": nullable(number(0)),
    "bigram_nats": nullable(number(0)),
    "created": MOMENT,
    "tokenizer_sha256": nullable(digest),
    "origin": nullable(text),
    "schema": integer(1, SCHEMA),
    "files": listed(text),
    "tokens": COUNT,
    "documents": COUNT,
    "bytes": COUNT,
    "sha256": digest,
    "source_sha256": digest,
}


def _exactly(path: Path, what: str, raw: Any, cls: type) -> dict[str, Any]:
    """raw, an object with exactly the fields of cls, each of its kind."""
    expected = {item.name for item in fields(cls)}
    if not isinstance(raw, dict) or set(raw) != expected:
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise ManifestError(path, f"{what} has {found}, expected {sorted(expected)}")
    for field, value in raw.items():
        try:
            KINDS[field](value)
        except Unfit as unfit:
            raise ManifestError(path, f"{what}: {unfit.within(field)}") from None
    return dict(raw)
