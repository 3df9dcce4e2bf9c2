"""Documents: their order, and what strange data does."""

import json
import os
from pathlib import Path

import pytest

from gpt2.data.sources.corpora import (
    CorpusError,
    SourceHash,
    documents,
    local_documents,
    scan,
    stdlib_documents,
)


def write(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def names(root: Path, tests: bool) -> list[str]:
    return [name for name, _ in stdlib_documents(root, tests, minimum=1)]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "lib"
    for name in (
        "os.py",
        "abc.py",
        "json/decoder.py",
        "json/data.txt",
        "test/test_os.py",
        "sqlite3/tests/a.py",
        "idlelib/idle_test/b.py",
        "site-packages/numpy.py",
        "dist-packages/apt.py",
        "_sysconfigdata__linux.py",
        "config-3.11/python-config.py",
        "sitecustomize.py",
    ):
        write(root / name)
    return root


def test_the_stdlib_is_its_sources_in_order(library: Path) -> None:
    assert names(library, False) == ["abc.py", "json/decoder.py", "os.py"]


def test_test_suites_come_only_when_asked_for(library: Path) -> None:
    assert sorted(set(names(library, True)) - set(names(library, False))) == [
        "idlelib/idle_test/b.py",
        "sqlite3/tests/a.py",
        "test/test_os.py",
    ]


@pytest.mark.parametrize("where", ["lib", "python311.zip", "nowhere"])
def test_a_python_without_sources_points_to_the_local_corpus(
    library: Path, where: str
) -> None:
    write(library.parent / "python311.zip")
    with pytest.raises(CorpusError, match="CONFIG_DATASET_LOCAL=y"):
        list(stdlib_documents(library.parent / where, False))


def test_bytes_that_are_not_utf8_stay_as_they_are(library: Path) -> None:
    write(library / "latin.py", b"# \xe9\n")
    assert ("latin.py", b"# \xe9\n") in stdlib_documents(library, False, minimum=1)


def test_the_real_stdlib_is_read(make_settings) -> None:
    source = scan(make_settings(corpus="stdlib", local_path=None))
    assert source.documents > 300 and 5e6 < source.bytes < 30e6


def test_synthetic_text_is_always_the_same(make_settings) -> None:
    settings = make_settings(corpus="synthetic", local_path=None, synthetic_mb=1)
    source = scan(settings)
    assert source == scan(settings) and source.empty == 0
    assert 1_000_000 <= source.bytes < 1_030_000 and source.documents > 80
    texts = [text for _, text in documents(settings)]
    assert all(20 <= len(text.split()) <= 2000 for text in texts)
    assert 3500 < len({word for text in texts for word in text.split()}) <= 4096


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    for name in ("b.txt", "a/z.md", "a.txt", ".hidden", ".git/config"):
        write(root / name, name)
    write(root / "a" / "c.jsonl", '{"text": "one"}\n\n{"text": ""}\n{"text": "é"}')
    assert [text for _, text in local_documents(root, "text")] == [
        b"a.txt",
        b"one",
        b"",
        "é".encode(),
        b"a/z.md",
        b"b.txt",
    ]


def test_a_document_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"text": "one"}\n{"text": "two"}\n')
    assert [name for name, _ in local_documents(path, "text")] == [
        f"{path}:1",
        f"{path}:2",
    ]


@pytest.mark.parametrize(
    "line, cause",
    [
        (b'{"text": "a"', "not a line of JSON"),
        (b'{"text": "\xff"}', "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
        (b'["text"]', "a list, expected an object"),
        (b'{"body": "a", "id": 1}', r"no field 'text' .*it has body, id"),
        (b'{"text": 5}', "is 5, expected a string"),
        (b'{"text": null}', "is None, expected a string"),
        (b'{"text": "\\ud800"}', "surrogates not allowed"),
    ],
)
def test_a_bad_line_is_an_error_with_its_place(
    tmp_path: Path, line: bytes, cause: str
) -> None:
    path = write(tmp_path / "c.jsonl", b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(CorpusError, match=f"c.jsonl:2: .*{cause}"):
        list(local_documents(path, "text"))


def test_a_huge_line_is_one_document(tmp_path: Path) -> None:
    text = "ab" * 3_000_000
    path = write(tmp_path / "c.jsonl", json.dumps({"text": text}))
    assert [body for _, body in local_documents(path, "text")] == [text.encode()]


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus" / "image", b"\x89PNG\0")
    with pytest.raises(CorpusError, match=f"{path}: byte 4 is NUL"):
        list(local_documents(path.parent, "text"))


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "corpus" / "a" / "b.txt").parent
    (folder / "up").symlink_to(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="up: this link leads to a folder that holds"):
        list(local_documents(tmp_path / "corpus", "text"))


def test_other_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.txt", "linked")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    assert [t for _, t in local_documents(tmp_path / "corpus", "text")] == [b"linked"]


@pytest.mark.parametrize("target", ["gone", "self"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "self").symlink_to(tmp_path / target)
    with pytest.raises(CorpusError, match="self: (No such file|Too many levels)"):
        list(local_documents(tmp_path, "text"))


def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="pipe: neither a regular file nor a folder"):
        list(local_documents(tmp_path, "text"))


def test_an_unreadable_file_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "secret.txt")

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # root may read any file
    with pytest.raises(CorpusError, match="secret.txt: Permission denied"):
        list(local_documents(path, "text"))


def test_a_missing_path_names_the_symbol(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="CONFIG_LOCAL_PATH=.*nowhere: No such file"):
        list(local_documents(tmp_path / "nowhere", "text"))


def test_a_corpus_without_text_is_refused(tmp_path: Path, make_settings) -> None:
    write(tmp_path / "corpus", b"")
    with pytest.raises(CorpusError, match="holds no text .1 empty"):
        scan(make_settings())


def source_of(*texts: bytes) -> str:
    found = SourceHash()
    for text in texts:
        found.add(text)
    return found.result().sha256


def test_the_source_hash_sees_borders_and_order_not_empty_documents() -> None:
    assert source_of(b"ab", b"c") == source_of(b"ab", b"", b"c")
    others = {source_of(b"a", b"bc"), source_of(b"c", b"ab"), source_of(b"abc")}
    assert len(others | {source_of(b"ab", b"c")}) == 4
