"""The device that is asked for, with GPUs hidden by a variable."""

import pytest
import torch

from gpt2.training import device

MASK = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def seen(monkeypatch):
    """seen(mask, gpu): the environment's mask, None for none; whether torch sees one."""

    def make(mask: str | None, gpu: bool) -> None:
        for name in (MASK, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        if mask is not None:
            monkeypatch.setenv(MASK, mask)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    return make


def test_auto_says_why_it_is_the_cpu(seen):
    said: list[str] = []
    for mask, why in (
        ("", f"{MASK}= hides every GPU"),
        ("-1", f"{MASK}=-1 hides every GPU"),
        ("3", f"none is seen under {MASK}=3"),
    ):
        seen(mask, False)
        assert device.resolve("auto", said.append) == "cpu"
        assert said == [f"device: the CPU, as {why}"]
        said.clear()
    seen(None, False)
    assert device.resolve("auto", said.append) == "cpu" and said == []
    seen("0", True)
    assert device.resolve("auto", said.append) == "cuda" and said == []
    seen("-1", False)
    assert device.resolve("cpu", said.append) == "cpu" and said == []


def test_a_gpu_that_is_hidden_is_refused_by_name(seen):
    seen("-1", False)
    with pytest.raises(device.DeviceError, match=rf"\({MASK}=-1 hides every GPU\)"):
        device.resolve("cuda")


@pytest.mark.parametrize("kind", ["auto", "cuda"])
def test_a_slip_is_refused_by_name(seen, kind):
    seen("cuda:0", False)
    with pytest.raises(
        device.DeviceError, match=f"^{MASK}=cuda:0: 'cuda:0' is neither"
    ):
        device.resolve(kind)
    assert device.resolve("cpu") == "cpu"
