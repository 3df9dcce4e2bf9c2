"""Every way a shard can be wrong is found and named."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gpt2.data import shards
from gpt2.data.loading.loader import TokenStream
from gpt2.data.packing.prepare import prepare
from gpt2.data.shards import HEADER_SIZE, Header, ShardError, read_header
from records.manifest import read_manifest

SHARD = "train-00001.bin"


def patch(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def reheader(path: Path, **changes: object) -> None:
    patch(path, 0, dataclasses.replace(read_header(path), **changes).pack())


def test_the_header_is_the_documented_bytes(dataset: Path) -> None:
    raw = (dataset / SHARD).read_bytes()
    tokens = np.frombuffer(raw[192:], "<u2")

    def number(offset: int, size: int) -> int:
        return int.from_bytes(raw[offset : offset + size], "little")

    assert raw[:8] == b"KABSHARD"
    assert number(8, 4) == 1 and number(12, 4) == 2 and number(16, 8) == 257
    assert number(24, 8) == len(tokens)
    assert number(32, 8) == np.sum(tokens == 256)
    assert number(40, 8) == np.sum(tokens != 256)
    assert raw[48:80] == hashlib.sha256(raw[192:]).digest()
    assert raw[80:112] == hashlib.sha256(raw[192:] * 2).digest()
    assert raw[112:144].hex() == read_manifest(dataset).source_sha256
    assert raw[144:176] == hashlib.sha256(raw[:144]).digest()
    assert raw[176:192] == bytes(16)


def test_a_shard_ends_with_the_document_that_reaches_its_size(dataset: Path) -> None:
    files = sorted(dataset.glob("train-*.bin"))
    assert len(files) > 5
    for path in files[:-1]:
        tokens = np.fromfile(path, "<u2", offset=HEADER_SIZE)
        assert tokens[-1] == 256
        last = np.flatnonzero(tokens == 256)[-2] + 1
        assert last < 1024 <= len(tokens)


def test_the_tokens_are_the_documents(dataset: Path, documents: list[bytes]) -> None:
    found = []
    for split in ("train", "val"):
        stream = TokenStream(dataset, split)
        tokens = stream.rows(np.array([0]), stream.tokens)[0]
        ends = np.flatnonzero(tokens == 256)
        assert ends[-1] == len(tokens) - 1
        found += [part[part != 256] for part in np.split(tokens, ends + 1)[:-1]]
    assert sorted(bytes(part.tolist()) for part in found) == sorted(documents)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def flip_middle(path: Path) -> None:
    middle = path.stat().st_size // 2
    patch(path, middle, bytes([path.read_bytes()[middle] ^ 1]))


def empty_shard(path: Path) -> None:
    path.write_bytes(dataclasses.replace(read_header(path), tokens=0).pack())


def copy_neighbour(path: Path) -> None:
    shutil.copy(path.parent / "train-00000.bin", path)


def swap_neighbours(path: Path) -> None:
    other = path.parent / "train-00000.bin"
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGE = {
    "missing": (Path.unlink, SHARD, "No such file"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), SHARD, "Is a directory"),
    "no header": (lambda p: p.write_bytes(b"KABSHARD"), SHARD, "8 bytes"),
    "truncated": (truncate, SHARD, r"\d+ bytes, expected \d+ bytes"),
    "longer": (lengthen, SHARD, r"\d+ bytes, expected \d+ bytes"),
    "no tokens": (empty_shard, SHARD, "0 tokens, expected at least 1"),
    "foreign": (lambda p: patch(p, 0, b"PK\3\4"), SHARD, r"magic b'PK.*KABSHARD"),
    "newer": (lambda p: patch(p, 8, b"\2"), SHARD, "version 2, expected version 1"),
    "header bit": (lambda p: patch(p, 40, b"\xff"), SHARD, "a damaged header"),
    "header padding": (lambda p: patch(p, 180, b"\1"), SHARD, "a damaged header"),
    "token bit": (flip_middle, SHARD, "content [0-9a-f]{64}, expected [0-9a-f]{64}"),
    "vocabulary": (
        lambda p: reheader(p, vocab_size=300),
        SHARD,
        "vocabulary 300, expected vocabulary 257",
    ),
    "dtype": (
        lambda p: reheader(
            p, dtype=np.dtype("<u4"), tokens=(p.stat().st_size - HEADER_SIZE) // 4
        ),
        SHARD,
        "dtype <u4, expected dtype <u2",
    ),
    "corpus": (
        lambda p: reheader(p, source_sha256="ab" * 32),
        SHARD,
        "corpus (ab)+, expected corpus",
    ),
    "documents": (
        lambda p: reheader(p, documents=1),
        "set",
        r"\d+ documents in split train, expected",
    ),
    "repeated": (copy_neighbour, "set", r"\d+ tokens in split train, expected \d+"),
    "swapped": (swap_neighbours, "set", "split train of content [0-9a-f]{64}"),
}


def even_dtype_shard(directory: Path) -> Path:
    """SHARD, or its neighbour with an even number of tokens."""
    for path in sorted(directory.glob("train-*.bin")):
        if read_header(path).tokens % 2 == 0:
            return path
    raise AssertionError("no shard with an even number of tokens")


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found_and_repaired(case: str, dataset: Path, make_settings) -> None:
    break_it, named, message = DAMAGE[case]
    path = even_dtype_shard(dataset) if case == "dtype" else dataset / SHARD
    named = path.name if case == "dtype" else named
    before = read_manifest(dataset).sha256
    break_it(path)
    with pytest.raises(ShardError, match=f"{named}: found .*{message}") as caught:
        TokenStream(dataset, "train")
    assert "`make data`" in str(caught.value)
    said: list[str] = []
    assert prepare(make_settings(), dataset, said.append).sha256 == before
    assert "packing, because" in said[0] and f"{named}: found" in said[0]
    assert TokenStream(dataset, "train").tokens > 0


def test_damage_in_validation_does_not_stop_training_data(dataset: Path) -> None:
    truncate(dataset / "val-00000.bin")
    assert TokenStream(dataset, "train").tokens > 0
    with pytest.raises(ShardError, match="val-00000.bin"):
        TokenStream(dataset, "val")


def test_another_tokenizer_is_refused(dataset: Path) -> None:
    with pytest.raises(ShardError, match="dataset.json: found tokenizer byte, .*gpt2"):
        TokenStream(dataset, "train", tokenizer="gpt2")


def test_a_model_with_too_small_a_vocabulary_is_refused(dataset: Path) -> None:
    assert TokenStream(dataset, "train", "byte", vocab_size=257).tokens > 0
    with pytest.raises(ShardError, match="257, .* CONFIG_GPT2_VOCAB_SIZE=256"):
        TokenStream(dataset, "train", "byte", vocab_size=256)


def big_shard(tmp_path: Path) -> tuple[Path, Header]:
    """A shard of 3 MiB, so that its middle is no edge."""
    tokens = np.arange(3 << 19, dtype="<u4").astype("<u2")
    sha = hashlib.sha256(tokens).hexdigest()
    edges = shards.edges_sha256(tokens)
    header = Header(np.dtype("<u2"), 65536, len(tokens), 1, 9, sha, edges, "cd" * 32)
    path = tmp_path / "train-00000.bin"
    path.write_bytes(header.pack() + tokens.tobytes())
    return path, header


@pytest.fixture
def big(tmp_path: Path, dataset: Path):
    """(shard, manifest) of a split of one shard of 3 MiB."""
    path, header = big_shard(tmp_path)
    manifest = read_manifest(dataset)
    split = dataclasses.replace(
        manifest.splits["train"],
        files=(path.name,),
        tokens=header.tokens,
        documents=1,
        bytes=9,
        sha256=header.sha256,
    )
    facts = {"splits": {"train": split}, "source_sha256": "cd" * 32}
    return path, dataclasses.replace(manifest, vocab_size=65536, **facts)


@pytest.mark.parametrize("offset", [HEADER_SIZE, -1])
def test_a_large_split_is_checked_at_its_edges(big, offset: int, monkeypatch) -> None:
    path, manifest = big
    monkeypatch.setattr(shards, "FULL_HASH_BYTES", 1 << 20)
    assert len(shards.open_split(path.parent, manifest, "train")) == 1
    patch(path, offset % path.stat().st_size, b"\x5a")
    with pytest.raises(ShardError, match="train-00000.bin: found first and last MiB"):
        shards.open_split(path.parent, manifest, "train")


def test_full_hash_sees_the_middle_that_the_edges_do_not(big, monkeypatch) -> None:
    path, manifest = big
    flip_middle(path)
    with pytest.raises(ShardError, match="content"):
        shards.open_split(path.parent, manifest, "train")
    monkeypatch.setattr(shards, "FULL_HASH_BYTES", 1 << 20)
    assert len(shards.open_split(path.parent, manifest, "train")) == 1
    with pytest.raises(ShardError, match="content"):
        shards.open_split(path.parent, manifest, "train", full=True)


def test_the_manifest_of_another_build_does_not_fit(dataset: Path) -> None:
    path = dataset / "dataset.json"
    raw = json.loads(path.read_text())
    raw["dtype"] = "<u4"
    path.write_text(json.dumps(raw))
    with pytest.raises(ShardError, match="dtype <u2, expected dtype <u4"):
        TokenStream(dataset, "train")
