"""Files in compressed and columnar form, and several sources by weight."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.packing.prepare import prepare
from gpt2.data.sources.corpora import CorpusError, scan
from gpt2.data.sources.local import interleave, local_documents
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError

TEXTS = ["one", "", "zwei – é", "x" * 3_000_000, "last"]
LINES = "\n".join(json.dumps({"text": text}) for text in TEXTS).encode()


def write_parquet(path: Path, texts: list, name: str = "text") -> Path:
    pq.write_table(pa.table({name: texts, "n": list(range(len(texts)))}), path)
    return path


def in_frames(content: bytes) -> bytes:
    """zstd of several frames, cut anywhere."""
    parts = [content[:20], content[20:1_000_000], content[1_000_000:]]
    return b"".join(map(zstandard.compress, parts))


WRITERS = {
    "c.jsonl": lambda path: path.write_bytes(LINES),
    "c.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES + b"\n")),
    "c.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
    "d.jsonl.zst": lambda path: path.write_bytes(in_frames(LINES + b"\n")),
    "c.parquet": lambda path: write_parquet(path, TEXTS),
}


def texts_of(path: Path) -> list[str]:
    return [text.decode() for _, text in local_documents(path, "text")]


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    assert texts_of(path) == TEXTS
    names = [name for name, _ in local_documents(path, "text")]
    assert names == [f"{path}:{number}" for number in range(1, len(TEXTS) + 1)]


def test_a_folder_may_mix_them(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    (tmp_path / "a.txt").write_text("plain")
    assert texts_of(tmp_path) == ["plain"] + TEXTS * len(WRITERS)


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.jsonl.zst", "d.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_file_is_an_error_with_its_name(tmp_path, name, damage) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    raw = path.read_bytes()
    half = len(raw) // 2
    path.write_bytes(
        {
            "cut": raw[:half],
            "flipped": raw[:half] + bytes([raw[half] ^ 255]) + raw[half + 1 :],
            "foreign": b"not compressed at all",
        }[damage]
    )
    with pytest.raises(CorpusError, match=f"{name}"):
        texts_of(path)


def test_a_zstd_file_that_ends_between_two_lines_is_cut_short(tmp_path) -> None:
    """Whole lines, an unfinished frame: the library's reader would not complain."""
    writer = zstandard.ZstdCompressor().compressobj()
    whole = writer.compress(b'{"text": "a"}\n')
    whole += writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(whole)
    with pytest.raises(CorpusError, match="cut short: the file ends within a frame"):
        texts_of(path)
    path.write_bytes(whole + writer.flush())
    assert texts_of(path) == ["a"]


@pytest.mark.parametrize(
    "texts, name, message",
    [
        (["a"], "body", r"no column 'text' \(CONFIG_LOCAL_FIELD\); it has body, n"),
        ([1, 2], "text", "column 'text' is int64, not string"),
        (["a", None], "text", "p.parquet:2: field 'text' is null"),
    ],
)
def test_a_parquet_file_without_text_is_an_error(
    tmp_path, texts, name, message
) -> None:
    path = write_parquet(tmp_path / "p.parquet", texts, name)
    with pytest.raises(CorpusError, match=message):
        texts_of(path)


def test_a_torn_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "p.parquet", TEXTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorpusError, match="p.parquet: "):
        texts_of(path)


def test_a_parquet_row_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    """Arrow calls such bytes a string and parquet keeps them."""
    rows, offsets = b"fineab\xff\xfe", struct.pack("<3i", 0, 4, 8)
    column = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(rows))
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"text": column}), path)
    with pytest.raises(CorpusError, match="p.parquet:2: field 'text': .*byte 0xff"):
        texts_of(path)


@pytest.mark.parametrize("name", ["C.JSONL", "c.Jsonl.GZ", "c.jsonl.ZST", "C.Parquet"])
def test_the_case_of_a_name_does_not_matter(tmp_path: Path, name: str) -> None:
    """A .JSONL is no plain text of braces and quotes."""
    WRITERS[name.lower()](tmp_path / name)
    assert texts_of(tmp_path / name) == TEXTS


def test_a_surrogate_pair_is_a_character_and_a_lone_one_is_named(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\\ud83d\\ude00"}\n')
    assert texts_of(path) == ["\U0001f600"]
    path.write_bytes(b'{"text": "fine"}\n\n{"text": "lone \\ud800 here"}\n')
    with pytest.raises(CorpusError, match=r"a.jsonl:3: field 'text': .*\\ud800"):
        texts_of(path)


# Several sources


def source(letter: str, sizes: list[int]) -> list[tuple[str, bytes]]:
    return [(f"{letter}{n}", letter.encode() * size) for n, size in enumerate(sizes)]


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1), min_size=1, max_size=4),
    st.data(),
)
def test_shares_follow_the_weights_in_order(sizes, data) -> None:
    weights = [data.draw(st.sampled_from([0.1, 0.5, 1, 3])) for _ in sizes]
    sources = [source("abcd"[n], part) for n, part in enumerate(sizes)]
    mixed = list(interleave(sources, weights))
    assert mixed == list(interleave(sources, weights))
    taken = dict.fromkeys("abcd"[: len(sizes)], 0)
    for name, text in mixed:
        shares = [taken[letter] / w for letter, w in zip(taken, weights)]
        assert shares["abcd".index(name[0])] == min(shares)
        taken[name[0]] += len(text)
    for letter, part in zip("abcd", sources):
        own = [item for item in mixed if item[0][0] == letter]
        assert own == part[: len(own)]
    shares = [taken[letter] / w for letter, w in zip(taken, weights)]
    ended = shares.index(min(shares))
    assert len([1 for name, _ in mixed if name[0] == "abcd"[ended]]) == len(
        sources[ended]
    )


def test_bytes_are_shared_by_weight(tmp_path: Path, make_settings) -> None:
    random = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / name).mkdir()
        for number in range(400):
            size = int(random.integers(1, 300))
            (tmp_path / name / f"{number:03d}.txt").write_text(name * size)
    pairs = [(str(tmp_path / "a"), 0.6), (str(tmp_path / "b"), 0.3)]
    pairs += [(str(tmp_path / "c"), 0.1)]
    settings = make_settings(local_path="", local_sources=pairs)
    manifest = prepare(settings, tmp_path / "set", lambda line: None)
    raw = b"".join(path.read_bytes() for path in (tmp_path / "set").glob("*.bin"))
    tokens = np.frombuffer(raw, "<u2")
    counts = [int((tokens == ord(name)).sum()) for name in "abc"]
    assert counts[0] == sum(len(p.read_text()) for p in (tmp_path / "a").iterdir())
    shares = np.array(counts) / sum(counts)
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.005)
    assert manifest.source_sha256 == scan(settings).sha256
    assert manifest.origin.startswith("CONFIG_LOCAL_SOURCES=") and ":0.6," in (
        manifest.origin
    )


def test_a_missing_source_names_the_symbol(tmp_path: Path, make_settings) -> None:
    settings = make_settings(local_path="", local_sources=[("/nowhere", 1.0)])
    with pytest.raises(CorpusError, match="CONFIG_LOCAL_SOURCES=/nowhere: No such"):
        scan(settings)


def test_settings_read_the_weights(resolve) -> None:
    values = resolve(DATASET_LOCAL="y", LOCAL_SOURCES="a:b:0.7, c/d.parquet:3")
    pairs = run_settings(values).data.local_sources
    assert pairs == (("a:b", 0.7), ("c/d.parquet", 3.0))


@pytest.mark.parametrize(
    "symbols, message",
    [
        ({"LOCAL_SOURCES": "a"}, "'a' is not NAME:WEIGHT"),
        ({"LOCAL_SOURCES": "a:0"}, "'a:0' is not NAME:WEIGHT"),
        ({"LOCAL_SOURCES": "a:-1"}, "'a:-1' is not NAME:WEIGHT"),
        ({"LOCAL_SOURCES": "a:inf"}, "'a:inf' is not NAME:WEIGHT"),
        ({"LOCAL_SOURCES": "a:1,,b:1"}, "'' is not NAME:WEIGHT"),
        ({"LOCAL_SOURCES": "a:1,a:2"}, "'a' is named twice"),
        ({"LOCAL_SOURCES": "a:1", "LOCAL_PATH": "b"}, "one of them"),
        ({}, "names no file or folder to read"),
    ],
)
def test_other_weights_are_refused(resolve, symbols, message) -> None:
    with pytest.raises(SettingsError, match=message):
        run_settings(resolve(DATASET_LOCAL="y", **symbols))
