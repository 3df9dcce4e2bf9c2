"""BPE: nothing is lost, nothing bridged, and what each error says."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gpt2.data.loading.loader import TokenStream
from gpt2.data.packing.prepare import examine, prepare
from gpt2.data.shards import ShardError
from gpt2.data.sources.files import CorpusError
from gpt2.data.tokenization import bpe, token_bytes
from gpt2.data.tokenization.bpe import BpeTokenizer, TOKENIZER, gpt2, train, trained
from gpt2.data.tokenization.tokenizers import ByteTokenizer, TokenizerError, cut
from records import private
from records.manifest import read_manifest
from records.offline import NAMES
from tests.conftest import ROOT

PROSE = [
    path.read_bytes() for path in sorted((ROOT / "gpt2" / "data").rglob("[a-z]*.py"))
] + ["Ærø, naïve façade – 東京の空は青い。😀 don't 12 345\n\n\t x".encode()]
SIZE = 700


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    """tokenizer.json trained on a few files."""
    return train(map(bytes.decode, PROSE), SIZE)


@pytest.fixture(scope="module")
def tokenizer(vocabulary: bytes) -> BpeTokenizer:
    return trained(vocabulary)


@pytest.fixture(scope="module")
def library(vocabulary: bytes) -> Tokenizer:
    """The same tokenizer.json in the library that trained it."""
    found = Tokenizer.from_str(vocabulary.decode())
    found.encode_special_tokens = True
    return found


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["<|endoftext|>", "a<|endoftext|>b", "  \n\n  x", "it's 12", "\0", "e\u0301"]
)


@given(texts)
def test_round_trip_of_any_text(tokenizer: BpeTokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.dtype("<u2") and tokenizer.eot not in tokens
    assert tokenizer.decode(tokens) == text.encode()
    assert tokenizer.encode(text.encode()).tolist() == tokens.tolist()


@given(texts)
def test_the_training_library_agrees(
    tokenizer: BpeTokenizer, library: Tokenizer, text: str
) -> None:
    assert tokenizer.encode(text).tolist() == library.encode(text).ids


def test_it_agrees_on_the_corpus_and_merges(tokenizer, library) -> None:
    for text in PROSE:
        tokens = tokenizer.encode(text)
        assert tokens.tolist() == library.encode(text.decode()).ids
        assert len(tokens) < len(text)


@given(texts, st.integers(0, 30))
def test_any_cut_of_the_tokens_gives_the_bytes(tokenizer, text: str, at: int) -> None:
    tokens = tokenizer.encode(text)
    parts = tokenizer.decode(tokens[:at]) + tokenizer.decode(tokens[at:])
    assert parts == text.encode()


@given(st.lists(texts, max_size=4))
def test_no_token_reaches_over_the_end_of_a_document(tokenizer, documents) -> None:
    stream: list[int] = []
    for document in documents:
        stream += [*tokenizer.encode(document).tolist(), tokenizer.eot]
    ends = np.flatnonzero(np.array(stream) == tokenizer.eot)
    found = np.split(np.array(stream, np.int64), ends + 1)
    assert [tokenizer.decode(tokens) for tokens in found[:-1]] == [
        document.encode() for document in documents
    ]


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@given(st.text(max_size=5), st.characters(categories=["Cs"]), st.text(max_size=5))
def test_a_lone_surrogate_is_refused(tokenizer, kind, before, lone, after) -> None:
    before = before.encode("utf-8", "ignore").decode()
    use = tokenizer if kind == "bpe" else ByteTokenizer()
    place = rf"character {len(before)} is the lone surrogate U\+{ord(lone):04X}"
    with pytest.raises(TokenizerError, match=place):
        use.encode(before + lone + after)


def test_bytes_that_are_no_utf8_are_refused(tokenizer: BpeTokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"byte 2 \(0xe9\) .*TOKENIZER_BYTE=y"):
        tokenizer.encode(b"ab\xe9")


@pytest.mark.parametrize("token", [-1, SIZE])
def test_a_token_outside_the_vocabulary_is_refused(tokenizer, token: int) -> None:
    with pytest.raises(ValueError, match=f"a bpe token is 0-{SIZE - 1}"):
        tokenizer.decode(np.array([0, token]))


@given(texts, st.integers(1, 20))
def test_a_cut_changes_no_token(tokenizer, text: str, limit: int) -> None:
    raw = memoryview((text + "one two\nthree 4 5").encode())
    tokens, start = [], 0
    while start < len(raw):
        stop = start + cut(raw[start:], limit)
        tokens += tokenizer.encode(raw[start:stop]).tolist()
        start = stop
    assert tokens == tokenizer.encode(raw).tolist()


def test_a_cut_is_the_last_one_within_the_limit() -> None:
    assert cut(memoryview(b"a b c d"), 4) == 3
    assert cut(memoryview(b"a b"), 3) == 3
    assert cut(memoryview(b"abcdef g"), 2) == 6
    assert cut(memoryview("é é é".encode()), 3) == 8


def test_a_cut_behind_the_limit_is_the_first_one() -> None:
    """Of a word of 50 MB as of a short one, in a blink."""
    for length in (5, 50_000_000):
        word = b"x" * length
        assert cut(memoryview(word + b" a b"), 3) == length
        assert cut(memoryview(word), 3) == length
        assert cut(memoryview(word + b"\xc3 \n9\n8"), 3) == length + 4


def test_too_little_text_names_the_largest_vocabulary() -> None:
    with pytest.raises(TokenizerError, match="SIZE=5000: .* a vocabulary of 259:"):
        train(["aa aa"], 5000)
    assert trained(train(["aa aa"], 258)).encode("aaa").tolist() == [256, 64]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"model": {"vocab": {"\xe6\x9d\xb1": 0}}}']
)
def test_another_file_is_no_tokenizer(content: bytes) -> None:
    with pytest.raises(TokenizerError, match="not a byte-level BPE"):
        trained(content)


def test_a_vocabulary_with_a_gap_is_refused(vocabulary: bytes) -> None:
    raw = json.loads(vocabulary)
    lost = next(t for t, rank in raw["model"]["vocab"].items() if rank == 300)
    del raw["model"]["vocab"][lost]
    with pytest.raises(TokenizerError, match="the ranks are not 0-697"):
        trained(json.dumps(raw).encode())


# GPT-2's vocabulary


@pytest.fixture
def file(tmp_path: Path, vocabulary: bytes) -> Path:
    """A small vocabulary in the form of GPT-2's file."""
    raw = json.loads(vocabulary)["model"]["vocab"]
    lines = []
    for token, rank in sorted(raw.items(), key=lambda item: item[1]):
        text = bytes(bpe.BYTE_OF[character] for character in token)
        lines.append(f"{base64.b64encode(text).decode()} {rank}\n")
    path = tmp_path / "vocabulary" / bpe.GPT2_FILE
    path.parent.mkdir()
    path.write_text("".join(lines))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", [bpe.GPT2_FILE, bpe.GPT2_CACHED, "other"])
def test_gpt2_reads_a_file_or_its_folder(file: Path, tokenizer, name: str) -> None:
    path = file.rename(file.with_name(name))
    places = [path] if name == "other" else [path, path.parent]
    for place in places:
        found = gpt2(place, sha256(path))
        assert (found.name, found.vocab_size) == ("gpt2", SIZE)
        assert found.encode(PROSE[0]).tolist() == tokenizer.encode(PROSE[0]).tolist()


def test_another_vocabulary_is_not_gpt2(file: Path) -> None:
    with pytest.raises(TokenizerError, match=f"sha256 {sha256(file)} is not that of"):
        gpt2(file)


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_missing_vocabulary_says_what_to_put_where(tmp_path, where) -> None:
    with pytest.raises(TokenizerError) as caught:
        gpt2(tmp_path / where)
    for part in (
        "No such file",
        bpe.GPT2_URL,
        bpe.GPT2_SHA256,
        "CONFIG_GPT2_VOCAB_PATH",
        f"put it as {bpe.GPT2_CACHED} into TIKTOKEN_CACHE_DIR",
        "CONFIG_TOKENIZER_BYTE=y",
    ):
        assert part in str(caught.value)


def test_without_a_network_the_same_is_said(tmp_path: Path) -> None:
    """The real fetch, through a proxy that nobody listens on."""
    program = (
        "from gpt2.data.tokenization.bpe import *\n"
        "try: gpt2(None)\n"
        "except TokenizerError as error: print(error)"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={
            **os.environ,
            "TIKTOKEN_CACHE_DIR": str(tmp_path),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "",
        },
        text=True,
    )
    assert said.startswith(f"{bpe.GPT2_URL} cannot be reached (ProxyError)")
    assert "CONFIG_GPT2_VOCAB_PATH" in said


def test_the_network_is_not_used_where_a_variable_says_so(
    tmp_path: Path, monkeypatch
) -> None:
    """What lies in a cache serves all the same."""

    def ask(url: str) -> bytes:
        raise OSError(url)

    monkeypatch.setattr("tiktoken.load.read_file", ask)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in private.VOCABULARY_CACHES:
        monkeypatch.delenv(name, raising=False)
    for name in NAMES:
        monkeypatch.setenv(name, "1")
        with pytest.raises(TokenizerError) as refused:
            gpt2(None)
        assert str(refused.value).startswith(
            f"{name}=1, so {bpe.GPT2_URL} is not asked"
        )
        monkeypatch.delenv(name)
    monkeypatch.setenv(NAMES[0], "y")
    with pytest.raises(TokenizerError, match=f"{NAMES[0]}='y': "):
        gpt2(None)


def test_what_is_fetched_lies_in_the_users_cache(tmp_path: Path, monkeypatch) -> None:
    """Not in /tmp/data-gym-cache, where tiktoken puts it."""
    content, fetched = b"YQ== 0\nYg== 1\n", []
    monkeypatch.setattr(bpe, "GPT2_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(
        "tiktoken.load.read_file", lambda url: fetched.append(url) or content
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "x")  # and so removed after the test
    for name in private.VOCABULARY_CACHES:
        monkeypatch.delenv(name, raising=False)
    assert bpe._cached_ranks() == {b"a": 0, b"b": 1}
    assert fetched == [bpe.GPT2_URL]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [
        tmp_path / "kablate" / "tiktoken" / bpe.GPT2_CACHED
    ]


@pytest.mark.parametrize("line", ["YQ==", "YQ== x", "Y 1"])
def test_a_torn_line_is_named(file: Path, line: str) -> None:
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(TokenizerError, match=f"{bpe.GPT2_FILE}:{SIZE}: "):
        gpt2(file, sha256(file))


def test_it_is_gpt2_where_the_vocabulary_is_present() -> None:
    import tiktoken

    folder = os.environ.get("TIKTOKEN_CACHE_DIR")
    if not folder or not (Path(folder) / bpe.GPT2_CACHED).is_file():
        pytest.skip(f"no {bpe.GPT2_CACHED} in TIKTOKEN_CACHE_DIR")
    found, theirs = gpt2(Path(folder)), tiktoken.get_encoding("r50k_base")
    assert (found.vocab_size, found.eot) == (50257, theirs.eot_token)
    for text in PROSE:
        assert found.encode(text).tolist() == theirs.encode_ordinary(text.decode())


# Packed


@pytest.fixture
def corpus(tmp_path: Path) -> list[bytes]:
    """200 documents of English-like text in a jsonl file at corpus."""
    words = PROSE[0].decode().split()
    random = np.random.default_rng(5)
    documents = [
        " ".join(random.choice(words, random.integers(5, 80))).encode()
        for _ in range(200)
    ]
    lines = [json.dumps({"text": document.decode()}) for document in documents]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    return documents


@pytest.fixture
def bpe_settings(tmp_path: Path, make_settings):
    path = str(tmp_path / "corpus.jsonl")
    return make_settings(
        local_path=path, tokenizer="bpe", bpe_vocab_size=400, bpe_train_mb=0
    )


def quiet(line: str) -> None:
    """Say nothing."""


def split_texts(directory: Path, split: str) -> list[bytes]:
    found = trained((directory / TOKENIZER).read_bytes())
    stream = TokenStream(directory, split, "bpe", 400)
    tokens = stream.rows(np.array([0]), stream.tokens)[0]
    ends = np.flatnonzero(tokens == found.eot)
    assert ends[-1] == len(tokens) - 1
    return [found.decode(part) for part in np.split(tokens, ends + 1)[:-1]]


def test_a_packed_corpus_reads_back(tmp_path, corpus, bpe_settings) -> None:
    directory = tmp_path / "set"
    manifest = prepare(bpe_settings, directory, quiet)
    texts = split_texts(directory, "train") + split_texts(directory, "val")
    assert sorted(texts) == sorted(corpus)
    assert manifest.vocab_size == 400 and manifest.tokenizer == "bpe"
    assert manifest.tokenizer_sha256 == sha256(directory / TOKENIZER)
    assert examine(bpe_settings, directory)[0] is None


def test_killed_while_the_vocabulary_trains(
    tmp_path, corpus, bpe_settings, monkeypatch
) -> None:
    """The build is started over and ends in the same bytes."""
    wanted = prepare(bpe_settings, tmp_path / "whole", quiet)
    directory, said = tmp_path / "set", []

    def kill(*_):
        raise KeyboardInterrupt  # leaves what kill -9 leaves

    with monkeypatch.context() as patch:
        patch.setattr("gpt2.data.packing.build.train", kill)
        with pytest.raises(KeyboardInterrupt):
            prepare(bpe_settings, directory, quiet)
    assert [path.name for path in (tmp_path / ".set.building").iterdir()] == [
        "recipe.json"
    ]
    found = prepare(bpe_settings, directory, said.append)
    assert any("started over" in line and TOKENIZER in line for line in said)
    assert found.sha256 == wanted.sha256
    assert found.tokenizer_sha256 == wanted.tokenizer_sha256


def test_validation_text_does_not_train(tmp_path, corpus, bpe_settings) -> None:
    directory = tmp_path / "set"
    prepare(bpe_settings, directory, quiet)
    assert (directory / TOKENIZER).read_bytes() == train(
        map(bytes.decode, split_texts(directory, "train")), 400
    )


def test_the_sample_ends_at_its_size(
    tmp_path, corpus, bpe_settings, make_settings
) -> None:
    long = [text * 400 for text in corpus[:100]]
    lines = [json.dumps({"text": text.decode()}) for text in long]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    settings = make_settings(
        local_path=bpe_settings.local_path,
        tokenizer="bpe",
        bpe_vocab_size=400,
        bpe_train_mb=1,
    )
    prepare(settings, tmp_path / "set", quiet)
    texts, sample = split_texts(tmp_path / "set", "train"), []
    while sum(map(len, sample)) < 1_000_000:
        sample.append(texts[len(sample)])
    assert len(sample) < len(texts)
    assert (tmp_path / "set" / TOKENIZER).read_bytes() == train(
        map(bytes.decode, sample), 400
    )


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_tokenizer_is_found_and_repaired(
    tmp_path, corpus, bpe_settings, damage: str
) -> None:
    directory = tmp_path / "set"
    before = prepare(bpe_settings, directory, quiet)
    path = directory / TOKENIZER
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content + b" ")
    reason, _ = examine(bpe_settings, directory)
    assert reason is not None and f"{path}: found" in reason
    assert prepare(bpe_settings, directory, quiet).sha256 == before.sha256
    assert path.read_bytes() == content


def test_a_document_that_cannot_be_encoded_is_named(
    tmp_path, corpus, make_settings
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b" ".join(corpus))
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    settings = make_settings(
        split="tail", tokenizer="bpe", bpe_vocab_size=300, bpe_train_mb=0
    )
    with pytest.raises(CorpusError, match="latin.txt: no UTF-8 at byte 3"):
        prepare(settings, tmp_path / "set", quiet)


def test_gpt2_is_packed_with_its_file(
    tmp_path, corpus, bpe_settings, make_settings, file, monkeypatch
) -> None:
    monkeypatch.setattr(bpe, "GPT2_SHA256", sha256(file))
    monkeypatch.setattr(bpe.gpt2, "__defaults__", (sha256(file),))
    settings = make_settings(
        local_path=bpe_settings.local_path,
        tokenizer="gpt2",
        gpt2_vocab_path=str(file.parent),
    )
    manifest = prepare(settings, tmp_path / "set", quiet)
    assert (manifest.tokenizer, manifest.vocab_size) == ("gpt2", SIZE)
    assert manifest.tokenizer_sha256 is None
    assert not (tmp_path / "set" / TOKENIZER).exists()
    assert manifest == read_manifest(tmp_path / "set")
    require_lengths(tmp_path / "set", gpt2(file, sha256(file)))
    table = tmp_path / "set" / token_bytes.NAME
    whole = table.read_bytes()
    for spoil in (table.unlink, lambda: table.write_bytes(whole[:-1] + b"\1")):
        spoil()
        with pytest.raises(ShardError, match="token_bytes.bin.*`make data`"):
            token_bytes.token_bytes(tmp_path / "set", manifest)
        before = (tmp_path / "set" / "dataset.json").stat().st_mtime_ns
        prepare(settings, tmp_path / "set", quiet)  # as after an older version
        assert table.read_bytes() == whole
        assert (tmp_path / "set" / "dataset.json").stat().st_mtime_ns == before


def require_lengths(directory: Path, tokenizer: BpeTokenizer) -> None:
    """Every token's own bytes, parts of characters too; of a split those of its text."""
    manifest = read_manifest(directory)
    lengths = token_bytes.token_bytes(directory, manifest)
    each = [len(tokenizer.decode(np.array([t]))) for t in range(tokenizer.vocab_size)]
    assert lengths.tolist() == each and each[-1] == 0
    for name, split in manifest.splits.items():
        stream = TokenStream(directory, name)
        tokens = stream.rows(np.array([0]), stream.tokens)
        assert lengths[tokens].sum() == split.bytes


def test_the_bytes_of_a_trained_vocabulary(tmp_path, corpus, bpe_settings) -> None:
    prepare(bpe_settings, tmp_path / "set", quiet)
    path = tmp_path / "set" / TOKENIZER
    require_lengths(tmp_path / "set", trained(path.read_bytes()))
    assert not (tmp_path / "set" / token_bytes.NAME).exists()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ShardError, match="tokenizer.json"):
        token_bytes.token_bytes(tmp_path / "set", read_manifest(tmp_path / "set"))
