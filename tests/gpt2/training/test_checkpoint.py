"""Which checkpoints are kept, and what a full disk is called."""

import resource
import zipfile

import pytest
import torch
from torch import nn

from gpt2.distributed.ddp import DataParallel
from gpt2.training import checkpoint
from gpt2.training.checkpoint import Progress


@pytest.fixture
def save(tmp_path):
    """path = save(step): the checkpoint of a small model."""
    shared = DataParallel(nn.Linear(3, 3))
    optimizer = torch.optim.SGD(shared.model.parameters(), 0.1)

    def saved(step: int):
        progress = Progress(step=step)
        return checkpoint.save(tmp_path, "it", progress, shared, optimizer, None)

    return saved


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(save, tmp_path):
    for step in (5, 10, 15):
        path = save(step)
    assert path.exists()
    assert names(tmp_path) == ["step-000000010.pt", "step-000000015.pt"]


def test_damaged_ones_of_later_steps_make_way(save, tmp_path):
    """A run that could read none begins anew: what it writes is what it resumes from."""
    for step in (400, 450):
        (tmp_path / f"step-{step:09d}.pt").write_bytes(b"torn")
    assert save(50).exists()
    assert names(tmp_path) == ["step-000000050.pt"]


class Harmful:
    """What a pickle may name and torch must not call."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


def test_a_checkpoint_that_names_code_is_not_run(tmp_path):
    """Somebody else's: it is left out like a damaged one, and nothing was called."""
    (tmp_path / "checkpoint").mkdir()
    path = tmp_path / "checkpoint" / "step-000000005.pt"
    torch.save({"schema": 1, "x": Harmful(tmp_path / "ran")}, path)
    shared = DataParallel(nn.Linear(3, 3))
    optimizer = torch.optim.SGD(shared.model.parameters(), 0.1)
    progress, complaints = checkpoint.resume(path.parent, "it", shared, optimizer, None)
    assert not (tmp_path / "ran").exists()
    assert progress.step == 0 and len(complaints) == 1 and path.name in complaints[0]


def test_a_full_disk_is_an_error_of_the_disk(tmp_path):
    """And nothing is left of the file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"x": torch.zeros(1_000_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.write(tmp_path / "x.pt", state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
    checkpoint.write(tmp_path / "x.pt", state)
    assert torch.equal(torch.load(tmp_path / "x.pt")["x"], state["x"])


def test_a_compressed_checkpoint_is_none_of_torchs(tmp_path):
    """It could expand to any size; a plain one is read."""
    state = {"x": torch.zeros(100_000)}
    checkpoint.write(tmp_path / "x.pt", state)
    assert torch.equal(checkpoint._load(tmp_path / "x.pt")["x"], state["x"])
    with zipfile.ZipFile(tmp_path / "x.pt") as plain:
        with zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            for each in plain.infolist():
                packed.writestr(each.filename, plain.read(each))
    with pytest.raises(
        zipfile.BadZipFile, match="is compressed, torch writes it plain"
    ):
        checkpoint._load(tmp_path / "y.pt")
