"""A disk that is full or read-only, a real one: nothing recorded is lost."""

import os

import pytest

from gpt2.training import cell as cell_module
from gpt2.training import trainer
from records.cell import read_cell, read_status
from records.jsonl import read_rows
from records.layout import CellDir
from tests.chaos.faults import Volume

FULL = "No space left"


@pytest.fixture
def volume(tmp_path):
    """A small file system; skipped where none can be mounted."""
    try:
        volume = Volume(tmp_path / "volume")
    except PermissionError as error:
        pytest.skip(str(error))
    yield volume
    volume.free()
    volume.close()


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, act): `act` is called before step n."""
    take = trainer.Trainer._step

    def arrange(number, act):
        def step(self, batches):
            if self.progress.step == number:
                act()
            take(self, batches)

        monkeypatch.setattr(trainer.Trainer, "_step", step)

    return arrange


def state(directory) -> tuple[str, str]:
    status = read_status(CellDir(directory))
    return status.state, status.reason


def losses(directory) -> list[float]:
    return [row["loss"] for row in read_cell(directory).train]


@pytest.mark.parametrize("step", [0, 4, 11])
def test_a_disk_that_fills_up(volume, make_cell, train, at_step, monkeypatch, step):
    """In the first step, before a checkpoint, between two: the same curve later."""
    calm = make_cell(volume.path / "calm")
    assert train(calm).returncode == 0
    directory = make_cell(volume.path / "cell")
    at_step(step, volume.fill)
    done = train(directory)
    assert done.returncode == 1 and FULL in done.stderr
    found, reason = state(directory)
    assert found in ("failed", "interrupted"), reason
    before = len(read_rows(directory / "metrics.jsonl"))
    for _ in range(2):  # tried again while it is still full
        assert train(directory).returncode == 1
    assert state(directory)[0] in ("failed", "interrupted")
    assert len(read_rows(directory / "metrics.jsonl")) >= before
    monkeypatch.undo()
    volume.free()
    done = train(directory)
    assert done.returncode == 0, done.stderr
    assert ("resumed at step 10" in done.stdout) == (step == 11)
    assert losses(directory) == losses(calm)
    assert state(directory)[0] == "done"
    assert not list(directory.rglob(".*.tmp")), "half-written files stay"


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(
    volume, make_cell, train, at_step, monkeypatch
):
    directory = make_cell(volume.path / "cell", LOG_INTERVAL="1000")
    at_step(8, volume.fill)
    done = train(directory)
    assert done.returncode == 1 and "No space left" in done.stderr
    assert os.listdir(directory / "checkpoint") == ["step-000000005.pt"]
    monkeypatch.undo()
    volume.free()
    done = train(directory)
    assert done.returncode == 0 and "resumed at step 5" in done.stdout


def test_a_directory_that_becomes_read_only(volume, make_cell, train, monkeypatch):
    directory = make_cell(volume.path / "cell")
    volume.writable(False)
    done = train(directory)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(directory) == ("new", "never ran")
    volume.writable(True)
    assert train(directory).returncode == 0
    volume.writable(False)
    assert state(directory)[0] == "done"
    volume.writable(True)


def test_an_end_that_cannot_be_recorded_is_an_interruption(
    cell, train, monkeypatch, capsys
):
    """No end row, no failure.json: the plan says interrupted, and why is printed."""
    directory = cell()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cell_module.atomic, "write_json", refuse)
    append = cell_module.Appender.append

    def full(self, row):
        if row.get("event") == "end" or row.get("step", 0) > 3:
            refuse()
        append(self, row)

    monkeypatch.setattr(cell_module.Appender, "append", full)
    done = train(directory)
    assert done.returncode == 1 and "No space left" in done.stderr
    monkeypatch.undo()
    assert state(directory) == (
        "interrupted",
        "interrupted, begins anew: no checkpoint",
    )
