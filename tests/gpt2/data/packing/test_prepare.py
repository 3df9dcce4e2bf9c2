"""`make data`: built once, verified after, whole or not at all."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from gpt2.data.loading.loader import TokenStream
from gpt2.data.packing import build as build_module
from gpt2.data.packing.build import BuildError
from gpt2.data.packing.prepare import _locked, examine, prepare
from gpt2.data.sources import corpora
from gpt2.data.sources.corpora import CorpusError
from gpt2.settings.run import DataSettings
from records.manifest import read_manifest
from records.progress_line import Counted
from records.plurals import plural

ROOT = Path(__file__).resolve().parents[4]

PROGRAM = """
import json
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gpt2.data.sources.corpora import CorpusError
from gpt2.data.packing.prepare import BuildError, prepare
from gpt2.settings.run import DataSettings
settings = DataSettings(**json.loads(sys.argv[2]))
try:
    prepare(settings, Path(sys.argv[3]))
except (BuildError, CorpusError) as error:
    sys.exit(str(error))
"""


def command(settings: DataSettings, directory: Path) -> list[str]:
    arguments = [str(ROOT), json.dumps(asdict(settings)), str(directory)]
    return [sys.executable, "-c", PROGRAM, *arguments]


def quiet(line: str) -> None:
    """Say nothing."""


def shard_bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.bin")}


def leftovers(directory: Path) -> list[str]:
    hidden = directory.parent.glob(f".{directory.name}.*")
    return sorted(path.name for path in hidden)


def test_a_second_run_finds_it_up_to_date(dataset: Path, make_settings) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.iterdir()}
    said: list[str] = []
    prepare(make_settings(), dataset, said.append)
    assert said == [f"{dataset}: up to date"]
    assert {path: path.stat().st_mtime_ns for path in dataset.iterdir()} == before
    assert leftovers(dataset) == []


def test_a_changed_corpus_is_packed_again_with_the_reason(
    dataset: Path, tmp_path: Path, make_settings
) -> None:
    old = read_manifest(dataset)
    stream = TokenStream(dataset, "train")
    tokens = stream.rows(np.array([0]), stream.tokens)
    (tmp_path / "corpus" / "new.txt").write_bytes(b"new")
    reason, _ = examine(make_settings(), dataset)
    assert reason is not None and "the corpus changed" in reason
    assert read_manifest(dataset) == old
    said: list[str] = []
    new = prepare(make_settings(), dataset, said.append)
    assert "the corpus changed" in said[0]
    assert new.source_sha256 != old.source_sha256 and new.sha256 != old.sha256
    assert sum(split.documents for split in new.splits.values()) == 121
    assert leftovers(dataset) == []
    # A run that has the old files open goes on with them.
    np.testing.assert_array_equal(stream.rows(np.array([0]), stream.tokens), tokens)


def test_where_shards_end_does_not_change_the_dataset(
    dataset: Path, tmp_path: Path, make_settings
) -> None:
    large = prepare(make_settings(shard_tokens=10**6), tmp_path / "other", quiet)
    small = read_manifest(dataset)
    assert len(large.splits["train"].files) == 1 < len(small.splits["train"].files)
    assert large.sha256 == small.sha256
    assert large.splits["val"].sha256 == small.splits["val"].sha256
    assert (large.unigram_nats, large.bigram_nats) == (
        small.unigram_nats,
        small.bigram_nats,
    )


def test_totals_are_those_of_the_documents(dataset: Path, documents) -> None:
    splits = read_manifest(dataset).splits.values()
    assert sum(split.documents for split in splits) == len(documents)
    assert sum(split.bytes for split in splits) == sum(map(len, documents))
    for split in splits:
        assert split.tokens == split.bytes + split.documents


def test_tail_of_one_file_has_no_separator(tmp_path: Path, make_settings) -> None:
    text = ("To be, or not to be – that is the question.\n" * 99).encode()
    (tmp_path / "corpus").write_bytes(text)
    prepare(make_settings(split="tail", val_fraction=0.1), tmp_path / "set", quiet)
    parts = []
    for split in ("train", "val"):
        stream = TokenStream(tmp_path / "set", split)
        parts.append(bytes(stream.rows(np.array([0]), stream.tokens)[0].tolist()))
    assert b"".join(parts) == text
    assert 0 <= int(len(text) * 0.9) - len(parts[0]) <= 3


def test_one_document_split_by_document_names_the_tail_split(
    tmp_path: Path, make_settings
) -> None:
    (tmp_path / "corpus").write_bytes(b"only one")
    with pytest.raises(
        BuildError, match="split val came out .*CONFIG_VAL_SPLIT_TAIL=y"
    ):
        prepare(make_settings(val_fraction=0.01), tmp_path / "data" / "set", quiet)
    assert not (tmp_path / "data" / "set").exists()
    assert leftovers(tmp_path / "data" / "set") == []


def test_a_tail_of_no_byte_is_an_error(tmp_path: Path, make_settings) -> None:
    (tmp_path / "corpus").write_bytes(b"a")
    settings = make_settings(split="tail", val_fraction=0.5)
    with pytest.raises(BuildError, match="split train came out empty .*VAL_FRACTION"):
        prepare(settings, tmp_path / "set", quiet)


def test_a_corpus_that_changes_meanwhile_is_an_error(
    dataset: Path, tmp_path: Path, make_settings, monkeypatch
) -> None:
    shutil.rmtree(dataset)
    real = corpora.documents

    readings = []

    def growing(settings, faults=None):
        readings.append(settings)
        yield from real(settings, faults)
        if len(readings) > 1:  # after the scan
            yield "late", b"one more"

    monkeypatch.setattr(corpora, "documents", growing)
    with pytest.raises(CorpusError, match="changed while it was packed"):
        prepare(make_settings(), dataset, quiet)
    assert not dataset.exists() and leftovers(dataset) == []


def many_documents(folder: Path) -> Path:
    """A jsonl file of 600 documents, about 0.2 MB."""
    random = np.random.default_rng(3)
    words = ["%x" % number for number in range(5000)]
    lines = [
        '{"text": "%s"}' % " ".join(random.choice(words, random.integers(1, 120)))
        for _ in range(600)
    ]
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("split, kills", [("document", 3), ("tail", 1)])
def test_kill_9_then_resume_gives_the_same_bytes(
    tmp_path: Path, make_settings, split: str, kills: int
) -> None:
    corpus = many_documents(tmp_path)
    settings = make_settings(local_path=str(corpus), split=split)
    undisturbed = prepare(settings, tmp_path / "undisturbed", quiet)
    directory = tmp_path / "killed" / "set"
    building = tmp_path / "killed" / ".set.building"
    kept = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command(settings, directory), stdout=subprocess.DEVNULL
        )
        goal = kept + 20
        while len(list(building.glob("*.bin"))) < goal and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        found = len(list(building.glob("*.bin")))
        assert not directory.exists() and found >= goal
        kept = found
    oldest = min(building.glob("*.bin"), key=lambda path: path.name)
    inode = oldest.stat().st_ino
    said: list[str] = []
    assert prepare(settings, directory, said.append).sha256 == undisturbed.sha256
    assert f"taking up an interrupted build, {plural(kept, 'shard')} kept" in said
    assert shard_bytes(directory) == shard_bytes(tmp_path / "undisturbed")
    assert (directory / oldest.name).stat().st_ino == inode
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [*shard_bytes(directory), "dataset.json"]
    )
    assert leftovers(directory) == []


@pytest.mark.parametrize("change", ["damage", "recipe", "torn recipe"])
def test_an_unfit_interrupted_build_is_started_over(
    dataset: Path, make_settings, change: str
) -> None:
    expected = shard_bytes(dataset)
    building = dataset.parent / ".set.building"
    settings = make_settings(shard_tokens=2048) if change == "recipe" else None
    interrupted = settings or make_settings()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    shutil.rmtree(dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "write_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(interrupted, dataset, quiet)
    assert not dataset.exists() and len(list(building.glob("*.bin"))) > 1
    if change == "damage":
        path = building / "train-00001.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"\7")
    if change == "torn recipe":
        (building / "recipe.json").write_bytes(b"{")
    prepare(make_settings(), dataset, quiet)
    assert shard_bytes(dataset) == expected


def test_two_at_a_time_wait_for_each_other(tmp_path: Path, make_settings) -> None:
    settings = make_settings(local_path=str(many_documents(tmp_path)))
    directory = tmp_path / "data" / "set"
    both = [
        subprocess.Popen(
            command(settings, directory), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    reason, _ = examine(settings, directory)
    assert reason is None and leftovers(directory) == []
    assert sum("packing, because" in output for output in outputs) == 1


def test_the_lock_makes_the_second_wait(dataset: Path, make_settings) -> None:
    """The first holds the lock and finishes the work; the second does none."""
    aside = dataset.rename(dataset.parent / "aside")
    said: list[str] = []
    with open(dataset.parent / ".set.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(
            target=prepare, args=(make_settings(), dataset, said.append)
        )
        second.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.005)
        assert "another `make data` is at work" in said[0]
        aside.rename(dataset)
    second.join(10)
    assert said[1:] == [f"{dataset}: up to date"]


def test_a_lock_that_was_removed_is_no_lock(tmp_path: Path) -> None:
    """Whoever waited for a file that is gone waits for the one of that name."""
    path, said, inside = tmp_path / ".set.lock", [], threading.Event()

    def enter() -> None:
        with _locked(path, said.append):
            inside.set()

    def wait(lines: int) -> None:
        deadline = time.monotonic() + 10
        while len(said) < lines and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(said) == lines and not inside.is_set()

    waiting = threading.Thread(target=enter)
    with open(path, "a") as first, open(tmp_path / "other", "a") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)
        waiting.start()
        wait(1)
        (tmp_path / "other").rename(path)
        fcntl.flock(first, fcntl.LOCK_UN)
        wait(2)
    waiting.join(10)
    assert inside.is_set() and not path.exists()


def test_one_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    """And no file stays, whether the work ends or fails."""
    path, within, most = tmp_path / ".set.lock", [], []

    def enter() -> None:
        for _ in range(50):
            with _locked(path, lambda line: None):
                within.append(1)
                most.append(len(within))
                within.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 200 and set(most) == {1} and not path.exists()
    with pytest.raises(KeyboardInterrupt), _locked(path, print):
        raise KeyboardInterrupt
    assert not path.exists()


def test_the_lock_of_a_killed_process_is_taken(tmp_path: Path, make_settings) -> None:
    settings = make_settings(local_path=str(many_documents(tmp_path)))
    directory = tmp_path / "data" / "set"
    directory.parent.mkdir()
    (directory.parent / ".set.lock").touch()
    prepare(settings, directory, quiet)
    assert [path.name for path in directory.parent.iterdir()] == ["set"]


def limit_files() -> None:
    """No file of this process may grow beyond 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_leaves_nothing_that_looks_whole(
    tmp_path: Path, make_settings
) -> None:
    corpus = tmp_path / "corpus"
    corpus.write_bytes(b"0123456789" * 50_000)
    directory = tmp_path / "data" / "set"
    settings = make_settings(split="tail")
    result = subprocess.run(
        command(settings, directory),
        preexec_fn=limit_files,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "File too large; the dataset needs 1 MB under" in result.stderr
    assert not directory.exists()
    assert prepare(settings, directory, quiet).splits["train"].tokens == 400_000


def test_a_place_that_is_no_folder_names_the_symbol(
    tmp_path: Path, documents, make_settings
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match="file: .*; CONFIG_DATA_DIR must be a folder"):
        prepare(make_settings(), tmp_path / "file" / "set", quiet)


def test_a_read_only_place_is_an_error_only_when_there_is_work(
    dataset: Path, tmp_path: Path, make_settings, monkeypatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(30, "Read-only file system", str(dataset.parent))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    assert prepare(make_settings(), dataset, quiet).tokenizer == "byte"
    with pytest.raises(BuildError, match="Read-only file system; CONFIG_DATA_DIR"):
        prepare(make_settings(), tmp_path / "other", quiet)


@pytest.mark.parametrize("killed_before", ["first rename", "second rename", "cleanup"])
def test_a_kill_during_the_swap_loses_nothing(
    dataset: Path, tmp_path: Path, make_settings, monkeypatch, killed_before: str
) -> None:
    (tmp_path / "corpus" / "new.txt").write_bytes(b"new")
    steps = iter(["first rename", "second rename"])
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if ".set." in str(source) + str(target) and Path(source).is_dir():
            if next(steps) == killed_before:
                raise KeyboardInterrupt
        real(source, target)

    real_discard = build_module._discard

    def discard(folder: Path) -> None:
        if killed_before == "cleanup" and folder.name == ".set.old" and folder.exists():
            raise KeyboardInterrupt
        real_discard(folder)

    with monkeypatch.context() as patch:
        patch.setattr(build_module.os, "replace", replace)
        patch.setattr(build_module, "_discard", discard)
        with pytest.raises(KeyboardInterrupt):
            prepare(make_settings(), dataset, quiet)
    assert dataset.exists() == (killed_before != "second rename")
    said: list[str] = []
    prepare(make_settings(), dataset, said.append)
    assert examine(make_settings(), dataset)[0] is None
    if killed_before == "cleanup":
        assert said == [f"{dataset}: up to date"]
    else:
        assert any("taking up an interrupted build" in line for line in said)
        assert leftovers(dataset) == []


class Terminal:
    """A stream that calls itself a terminal or not."""

    def __init__(self, terminal: bool):
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing is buffered."""


@pytest.mark.parametrize("terminal, start", [(True, "\r\033[K"), (False, "")])
def test_the_meter_shows_share_rate_and_time_left(
    monkeypatch, terminal: bool, start: str
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = Terminal(terminal)
    meter = Counted("packing", 4_000_000, stream)
    meter.advance(500_000)
    now[0] = 20.0
    meter.advance(500_000)
    line = f"{start}packing: 25% of 4.0 MB, 0.1 MB/s, 1m 00s left"
    assert stream.text == line + ("" if terminal else "\n")
