"""Streams in Hugging Face's form: nothing lost, nothing twice, errors that help.

The real `datasets` library reads real files, from a folder or over HTTP.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.data.loading.loader import TokenStream
from gpt2.data.packing import forecast as forecast_module
from gpt2.data.packing.build import BuildError
from gpt2.data.packing.prepare import examine, prepare
from gpt2.data.packing.splits import fraction_of
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.sources.hub import REPOSITORIES, Stream
from records.manifest import read_manifest
from records.offline import NAMES
from records.plurals import plural
from tests.conftest import ROOT
from tests.gpt2.data.packing.test_prepare import command, quiet, shard_bytes

CARD = """\
---
configs:
- config_name: sample-10BT
  data_files:
  - split: train
    path: sample/10BT/*
---
"""


def write_folder(folder: Path, texts: list[str], files: int = 3) -> Path:
    """The texts in the form of FineWeb-Edu: a card, parquet files with a text."""
    (folder / "sample" / "10BT").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for number, part in enumerate(np.array_split(np.array(texts, object), files)):
        table = pa.table({"text": list(part), "id": list(range(len(part)))})
        path = folder / "sample" / "10BT" / f"{number:03d}.parquet"
        pq.write_table(table, path, row_group_size=100)
    return folder


def words(count: int, seed: int = 3, longest: int = 60) -> list[str]:
    """Documents of made-up words."""
    random = np.random.default_rng(seed)
    known = np.array(["%x" % number for number in range(5000)])
    sizes = random.integers(1, longest, count)
    drawn = np.split(random.choice(known, sizes.sum()), np.cumsum(sizes)[:-1])
    return [" ".join(part) for part in drawn]


@pytest.fixture
def hub_settings(tmp_path: Path, make_settings):
    """settings = hub_settings(tokens=5000, …) of the folder tmp_path/hub."""

    def make(**changes):
        fields = dict(
            corpus="finewebedu",
            local_path=None,
            local_field=None,
            finewebedu_sample="sample-10BT",
            hf_path=str(tmp_path / "hub"),
            hf_revision="",
            shuffle_buffer=64,
            shuffle_seed=1,
        )
        return make_settings(**{**fields, **changes})

    return make


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """1000 documents in tmp_path/hub."""
    found = words(1000)
    write_folder(tmp_path / "hub", found)
    return found


def split_texts(directory: Path, split: str) -> list[str]:
    stream = TokenStream(directory, split, "byte")
    tokens = stream.rows(np.array([0]), stream.tokens)[0]
    ends = np.flatnonzero(tokens == 256)
    parts = np.split(tokens, ends + 1)
    assert len(parts.pop()) == 0
    return [bytes(part[:-1].tolist()).decode() for part in parts]


def test_every_document_is_packed_once(tmp_path, texts, hub_settings) -> None:
    said: list[str] = []
    manifest = prepare(hub_settings(), tmp_path / "set", said.append)
    train, val = (split_texts(tmp_path / "set", split) for split in ("train", "val"))
    assert sorted(train + val) == sorted(texts)
    assert all(fraction_of(text.encode()) < 0.2 for text in val)
    assert all(fraction_of(text.encode()) >= 0.2 for text in train)
    assert manifest.corpus == "finewebedu"
    assert manifest.origin == f"{tmp_path / 'hub'} sample-10BT"
    assert sorted(path.suffix for path in (tmp_path / "set").iterdir()) == sorted(
        [".bin"] * len(shard_bytes(tmp_path / "set")) + [".json"]
    )
    exact = sum(split.tokens for split in manifest.splits.values())
    assert any(f"forecast: about {exact:,} tokens, 0.000 GB" in line for line in said)


def test_a_block_is_permuted_and_nothing_beyond(tmp_path, texts, hub_settings) -> None:
    plain = [
        text.decode()
        for block, _ in Stream(hub_settings(shuffle_buffer=0)).blocks(None)
        for _, text in block
    ]
    assert plain == texts
    orders = []
    for seed in (1, 1, 2):
        blocks = list(Stream(hub_settings(shuffle_seed=seed)).blocks(None))
        assert [len(block) for block, _ in blocks] == [64] * 15 + [40]
        got = [[text.decode() for _, text in block] for block, _ in blocks]
        for number, block in enumerate(got):
            here = texts[64 * number : 64 * (number + 1)]
            assert sorted(block) == sorted(here) and block != here
        orders.append(got)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("buffer", [0, 64])
def test_a_stream_is_taken_up_at_any_block(texts, hub_settings, buffer) -> None:
    settings = hub_settings(shuffle_buffer=buffer)
    blocks = list(Stream(settings).blocks(None))
    for number, (_, position) in enumerate(blocks):
        position = json.loads(json.dumps(position))
        rest = [block for block, _ in Stream(settings).blocks(position)]
        assert rest == [block for block, _ in blocks[number + 1 :]]


def test_a_whole_dataset_does_not_ask_the_origin(tmp_path, texts, hub_settings) -> None:
    prepare(hub_settings(), tmp_path / "set", quiet)
    shutil.rmtree(tmp_path / "hub")
    said: list[str] = []
    prepare(hub_settings(), tmp_path / "set", said.append)
    assert said == [f"{tmp_path / 'set'}: up to date"]
    assert examine(hub_settings(), tmp_path / "set") == (None, None)


@pytest.mark.parametrize("budget", [3000, 20_000])
def test_a_budget_ends_with_the_document_that_reaches_it(
    tmp_path, texts, hub_settings, budget
) -> None:
    manifest = prepare(hub_settings(), tmp_path / "all", quiet)
    part = prepare(hub_settings(tokens=budget), tmp_path / "part", quiet)
    whole = split_texts(tmp_path / "all", "train")
    count, tokens = 0, 0
    while tokens < budget:
        tokens += len(whole[count].encode()) + 1
        count += 1
    assert split_texts(tmp_path / "part", "train") == whole[:count]
    assert part.splits["train"].tokens == tokens < manifest.splits["train"].tokens
    val = split_texts(tmp_path / "part", "val")
    assert val == split_texts(tmp_path / "all", "val")[: len(val)]


def test_a_corpus_shorter_than_the_budget_says_so(
    tmp_path, texts, hub_settings
) -> None:
    said: list[str] = []
    manifest = prepare(hub_settings(tokens=10**9), tmp_path / "set", said.append)
    tokens = manifest.splits["train"].tokens
    assert f"the corpus ended after {tokens:,} training tokens" in "".join(said)
    assert sum(split.documents for split in manifest.splits.values()) == 1000


def killed(settings, directory: Path, goal: int, **environment: str) -> int:
    """Start packing, kill -9 at `goal` shards; how many there are then."""
    building = directory.parent / f".{directory.name}.building"
    process = subprocess.Popen(
        command(settings, directory),
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    while len(list(building.glob("*.bin"))) < goal:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not directory.exists()
    return len(list(building.glob("*.bin")))


@pytest.mark.slow
def test_50_000_documents_with_three_kills_in_between(tmp_path, hub_settings) -> None:
    """Must show 1: the same shards as undisturbed, by hash."""
    write_folder(tmp_path / "hub", words(50_000, longest=30), files=7)
    settings = hub_settings(shuffle_buffer=500, shard_tokens=1 << 16)
    expected = prepare(settings, tmp_path / "undisturbed", quiet)
    directory = tmp_path / "killed" / "set"
    kept = 0
    for _ in range(3):
        kept = killed(settings, directory, kept + 10)
    assert kept < len(shard_bytes(tmp_path / "undisturbed")) - 5
    said: list[str] = []
    assert prepare(settings, directory, said.append).sha256 == expected.sha256
    assert f"taking up an interrupted build, {plural(kept, 'shard')} kept" in said
    assert shard_bytes(directory) == shard_bytes(tmp_path / "undisturbed")
    assert sum(split.documents for split in expected.splits.values()) == 50_000


@pytest.mark.parametrize("budget", [0, 30_000, 40_000])
def test_stopped_after_any_shard_it_ends_the_same(
    tmp_path, texts, hub_settings, monkeypatch, budget
) -> None:
    """Every state that a kill can leave: the first n shards, the rest gone."""
    from gpt2.data.packing.writer import ShardWriter

    settings = hub_settings(tokens=budget, shard_tokens=8192)
    expected = prepare(settings, tmp_path / "undisturbed", quiet)
    count = len(shard_bytes(tmp_path / "undisturbed"))
    real, left = ShardWriter.finish, [0]

    def finish(writer: ShardWriter) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= writer._file is not None
        real(writer)

    for kept in range(count):
        left[0] = kept
        directory = tmp_path / f"stopped-{kept}" / "set"
        with monkeypatch.context() as patch:
            patch.setattr(ShardWriter, "finish", finish)
            with pytest.raises(KeyboardInterrupt):
                prepare(settings, directory, quiet)
        assert prepare(settings, directory, quiet).sha256 == expected.sha256
        assert shard_bytes(directory) == shard_bytes(tmp_path / "undisturbed")


def test_it_goes_on_behind_what_is_packed(
    tmp_path, texts, hub_settings, monkeypatch
) -> None:
    """The stream is not read from the start, and a torn journal only costs time."""
    settings = hub_settings(val_fraction=0.5)
    expected = prepare(settings, tmp_path / "undisturbed", quiet)
    real, seen = Stream.blocks, []

    def blocks(stream, position):
        seen.append(position)
        for number, item in enumerate(real(stream, position)):
            if stop and number == 12:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(Stream, "blocks", blocks)
    monkeypatch.setattr("gpt2.data.packing.pack.BATCH_BYTES", 1)
    monkeypatch.setattr(forecast_module, "SAMPLE_BYTES", 1)
    for tear in (False, True):
        directory = tmp_path / f"torn-{tear}" / "set"
        stop = True
        with pytest.raises(KeyboardInterrupt):
            prepare(settings, directory, quiet)
        journal = directory.parent / ".set.building" / "positions.jsonl"
        if tear:
            journal.write_bytes(journal.read_bytes()[:-700] + b"\xff{")
        stop, seen[:] = False, []
        assert prepare(settings, directory, quiet).sha256 == expected.sha256
        first, taken_up = seen  # the forecast, then the packing
        assert first is None and taken_up["block"] == (10 if tear else 11)


def test_a_corpus_that_changed_is_started_over(tmp_path, texts, hub_settings) -> None:
    settings = hub_settings(shard_tokens=4096)
    killed(settings, tmp_path / "data" / "set", 3)
    shutil.rmtree(tmp_path / "hub")
    write_folder(tmp_path / "hub", texts[::-1])
    said: list[str] = []
    prepare(settings, tmp_path / "data" / "set", said.append)
    assert not any("taking up" in line for line in said)
    fresh = prepare(settings, tmp_path / "fresh", quiet)
    assert read_manifest(tmp_path / "data" / "set").sha256 == fresh.sha256


def test_a_full_disk_is_foreseen(tmp_path, texts, hub_settings, monkeypatch) -> None:
    real = shutil.disk_usage

    def full(path: Path):
        return real(path)._replace(free=20_000)

    monkeypatch.setattr(forecast_module.shutil, "disk_usage", full)
    with pytest.raises(BuildError, match="0.000 GB free, .* CONFIG_DATA_TOKENS"):
        prepare(hub_settings(), tmp_path / "set", quiet)
    assert not (tmp_path / "set").exists()
    prepare(hub_settings(tokens=1000), tmp_path / "set", quiet)


def test_bpe_trains_on_the_training_split_of_the_stream(
    tmp_path, texts, hub_settings
) -> None:
    from gpt2.data.tokenization.bpe import train

    settings = hub_settings(tokenizer="bpe", bpe_vocab_size=300, bpe_train_mb=0)
    prepare(hub_settings(), tmp_path / "bytes", quiet)
    prepare(settings, tmp_path / "set", quiet)
    expected = train(split_texts(tmp_path / "bytes", "train"), 300)
    assert (tmp_path / "set" / "tokenizer.json").read_bytes() == expected


def test_shakespeare_is_cut_into_speeches(tmp_path, hub_settings) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    play = "\n\n".join(f"Lord {n}:\nI speak {n} times." for n in range(50)) + "\n\n\n"
    pq.write_table(pa.table({"text": [play]}), folder / "train.parquet")
    settings = hub_settings(corpus="shakespeare", finewebedu_sample=None)
    prepare(settings, tmp_path / "set", quiet)
    found = split_texts(tmp_path / "set", "train") + split_texts(
        tmp_path / "set", "val"
    )
    assert sorted(found) == sorted(play.strip().split("\n\n"))


# From a hub


@pytest.fixture
def hub(tmp_path: Path, texts):
    """Variables of a client whose hub serves tmp_path/hub as me/corpus."""
    script = ROOT / "tests" / "gpt2" / "data" / "hub_server.py"
    (tmp_path / "hub" / ".commit").write_text("a" * 40)
    with open(tmp_path / "requests.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "hub")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    port = server.stdout.readline().strip()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    server.kill()
    server.communicate()


def pack(settings, directory: Path, environment: dict[str, str]) -> str:
    """Pack in a process of its own, which reads the variables; what it said."""
    done = subprocess.run(
        command(settings, directory),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hub_gives_what_the_folder_gives(tmp_path, hub, hub_settings) -> None:
    settings = hub_settings(hf_path="me/corpus")
    pack(settings, tmp_path / "set", hub)
    local = prepare(hub_settings(), tmp_path / "local", quiet)
    manifest = read_manifest(tmp_path / "set")
    assert manifest.sha256 == local.sha256
    assert manifest.origin == f"me/corpus sample-10BT at {'a' * 12}"
    asked = (tmp_path / "requests.log").read_text()
    assert f"resolve/{'a' * 40}/sample/10BT/002.parquet" in asked
    assert "up to date" in pack(settings, tmp_path / "set", {"HF_ENDPOINT": "http://x"})


def test_an_interrupted_build_keeps_its_commit(tmp_path, hub, hub_settings) -> None:
    settings = hub_settings(hf_path="me/corpus", shard_tokens=4096)
    directory = tmp_path / "data" / "set"
    kept = killed(settings, directory, 5, **hub)
    (tmp_path / "hub" / ".commit").write_text("b" * 40)
    assert f"interrupted build, {plural(kept, 'shard')} kept" in pack(
        settings, directory, hub
    )
    assert read_manifest(directory).origin.endswith(f" at {'a' * 12}")
    pack(settings, tmp_path / "fresh", hub)
    fresh = read_manifest(tmp_path / "fresh")
    assert fresh.origin.endswith(f" at {'b' * 12}")
    assert fresh.sha256 == read_manifest(directory).sha256


# What goes wrong


def test_a_row_without_text_is_named(tmp_path, texts, hub_settings) -> None:
    path = tmp_path / "hub" / "sample" / "10BT" / "000.parquet"
    table = pq.read_table(path).rename_columns(["body", "id"])
    for file in path.parent.iterdir():
        pq.write_table(table, file)
    with pytest.raises(
        CorpusError, match="000.parquet: no column 'text'; it has body, id"
    ):
        prepare(hub_settings(), tmp_path / "set", quiet)


def test_a_torn_file_is_an_error(tmp_path, texts, hub_settings) -> None:
    path = tmp_path / "hub" / "sample" / "10BT" / "001.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorpusError, match="001.parquet: Parquet magic"):
        prepare(hub_settings(), tmp_path / "set", quiet)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"finewebedu_sample": "sample-350BT"}, "sample-350BT' not found"),
        ({"hf_path": "/nowhere/at/all"}, "neither a folder nor the name of a repos"),
    ],
)
def test_another_place_is_refused(texts, hub_settings, change, message) -> None:
    with pytest.raises(CorpusError, match=message):
        Stream(hub_settings(**change))


def test_a_folder_without_a_training_split(tmp_path, texts, hub_settings) -> None:
    card = tmp_path / "hub" / "README.md"
    card.write_text(CARD.replace("train", "test"))
    with pytest.raises(CorpusError, match=r"no split 'train', it has \['test'\]"):
        Stream(hub_settings())


@pytest.mark.parametrize(
    "corpus, offline",
    [
        ("openwebtext", "HF_HUB_OFFLINE=1"),
        ("shakespeare", "TRANSFORMERS_OFFLINE=1"),
        pytest.param("finewebedu", "", marks=pytest.mark.slow),  # it tries again
    ],
)
def test_without_a_network_it_says_what_works(
    tmp_path, hub_settings, corpus, offline
) -> None:
    """The real client, with a hub where nobody listens."""
    sample = "sample-10BT" if corpus == "finewebedu" else None
    settings = hub_settings(corpus=corpus, finewebedu_sample=sample, hf_path=None)
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
    }
    environment |= dict([offline.split("=")]) if offline else {}
    done = subprocess.run(
        command(settings, tmp_path / "set"),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for part in (
        REPOSITORIES[corpus].path,
        "hf download --repo-type dataset",
        "CONFIG_HF_PATH=FOLDER",
        "CONFIG_DATASET_STDLIB=y",
        f"{offline}, so the hub is not asked" if offline else "127.0.0.1",
    ):
        assert part in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_is_not_asked_where_a_variable_says_so(
    tmp_path, texts, hub_settings, monkeypatch, name
) -> None:
    """A folder needs no network and is read; a value that is neither is refused."""
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    assert Stream(hub_settings()).local
    asked: list[str] = []

    def ask(place: str, *_, **options):
        asked.append(place)
        raise ValueError("no answer")

    monkeypatch.setattr("datasets.load_dataset_builder", ask)
    with pytest.raises(CorpusError) as refused:
        Stream(hub_settings(hf_path="me/corpus"))
    assert f"me/corpus: {name}=1, so the hub is not asked" in str(refused.value)
    assert asked == []
    monkeypatch.setenv(name, "y")
    with pytest.raises(CorpusError, match=f"{name}='y': "):
        Stream(hub_settings(hf_path="me/corpus"))
