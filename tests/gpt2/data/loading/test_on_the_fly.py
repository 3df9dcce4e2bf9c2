"""On the fly: the same tokens for every worker count, kill and resume; identity."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gpt2.data.loading import on_the_fly as module
from gpt2.data.loading.feeder import serve
from gpt2.data.loading.on_the_fly import FeedError, LiveWindows
from gpt2.data.packing import on_the_fly
from gpt2.data.packing.journal import Journal
from gpt2.data.packing.prepare import examine, prepare
from gpt2.data.packing.splits import fraction_of
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.sources.hub import Stream
from gpt2.data.tokenization import bpe
from records.manifest import read_manifest
from tests.gpt2.data.sources.test_hub import hub, hub_settings, pack  # noqa: F401
from tests.gpt2.data.sources.test_hub import split_texts, texts  # noqa: F401

CONTEXT = 32


@pytest.fixture
def live(tmp_path, texts, hub_settings):  # noqa: F811
    """live(**changes): settings of tmp_path/hub on the fly, its folder prepared."""

    def make(**changes):
        fields = dict(on_the_fly=True, val_tokens=1024, workers=2, report_documents=0)
        settings = hub_settings(**{**fields, **changes})
        shutil.rmtree(tmp_path / "live", ignore_errors=True)
        prepare(settings, tmp_path / "live", say=lambda line: None)
        return settings

    return make


class Beside:
    """Stands for the process: the same function in a thread, on a real pipe."""

    def __init__(self, argv, **options):
        self.stdin, self._task = self, b""
        reader, writer = os.pipe()
        self.stdout, self._out = os.fdopen(reader, "rb"), os.fdopen(writer, "wb")

    def write(self, line):
        self._task = line

    def flush(self):
        task = json.loads(self._task)
        threading.Thread(target=self._serve, args=(task,), daemon=True).start()

    def _serve(self, task):
        serve(task, self._out)
        with contextlib.suppress(BrokenPipeError):
            self._out.close()

    def close(self):
        """As standard input."""

    kill = wait = close


@pytest.fixture
def beside(monkeypatch):
    """No process: starting one takes seconds."""
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=Beside, PIPE=-1))


@pytest.fixture
def opened(tmp_path):
    """opened(settings, seed=1): the windows; closed at the end of the test."""
    made = []

    def make(settings, seed=1, context=CONTEXT):
        manifest = read_manifest(tmp_path / "live")
        place = tmp_path / "live"
        made.append(LiveWindows(settings, place, manifest, context, seed))
        return made[-1]

    yield make
    for windows in made:
        windows.close()


def sequence(windows, count) -> np.ndarray:
    """The first tokens of a seed, put together from `count` samples."""
    rows = windows.rows(np.arange(count))
    assert (rows[:-1, -1] == rows[1:, 0]).all()
    return np.concatenate([rows[0], *rows[1:, 1:]])


def documents_of(tokens) -> list[str]:
    ends = np.flatnonzero(tokens == 256)
    parts = np.split(tokens, ends + 1)[:-1]
    return [bytes(part[:-1].tolist()).decode() for part in parts]


def train_texts(texts):  # noqa: F811
    return [text for text in texts if fraction_of(text.encode()) >= 0.2]


@pytest.mark.usefixtures("beside")
def test_every_training_document_comes_once_in_an_epoch(
    texts, live, opened
):  # noqa: F811
    windows = opened(live())
    size = sum(len(text) + 1 for text in train_texts(texts))
    read = documents_of(sequence(windows, 2 * size // CONTEXT))
    wanted = train_texts(texts)
    first, second = read[: len(wanted)], read[len(wanted) :]
    assert sorted(first) == sorted(wanted) and first != wanted
    assert set(second) <= set(wanted) and second[:50] != first[:50]


@pytest.mark.usefixtures("beside")
def test_blocks_follow_the_order_of_the_corpus(texts, live, opened):  # noqa: F811
    """Block b holds rows 64 b … 64 b + 63, in an order of its own."""
    read = documents_of(sequence(opened(live()), 500))
    kept = {text: n // 64 for n, text in enumerate(texts)}
    blocks = [kept[text] for text in read]
    assert blocks == sorted(blocks) and max(blocks) >= 2
    plain = documents_of(sequence(opened(live(shuffle_buffer=0)), 200))
    assert plain == train_texts(texts)[: len(plain)]


@pytest.mark.usefixtures("beside")
def test_the_seed_decides_the_order_and_nothing_else_does(live, opened):
    settings = live()
    wanted = sequence(opened(settings, seed=1), 300)
    for workers in (1, 7):
        found = sequence(opened(live(workers=workers), seed=1), 300)
        assert (found == wanted).all()
    assert (sequence(opened(settings, seed=2), 300) != wanted).any()


@pytest.mark.usefixtures("beside")
def test_samples_do_not_depend_on_how_they_are_asked_for(live, opened):
    settings = live()
    wanted = opened(settings).rows(np.arange(400))
    for starts in ([399, 5, 120], [200, 201], [0], [350]):
        windows = opened(settings)
        for start in starts:
            assert (windows.rows(np.array([start])) == wanted[start]).all()


@pytest.mark.usefixtures("beside")
def test_resuming_reads_from_the_last_block_on(tmp_path, live, opened, monkeypatch):
    """Not from the beginning: what was read before is not there any more."""
    settings = live()
    wanted = opened(settings).rows(np.arange(1100))
    journal = Journal(tmp_path / "live")
    position, seen = journal.last({"train": 1000 * CONTEXT})
    assert position["stream"]["block"] >= 3 and seen["train"] <= 1000 * CONTEXT
    asked = []
    monkeypatch.setattr(LiveWindows, "_report", lambda self, count: asked.append(count))
    other = opened(settings, seed=1)
    assert (other.rows(np.arange(1000, 1100)) == wanted[1000:]).all()
    assert sum(asked) < 64 * 3
    (tmp_path / "live" / "positions.jsonl").unlink()
    assert (opened(settings).rows(np.array([1050])) == wanted[1050]).all()


@pytest.mark.usefixtures("beside")
def test_a_position_of_one_seed_serves_another(live, opened):
    settings = live()
    wanted = opened(settings, seed=2).rows(np.arange(500, 520))
    opened(settings, seed=1).rows(np.arange(700))  # leaves its positions
    assert (opened(settings, seed=2).rows(np.arange(500, 520)) == wanted).all()


@pytest.mark.usefixtures("beside")
def test_an_epoch_ends_with_the_block_that_reaches_the_tokens(live, opened):
    settings = live(tokens=4000)
    read = documents_of(sequence(opened(settings), 600))
    counts = {text: read.count(text) for text in read}
    assert max(counts.values()) >= 2
    size = sum(len(text) + 1 for text in counts)
    assert 4000 <= size < 4000 + 64 * 400


def test_validation_is_that_of_packed_mode(
    tmp_path, texts, live, hub_settings
):  # noqa: F811
    live()
    found = split_texts(tmp_path / "live", "val")
    prepare(hub_settings(), tmp_path / "packed", say=lambda line: None)
    packed = split_texts(tmp_path / "packed", "val")
    assert found == packed[: len(found)] and 0 < len(found) < len(packed)
    assert sum(len(text) + 1 for text in found) >= 1024
    manifest = read_manifest(tmp_path / "live")
    assert manifest.splits["train"].files == ()


def test_what_identifies_an_unpacked_corpus(
    tmp_path, texts, live, hub_settings
):  # noqa: F811
    settings = live()

    def train_sha256():
        return read_manifest(tmp_path / "live").splits["train"].sha256

    sha256 = train_sha256()

    def again(**changes):
        live(**changes)
        return train_sha256()

    assert again() == sha256
    assert again(workers=5, report_documents=7) == sha256
    different = [
        again(shuffle_seed=2),
        again(shuffle_buffer=32),
        again(tokens=5000),
        again(val_fraction=0.3),
        again(tokenizer="bpe", bpe_vocab_size=280, bpe_train_mb=0),
    ]
    assert len({sha256, *different}) == 6
    [file, *_] = sorted((tmp_path / "hub" / "sample" / "10BT").iterdir())
    os.utime(file, (1, 1))  # a copy of the folder has other times
    assert again() == sha256
    assert examine(settings, tmp_path / "live")[0] is None
    changed = bytearray(file.read_bytes())
    changed[-9] ^= 1
    file.write_bytes(changed)
    assert (
        on_the_fly.source_sha256(Stream(settings))
        != read_manifest(tmp_path / "live").source_sha256
    )


@pytest.mark.usefixtures("beside")
def test_a_corpus_that_changed_is_not_read(tmp_path, live, opened):
    windows = opened(live())
    extra = tmp_path / "hub" / "sample" / "10BT" / "999.parquet"
    first = sorted(extra.parent.iterdir())[0]
    extra.write_bytes(first.read_bytes())
    with pytest.raises(FeedError, match="is not what `make data` found there"):
        windows.rows(np.array([0]))
    assert "the corpus changed" in examine(windows.settings, tmp_path / "live")[0]
    prepare(windows.settings, tmp_path / "live", say=lambda line: None)
    assert opened(windows.settings).rows(np.array([0])).shape == (1, CONTEXT + 1)


def test_files_without_a_commit_have_no_identity(live):
    stream = Stream(live())
    stream.local, stream.revision, stream.place = False, None, "me/corpus"
    with pytest.raises(CorpusError, match="set CONFIG_HF_REVISION to a commit"):
        on_the_fly.source_sha256(stream)


def test_the_process_gives_the_same(live, opened, monkeypatch):
    settings = live()
    found = opened(settings).rows(np.arange(300))
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=Beside, PIPE=-1))
    assert (opened(settings).rows(np.arange(300)) == found).all()


def test_a_process_that_is_killed_is_an_error(live, opened):
    windows = opened(live())
    windows.rows(np.array([0]))
    windows._child.kill()
    with pytest.raises(FeedError, match="ended with status -9"):
        windows.rows(np.arange(1, 100_000))


def test_the_process_ends_with_its_parent(tmp_path, live):
    settings = live()
    script = (
        "import sys, json, time; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from gpt2.data.loading.on_the_fly import LiveWindows\n"
        "from gpt2.settings.run import DataSettings\n"
        "from records.manifest import read_manifest\n"
        "where, settings = Path(sys.argv[1]), DataSettings(**json.loads(sys.argv[2]))\n"
        "windows = LiveWindows(settings, where, read_manifest(where), 32, 1)\n"
        "windows.rows(np.arange(3))\n"
        "print(windows._child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    from dataclasses import asdict

    argv = [sys.executable, "-c", script, str(tmp_path / "live")]
    parent = subprocess.Popen(
        [*argv, json.dumps(asdict(settings))], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while os.path.exists(f"/proc/{child}") and not _zombie(child):
        assert time.monotonic() < deadline, "the process outlives its parent"
        time.sleep(0.05)


def _zombie(pid) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.usefixtures("beside")
def test_the_report_comes_every_so_many_documents(live, opened, capsys):
    opened(live(report_documents=100)).rows(np.arange(700))
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith("data: ") for line in lines)
    assert len(lines) == int(lines[-1].split()[1]) // 100


@pytest.mark.usefixtures("beside")
def test_a_trained_tokenizer_is_kept_beside(tmp_path, live, opened):
    settings = live(tokenizer="bpe", bpe_vocab_size=300, bpe_train_mb=0)
    manifest = read_manifest(tmp_path / "live")
    content = (tmp_path / "live" / bpe.TOKENIZER).read_bytes()
    assert manifest.tokenizer_sha256 == hashlib.sha256(content).hexdigest()
    tokens = sequence(opened(settings), 50)
    text = bpe.trained(content).decode(tokens)
    assert text.decode().isascii() and len(text) > len(tokens)


class Silent(Beside):
    """A process whose corpus does not answer, until it is killed."""

    def flush(self):
        """Nothing is ever written."""

    def kill(self):
        self._out.close()

    def wait(self):
        return -9


def test_closing_ends_a_thread_that_waits(live, opened, monkeypatch):
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=Silent, PIPE=-1))
    windows, ended = opened(live()), []

    def ask():
        try:
            windows.rows(np.array([0]))
        except (FeedError, ValueError) as error:
            ended.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while windows._child is None:
        time.sleep(0.01)
    windows.close()
    thread.join(60)
    assert len(ended) == 1
    with pytest.raises(FeedError, match="was closed"):
        windows.rows(np.array([0]))


def test_runs_read_the_commit_that_was_prepared(
    tmp_path, hub, texts, hub_settings, opened, monkeypatch
):
    """From a server, after its main branch has moved on."""
    changes = dict(on_the_fly=True, val_tokens=1024, workers=1, report_documents=0)
    settings = hub_settings(hf_path="me/corpus", **changes)
    pack(settings, tmp_path / "live", hub)
    stream = json.loads((tmp_path / "live" / "stream.json").read_text())
    assert stream == {"revision": "a" * 40}
    (tmp_path / "hub" / ".commit").write_text("b" * 40)
    (tmp_path / "requests.log").write_text("")
    for name, value in hub.items():
        monkeypatch.setenv(name, value)
    read = documents_of(sequence(opened(settings), 100))
    assert set(read) <= set(train_texts(texts))
    asked = (tmp_path / "requests.log").read_text()
    assert f"resolve/{'a' * 40}/sample/10BT/000.parquet" in asked
    assert f"resolve/{'b' * 40}" not in asked
