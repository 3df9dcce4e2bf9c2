"""Which files of a folder are read, as what, and how the others are named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2.data.packing.prepare import examine, prepare
from gpt2.data.sources.corpora import CorpusError, scan
from gpt2.data.sources.folder import corpus_files, kind_of
from gpt2.data.sources.local import local_documents
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from records.manifest import read_manifest

RECORD = '{"text": "a record"}\n'


def fill(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def files_of(root: Path, rules=(), shuffled: bool = False) -> list[tuple[str, str]]:
    found = corpus_files(root, rules, shuffled)
    return [(file.name, file.kind) for file in found.files]


@pytest.mark.parametrize(
    "kind, names",
    {
        "jsonl": "a.jsonl a.NDJSON a.jsonlines a.jsonl.gz a.ndjson.zst b.json.jsonl",
        "parquet": "a.parquet a.Parquet train-00000.parq x.pq",
        "text": "a.txt a.md a.py Makefile README.md a.c a.html a.xml a.tex a.1 .a a.rst",
        None: "a.json a.json.gz a.JSON.zst a.csv a.tsv a.CSV.gz a.txt.gz a.arrow a.zip "
        "a.tar a.tar.gz a.pdf a.docx a.png a.JPG a.pkl a.pt a.safetensors a.npy a.bin "
        "a.so a.pyc a.sqlite a.xlsx a.mp3 a.parquet.gz dataset_infos.json",
    }.items(),
)
def test_a_name_says_what_a_file_holds(kind: str | None, names: str) -> None:
    assert {name: kind_of(name) for name in names.split()} == dict.fromkeys(
        names.split(), kind
    )


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonlines", "A.JSONL"])
def test_json_lines_under_other_names_are_lines(tmp_path: Path, name: str) -> None:
    fill(tmp_path, **{name: RECORD * 2})
    assert [text for _, text in local_documents(tmp_path, "text")] == [b"a record"] * 2


PAPERS = ("README.md", "LICENSE", "licence.txt", "CITATION.cff", "SHA256SUMS")


def test_the_papers_of_a_data_set_are_no_documents(tmp_path: Path) -> None:
    fill(tmp_path, **{"data/a.jsonl": RECORD}, **dict.fromkeys(PAPERS, "about"))
    fill(tmp_path, **{"notes.txt": "a document", "dataset_infos.json": "{}"})
    with pytest.raises(CorpusError) as refused:
        list(local_documents(tmp_path, "text"))
    lines = str(refused.value).splitlines()
    assert lines[0] == f"CONFIG_LOCAL_PATH={tmp_path}: 6 files cannot be used"
    why = "beside records it is probably no document"
    assert f"  {tmp_path}/LICENSE: {why}" in lines
    assert len([line for line in lines if why in line]) == len(PAPERS)
    json_kind = ".json is no kind that is read; with one object a line it is jsonl"
    assert (
        f"  {tmp_path}/dataset_infos.json: {json_kind}, as one document text" in lines
    )
    assert 'CONFIG_LOCAL_FILES="PATTERN:KIND' in lines[-1]


def test_among_texts_a_readme_is_a_document(tmp_path: Path) -> None:
    fill(tmp_path, **{"a/README.md": "one", "LICENSE": "two"})
    assert files_of(tmp_path) == [("LICENSE", "text"), ("a/README.md", "text")]


RULES = {
    (("*.json", "jsonl"),): ["a.json jsonl", "sub/b.json jsonl"],
    (("a.json", "text"), ("*.json", "jsonl")): ["a.json text", "sub/b.json jsonl"],
    (("sub/*.json", "jsonl"), ("*", "text")): ["a.json text", "sub/b.json jsonl"],
    (("*.json", "jsonl"), ("a.json", "text")): ["a.json jsonl", "sub/b.json jsonl"],
    (("sub", "skip"), ("a*", "text")): ["a.json text"],
    (("*/b.json", "skip"), ("*.json", "text")): ["a.json text"],
    (("@LIST", "skip"), ("*", "text")): ["sub/b.json text"],
}


@pytest.mark.parametrize("rules, expected", RULES.items())
def test_the_first_rule_that_fits_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules, expected
) -> None:
    root = fill(tmp_path / "corpus", **{"a.json": RECORD, "sub/b.json": RECORD})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LIST").write_text("a.json\nb.json\n")  # b.json is no such path
    assert [" ".join(file) for file in files_of(root, rules)] == expected


def test_a_rule_stands_above_the_name(tmp_path: Path) -> None:
    fill(tmp_path, **{"a.jsonl": "{", "b.parquet": "x", "LICENSE": "me"})
    rules = [("a.jsonl", "text"), ("*.parquet", "jsonl"), ("LICENSE", "text")]
    kinds = {"a.jsonl": "text", "b.parquet": "jsonl", "LICENSE": "text"}
    assert dict(files_of(tmp_path, rules)) == kinds


def test_a_place_that_is_one_file_follows_the_rules_too(tmp_path: Path) -> None:
    path = fill(tmp_path, **{"a.json": RECORD}) / "a.json"
    with pytest.raises(CorpusError, match="a.json: .json is no kind that is read"):
        list(local_documents(path, "text"))
    taken = local_documents(path, "text", rules=[("*.json", "jsonl")])
    assert [text for _, text in taken] == [b"a record"]
    assert corpus_files(path, [("a.json", "skip")], False).skipped == 1


def test_kinds_and_counts_are_printed(tmp_path: Path, make_settings) -> None:
    texts = {f"t/{n}.md": f"text {n} " * 20 for n in range(30)}
    fill(tmp_path / "corpus", **{"a.jsonl": RECORD * 3, "b.ndjson": RECORD}, **texts)
    fill(tmp_path / "corpus", **{"plain": "no suffix", "c.csv": "1,2", "d.csv": "3"})
    said: list[str] = []
    settings = make_settings(local_files=(("*.csv", "skip"),))
    prepare(settings, tmp_path / "set", said.append)
    kinds = "2 files as jsonl (.jsonl 1, .ndjson 1), "
    kinds += "31 files as text (.md 30, no suffix 1), 2 left out by CONFIG_LOCAL_FILES"
    assert any(f"{tmp_path}/corpus: {kinds}" in line for line in said)


# All at once


@pytest.fixture
def unusable(tmp_path: Path) -> list[str]:
    """A corpus of good texts and 25 files of seven kinds that cannot be packed."""
    root = tmp_path / "corpus"
    fill(root, **{f"good/{n:02d}.txt": f"good text {n} " * 9 for n in range(40)})
    names = [f"bad/{n:02d}.png" for n in range(18)]
    for name in names:
        fill(root, **{name: "x"})
    (root / "bad/nul").write_bytes(b"a\0b")
    (root / "bad/latin.txt").write_bytes(b"caf\xe9")
    fill(root, **{"bad/row.jsonl": RECORD + "{\n", "bad/field.ndjson": '{"b": "x"}'})
    (root / "bad/torn.parquet").write_bytes(b"PAR1")
    os.symlink("nowhere", root / "bad/link")
    os.mkfifo(root / "bad/pipe")
    others = ("nul", "latin.txt", "row.jsonl", "field.ndjson")
    others += ("torn.parquet", "link", "pipe")
    return names + [f"bad/{name}" for name in others]


def test_every_unusable_file_is_named_at_once(
    tmp_path: Path, unusable: list[str], make_settings: Callable
) -> None:
    settings = make_settings(tokenizer="gpt2")
    directory = tmp_path / "data" / "set"
    with pytest.raises(CorpusError) as error:
        prepare(settings, directory, lambda line: None)
    message = str(error.value)
    assert f"CONFIG_LOCAL_PATH={tmp_path}/corpus: 25 files cannot be used" in message
    assert "… and 5 more" in message
    listed = directory.parent / ".set.unusable"
    assert f'CONFIG_LOCAL_FILES="@{listed}:skip" leaves them out' in message
    assert sorted(listed.read_text().splitlines()) == sorted(unusable)
    assert not directory.exists()
    rest = make_settings(tokenizer="gpt2", local_files=((f"@{listed}", "skip"),))
    assert scan(rest).documents == 40


def test_bytes_serve_where_the_tokenizer_reads_bytes(
    tmp_path: Path, unusable: list[str], make_settings: Callable
) -> None:
    with pytest.raises(CorpusError, match="24 files cannot be used"):
        scan(make_settings())
    (only,) = [name for name in unusable if "latin" in name]
    with pytest.raises(CorpusError, match="latin.txt: no UTF-8 at byte 3"):
        path = tmp_path / "corpus" / only
        list(local_documents(path, "text", utf8=True))


# Order, budgets


def test_mixed_files_are_in_the_order_of_their_hashes(tmp_path: Path) -> None:
    """sha256 of "a", "b", "c/d" begins with ca97, 3e23, e5fb."""
    fill(tmp_path, **{"a": "1", "b": "2", "c/d": "3"})
    assert files_of(tmp_path, shuffled=True) == [
        ("b", "text"),
        ("a", "text"),
        ("c/d", "text"),
    ]


@pytest.mark.parametrize("shuffled", [False, True])
def test_what_a_budget_leaves_out_is_said(
    tmp_path: Path, make_settings: Callable, shuffled: bool
) -> None:
    files = {
        f"{part}/{n:03d}.txt": f"{part}{n} " * 30 for part in "abc" for n in range(99)
    }
    fill(tmp_path / "corpus", **files)
    said: list[str] = []
    settings = make_settings(
        tokens=3000, local_shuffle=shuffled, tokenizer="bpe", bpe_vocab_size=300
    )
    settings = make_settings(
        **{**vars(settings), "bpe_train_mb": 1, "tokens": 3000, "shard_tokens": 1 << 20}
    )
    manifest = prepare(settings, tmp_path / "set", said.append)
    packed = sum(split.documents for split in manifest.splits.values())
    assert 0 < packed < len(files)
    lines = [line for line in said if "CONFIG_DATA_TOKENS" in line]
    assert len(lines) == 1
    order = [name for name, _ in files_of(tmp_path / "corpus", shuffled=shuffled)]
    last = f"{tmp_path}/corpus/{order[packed - 1]}"
    assert (
        f"was reached after {packed:,} of {len(files)} documents, at {last}" in lines[0]
    )
    assert ("CONFIG_LOCAL_SHUFFLE=y mixes the files" in lines[0]) == (not shuffled)
    assert not [line for line in said if "BPE was trained on the first" in line]


def test_a_bpe_of_the_first_files_is_said(tmp_path: Path, make_settings) -> None:
    words = " ".join(f"word{n}" for n in range(2000))
    fill(
        tmp_path / "corpus", **{f"{n:03d}.txt": f"{n} {words}" * 10 for n in range(20)}
    )
    said: list[str] = []
    settings = make_settings(tokenizer="bpe", bpe_vocab_size=300, bpe_train_mb=1)
    prepare(settings, tmp_path / "set", said.append)
    (line,) = [line for line in said if "BPE was trained on the first" in line]
    assert "CONFIG_LOCAL_SHUFFLE=y" in line and "corpus/0" in line


# A packed corpus without its text


def test_a_packed_corpus_serves_without_its_text(
    tmp_path: Path, dataset: Path, make_settings: Callable
) -> None:
    before = read_manifest(dataset)
    os.rename(tmp_path / "corpus", tmp_path / "elsewhere")
    said: list[str] = []
    assert prepare(make_settings(), dataset, said.append) == before
    gone = f"CONFIG_LOCAL_PATH={tmp_path}/corpus"
    whole = (
        f"{dataset}: up to date as it was packed; {gone} is not here to compare it with"
    )
    assert said == [whole]
    assert examine(make_settings(), dataset) == (None, None)


def test_a_damaged_one_does_not(tmp_path, dataset, make_settings) -> None:
    os.rename(tmp_path / "corpus", tmp_path / "elsewhere")
    shard = dataset / read_manifest(dataset).splits["train"].files[0]
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(CorpusError, match=f"corpus: No such file.*{shard.name}"):
        prepare(make_settings(), dataset, lambda line: None)


def test_a_text_that_cannot_be_read_is_not_taken_for_gone(
    tmp_path: Path, dataset: Path, make_settings: Callable
) -> None:
    os.rename(tmp_path / "corpus", tmp_path / "elsewhere")
    os.symlink("nowhere", tmp_path / "corpus")
    with pytest.raises(CorpusError, match="No such file"):
        prepare(make_settings(), dataset, lambda line: None)


# The symbol


def test_rules_are_read_in_their_order(resolve) -> None:
    values = resolve(
        DATASET_LOCAL="y", LOCAL_PATH="a", LOCAL_FILES="*.csv:skip, b:c:text,*:jsonl"
    )
    rules = run_settings(values).data.local_files
    assert rules == (("*.csv", "skip"), ("b:c", "text"), ("*", "jsonl"))
    assert (
        run_settings(resolve(DATASET_LOCAL="y", LOCAL_PATH="a")).data.local_files == ()
    )


@pytest.mark.parametrize("raw", ["*.csv", "*.csv:csv", ":text", "a:text,,b:text"])
def test_other_rules_are_refused(resolve, raw: str) -> None:
    with pytest.raises(SettingsError, match=r"is not NAME:jsonl\|parquet\|text\|skip"):
        run_settings(resolve(DATASET_LOCAL="y", LOCAL_PATH="a", LOCAL_FILES=raw))
