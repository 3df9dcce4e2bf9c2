"""What a process is set up with before it computes."""

from pathlib import Path

import pytest
import torch

from gpt2.training import device
from records.codehash import hash_rooms
from tests.conftest import ROOT


@pytest.fixture
def tag(small):
    """What torch keeps compiled graphs under, after a process was configured."""

    def configured() -> str:
        device.configure(small().system, "cpu")
        return torch.compiler.config.cache_key_tag

    with torch.compiler.config.patch(cache_key_tag="mine-"):
        yield configured


def test_compiled_graphs_are_kept_by_the_code_of_the_kernels(tag, monkeypatch):
    """Once, behind a tag of the user's; other code has other graphs."""
    expected = f"mine-kablate-{hash_rooms(ROOT, ('kernels',))[0][:16]}"
    assert tag() == expected and tag() == expected
    monkeypatch.setattr(device, "hash_rooms", lambda root, rooms: ("f" * 64, {}))
    assert tag() == f"{expected}kablate-{'f' * 16}"


def test_the_code_is_that_of_the_process():
    assert Path(device.__file__).parents[2] == ROOT
