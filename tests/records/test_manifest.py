"""dataset.json: where it lies, what it must hold."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable

import pytest

from records.manifest import (
    Manifest,
    ManifestError,
    MissingDataset,
    Split,
    dataset_dir,
    read_manifest,
    streams_sha256,
    write_manifest,
)

VALUES = {
    "DATASET_STDLIB": True,
    "DATASET_LOCAL": False,
    "STDLIB_TESTS": False,
    "LOCAL_PATH": None,
    "LOCAL_FIELD": None,
    "TOKENIZER_BYTE": True,
    "TOKENIZER_BPE": False,
    "BPE_VOCAB_SIZE": None,
    "VAL_SPLIT_DOCUMENT": True,
    "VAL_SPLIT_TAIL": False,
    "VAL_FRACTION": "0.05",
    "DATA_DIR": "data",
    "SHARD_TOKENS": 4194304,
    "SEED": 1,
}


@pytest.fixture
def manifest() -> Manifest:
    splits = {
        "train": Split(("train-00000.bin",), 10, 2, 8, "a" * 64),
        "val": Split(("val-00000.bin",), 5, 1, 4, "b" * 64),
    }
    return Manifest(
        corpus="local",
        tokenizer="byte",
        vocab_size=257,
        dtype="<u2",
        splits=splits,
        sha256=streams_sha256(splits),
        source_sha256="c" * 64,
        unigram_nats=3.0,
        bigram_nats=None,
        created=1.5,
    )


def test_it_reads_what_it_wrote(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "dataset.json") == manifest


def test_one_of_schema_1_is_read(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    raw = json.loads((tmp_path / "dataset.json").read_text())
    del raw["tokenizer_sha256"], raw["origin"]
    (tmp_path / "dataset.json").write_text(json.dumps({**raw, "schema": 1}))
    assert dataclasses.replace(read_manifest(tmp_path), schema=2) == manifest


def test_a_missing_dataset_names_make_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataset, match="dataset.json: .*`make data`"):
        read_manifest(tmp_path / "nowhere")


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other schema": (lambda raw: raw.update(schema=3), "schema 3, expected 1 to 2"),
    "no schema": (lambda raw: raw.update(schema="1"), "schema '1', expected 1 to 2"),
    "lost field": (lambda raw: raw.pop("dtype"), "manifest has .*expected"),
    "lost split": (lambda raw: raw["splits"].pop("val"), "splits "),
    "unknown field": (lambda raw: raw["splits"]["val"].update(x=1), "split val has"),
    "kind": (lambda raw: raw["splits"]["val"].update(tokens="5"), "tokens is '5'"),
    "bool": (lambda raw: raw.update(vocab_size=True), "vocab_size is true, expected"),
    "path": (lambda raw: raw["splits"]["val"].update(files=["../x"]), "not a file"),
    "number": (lambda raw: raw["splits"]["val"].update(files=[1]), "files\\[0\\] is 1"),
    "hash": (lambda raw: raw.update(sha256="d" * 64), "does not fit"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_refused(
    tmp_path: Path, manifest: Manifest, case: str
) -> None:
    break_it, message = BROKEN[case]
    write_manifest(tmp_path, manifest)
    raw = json.loads((tmp_path / "dataset.json").read_text())
    break_it(raw)
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    with pytest.raises(ManifestError, match=f"dataset.json: .*{message}.*`make data`"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null"])
def test_a_torn_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ManifestError, match="dataset.json"):
        read_manifest(tmp_path)


def test_the_dataset_hash_depends_on_which_stream_is_which(manifest: Manifest) -> None:
    train, val = manifest.splits["train"], manifest.splits["val"]
    swapped = streams_sha256({"train": val, "val": train})
    assert swapped != streams_sha256({"val": val, "train": train})
    assert manifest.sha256 == streams_sha256({"val": val, "train": train})


def test_the_directory_is_named_by_corpus_and_tokenizer() -> None:
    path = dataset_dir("data", VALUES)
    assert path.parent == Path("data")
    assert path.name.startswith("stdlib-byte-") and len(path.name) == 20
    assert dataset_dir("data", dict(reversed(VALUES.items()))) == path


@pytest.mark.parametrize(
    "change",
    [
        {"DATASET_STDLIB": False, "DATASET_LOCAL": True},
        {"STDLIB_TESTS": True},
        {"LOCAL_PATH": "x"},
        {"LOCAL_FIELD": "body"},
        {"TOKENIZER_BYTE": False, "TOKENIZER_BPE": True},
        {"BPE_VOCAB_SIZE": 4096},
        {"VAL_SPLIT_DOCUMENT": False, "VAL_SPLIT_TAIL": True},
        {"VAL_FRACTION": "0.1"},
    ],
)
def test_what_shapes_the_corpus_moves_it(change: dict[str, Any]) -> None:
    assert dataset_dir("data", {**VALUES, **change}) != dataset_dir("data", VALUES)


@pytest.mark.parametrize("change", [{"SHARD_TOKENS": 1024}, {"SEED": 2}])
def test_what_does_not_shape_it_leaves_it(change: dict[str, Any]) -> None:
    assert dataset_dir("data", {**VALUES, **change}) == dataset_dir("data", VALUES)


def test_no_corpus_is_an_error() -> None:
    with pytest.raises(KeyError, match="CONFIG_DATASET_"):
        dataset_dir("data", {**VALUES, "DATASET_STDLIB": False})
