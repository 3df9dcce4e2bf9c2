"""Columns that are never read, spellings of text, marks, and what expands too far."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpt2.data.sources import expand
from gpt2.data.sources.columns import text_only
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.sources.hub import Stream
from gpt2.data.sources.local import local_documents
from tests.conftest import ROOT
from tests.gpt2.data.sources.test_hub import (
    hub_settings,
    words,
    write_folder,
)  # noqa: F401

TEXTS = ["one", "", "zwei – é", "NA", "7", "null", 'a "b"\nc', "last"]
OTHERS = [None, 1, "x", [1, "y"], {"a": None}, 2.5, "DIGITS", {"b": [{}]}]


def rows(shift: int = 0) -> list[dict]:
    """The texts beside columns that differ from row to row, null at first."""
    return [
        {"a": OTHERS[(at + shift) % 8], "text": text, f"k{at % 3}": at}
        for at, text in enumerate(TEXTS)
    ]


def dumped(found: object, **how: int | None) -> str:
    """JSON with a number of more digits than Python makes an int of."""
    return json.dumps(found, **how).replace('"DIGITS"', "9" * 5000)


def json_lines(found: list[dict]) -> bytes:
    return "".join(dumped(row) + "\n" for row in found).encode()


def local(path: Path, field: str = "text") -> list[str]:
    return [text.decode() for _, text in local_documents(path, field)]


def streamed(settings) -> list[str]:
    return [
        text.decode() for block, _ in Stream(settings).blocks(None) for _, text in block
    ]


def told(read: Callable, what: object) -> list[str]:
    """What is read, or the error."""
    try:
        return read(what)
    except CorpusError as error:
        return [f"error: {error}"]


def parquet(path: Path, texts: list, kind: pa.DataType, **columns: pa.Array) -> None:
    if pa.types.is_dictionary(kind):
        column = pa.array(texts, kind.value_type).dictionary_encode().cast(kind)
    else:
        column = pa.array(texts, kind)
    pq.write_table(pa.table({**columns, "text": column}), path)


KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]


@pytest.fixture
def plain(hub_settings):
    """Settings of a streamed folder without a card, not shuffled."""
    return hub_settings(finewebedu_sample=None, shuffle_buffer=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_text_in_parquet_has_many_spellings(tmp_path, plain, kind) -> None:
    (tmp_path / "hub").mkdir()
    path = tmp_path / "hub" / "train.parquet"
    texts = [text.encode() for text in TEXTS] if "binary" in str(kind) else TEXTS
    parquet(path, texts, kind, n=pa.array(range(8)))
    assert told(local, path) == told(streamed, plain) == TEXTS


def test_other_columns_of_json_lines_are_never_read(tmp_path, plain) -> None:
    """Another type in every row, null first, other names in every file."""
    folder = tmp_path / "hub"
    folder.mkdir()
    for number in range(2):
        (folder / f"train-{number}.jsonl").write_bytes(json_lines(rows(number)))
    assert told(local, folder) == told(streamed, plain) == TEXTS * 2


@pytest.mark.parametrize("of", ["objects", "texts", "pretty"])
def test_an_array_of_json_is_read(tmp_path, plain, of) -> None:
    (tmp_path / "hub").mkdir()
    found = TEXTS if of == "texts" else rows()
    text = dumped(found, indent=2 if of == "pretty" else None)
    (tmp_path / "hub" / "train.json").write_text(text)
    assert streamed(plain) == TEXTS


def test_other_columns_of_parquet_are_never_read(tmp_path, plain) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    columns = [
        {"a": pa.nulls(8)},
        {"a": pa.array(range(8))},
        {"a": pa.array(["x"] * 8), "b": pa.array([[1]] * 8)},
        {"b": pa.array([{"c": 1}] * 8)},
    ]
    for number, each in enumerate(columns):
        path = folder / f"train-{number}.parquet"
        parquet(path, TEXTS, KINDS[number % 3], **each)
    assert told(local, folder) == told(streamed, plain) == TEXTS * 4


def test_other_columns_of_csv_are_never_read(tmp_path, plain) -> None:
    """A type that changes late; a text that looks like none or like a number."""
    folder = tmp_path / "hub"
    folder.mkdir()
    texts = [f"text {n}" for n in range(12_000)] + ["NA", "7", "null"]
    lines = [f"{n if n < 11_000 else 'x'},{text}" for n, text in enumerate(texts)]
    (folder / "train-0.csv").write_text("a,text\n" + "\n".join(lines))
    (folder / "train-1.csv").write_text("\ufefftext,b\n" + "\n".join(["one,", "two,y"]))
    assert streamed(plain) == [*texts, "one", "two"]


PACKERS = {
    "gz": lambda raw: gzip.compress(raw[:40]) + gzip.compress(raw[40:]) + bytes(9),
    "zst": lambda raw: b"".join(map(zstandard.compress, (raw[:40], raw[40:]))),
    "bz2": lambda raw: bz2.compress(raw[:40]) + bz2.compress(raw[40:]),
    "xz": lambda raw: lzma.compress(raw[:40]) + lzma.compress(raw[40:]),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "marked"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("kind", ["", *PACKERS])
def test_every_spelling_of_json_lines(tmp_path, plain, kind, end, mark) -> None:
    raw = mark + json_lines(rows()).replace(b"\n", end.encode())
    (tmp_path / "hub").mkdir()
    path = tmp_path / "hub" / f"train.jsonl{'.' * bool(kind)}{kind}"
    path.write_bytes(PACKERS[kind](raw) if kind else raw)
    assert told(local, path) == told(streamed, plain) == TEXTS


@pytest.mark.parametrize("kind", PACKERS)
def test_a_streamed_file_that_is_cut_short_is_an_error(tmp_path, plain, kind) -> None:
    raw = PACKERS[kind](json_lines(rows()))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / f"train.jsonl.{kind}").write_bytes(raw[:-20])
    with pytest.raises(CorpusError, match=f"train.jsonl.{kind}: damaged or cut short"):
        streamed(plain)


def test_a_mark_is_no_text(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\xef\xbb\xbf")
    assert local(path) == ["one\r\n\ufeff"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_another_encoding_is_refused_by_name(tmp_path, name, encoding) -> None:
    path = tmp_path / name
    path.write_bytes(("\ufeff" + '{"text": "東京"}\n').encode(encoding))
    named = encoding[:6].upper()
    with pytest.raises(CorpusError, match=f"{name}: .* mark of {named}, .*iconv"):
        local(path)


def test_positions_of_the_library_stay_positions(tmp_path, hub_settings) -> None:
    """A journal written before is taken up at the same row, at every position."""
    write_folder(tmp_path / "hub", words(700), files=2)
    settings = hub_settings(shuffle_buffer=0)
    theirs = datasets.load_dataset_builder(settings.hf_path, "sample-10BT")
    ours = datasets.load_dataset_builder(settings.hf_path, "sample-10BT")
    text_only(ours)
    stream = theirs.as_streaming_dataset(split="train")
    every = [row["text"] for row in stream]
    assert [row["text"] for row in ours.as_streaming_dataset(split="train")] == every
    for at, _ in enumerate(stream, 1):
        if at in (1, 50, 99, 100, 101, 349, 350, 351, 449, 450, 650, 699):
            taken = ours.as_streaming_dataset(split="train")
            taken.load_state_dict(stream.state_dict())
            assert [row["text"] for row in taken] == every[at:], at


# What expands too far


def zst_bomb() -> bytes:
    """A line of 1.3 GB in 120 kB."""
    many = zstandard.compress(b" " * (1 << 26)) * 20
    return zstandard.compress(b'{"text": "') + many + zstandard.compress(b'"}\n')


def parquet_bomb() -> bytes:
    """A text of 1 kB in 1,000,000 rows: 1 GB in 110 kB."""
    column = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 1024])
    )
    out = io.BytesIO()
    pq.write_table(pa.table({"text": column}), out, compression="zstd")
    return out.getvalue()


def page_bomb() -> bytes:
    """One text of 150 MB in a page of 15 kB."""
    out = io.BytesIO()
    table = pa.table({"text": ["x" * 150_000_000]})
    pq.write_table(table, out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def lines_bomb() -> bytes:
    """A hundred million empty lines in 5 kB."""
    return zstandard.compress(b"\n" * 50_000_000) * 2


BOMBS = {
    "a.jsonl.zst": zst_bomb,
    "b.parquet": parquet_bomb,
    "c.parquet": page_bomb,
    "d.jsonl.zst": lines_bomb,
}
READ = """
import resource, sys
from pathlib import Path
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.sources.local import local_documents
import gpt2.data.sources.columns
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for _ in local_documents(Path(sys.argv[1]), "text"): pass
except CorpusError as error: print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_what_expands_too_far_stops_at_the_limit(tmp_path, name) -> None:
    """In one line that says what and how to go on, with little memory."""
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    size = path.stat().st_size
    assert size < 200_000
    said = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    limit = max(expand.LEAST, expand.EXPANSION * size)
    assert said[0] == (
        f"{path}: its {size:,} bytes expand to more than {limit:,}: if that is right, "
        f"unpack the file, or raise EXPANSION ({expand.EXPANSION}) in "
        "gpt2/data/sources/expand.py (docs/data.md)"
    )
    assert int(said[1]) * 1024 < limit + 300_000_000


@pytest.mark.parametrize("name", ["jsonl.gz", "jsonl.zst", "csv.bz2", "zip", "parquet"])
def test_a_stream_has_the_limit_too(tmp_path, plain, monkeypatch, name) -> None:
    monkeypatch.setattr(expand, "LEAST", 1 << 16)
    monkeypatch.setattr(expand, "EXPANSION", 20)
    (tmp_path / "hub").mkdir()
    path = tmp_path / "hub" / f"train.{name}"
    line = json.dumps({"text": "x" * 100}) + "\n"
    csv = "text\n" + ("x" * 100 + "\n") * 20_000
    if name == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train.jsonl", line * 20_000)
    elif name == "parquet":
        pq.write_table(pa.table({"text": ["x" * 100] * 20_000}), path)
    else:
        raw = (csv if name.startswith("csv") else line * 20_000).encode()
        pack = {"gz": gzip.compress, "zst": zstandard.compress, "bz2": bz2.compress}
        path.write_bytes(pack[name.rpartition(".")[2]](raw))
    with pytest.raises(CorpusError, match=f"train.{name}: its .* expand to more than"):
        streamed(plain)


def test_text_may_expand_as_text_does(tmp_path) -> None:
    """A hundred times is no bomb, nor is a small file of little more."""
    path = tmp_path / "a.jsonl.zst"
    texts = [f"{n} " * 300 for n in range(3000)]
    path.write_bytes(zstandard.compress(json_lines([{"text": t} for t in texts])))
    assert local(path) == texts


def test_a_line_has_its_own_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(expand, "LONGEST", 5000)
    path = tmp_path / "a.jsonl.gz"
    long = np.random.default_rng(0).bytes(20_000).hex()
    path.write_bytes(gzip.compress(json_lines([{"text": "x"}, {"text": long}])))
    with pytest.raises(CorpusError, match="a.jsonl.gz: a line of more than 5,000 byt"):
        local(path)
    path.write_bytes(gzip.compress(json_lines([{"text": "x" * 4000}] * 9)))
    assert local(path) == ["x" * 4000] * 9
