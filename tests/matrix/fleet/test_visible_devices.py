"""Outer masks are followed as CUDA and ROCm follow them; cells get their own."""

import pytest

from matrix.fleet.topology import Gpu
from matrix.fleet.visible_devices import MaskError, allowed, mask


def nvidia(count=4, names=None):
    return [
        Gpu(n, "nvidia", f"b{n}", f"GPU-{n}{n}-x", (names or {}).get(n, "A"), uuid=u)
        for n, u in enumerate(f"GPU-{n}{n}-x" for n in range(count))
    ]


def amd(count=4):
    return [Gpu(n, "amd", f"b{n}", str(n), uuid=f"GPU-{n:04x}") for n in range(count)]


def left(gpus, **environment):
    return [gpu.index for gpu in allowed(gpus, environment)]


@pytest.mark.parametrize(
    "text, found",
    [
        ("0,1", [0, 1]),
        ("3, 1", [3, 1]),
        ("", []),
        ("-1", []),
        ("1,9,2", [1]),
        ("2,-1,0", [2]),
        ("GPU-11", [1]),
        ("gpu-22-X,GPU-00", [2, 0]),
        ("GPU-77,GPU-11", []),
    ],
)
def test_cuda(text, found):
    assert left(nvidia(), CUDA_VISIBLE_DEVICES=text) == found


def test_no_mask():
    assert left(nvidia()) == [0, 1, 2, 3] and left([]) == []


def test_a_slip_is_refused_where_there_is_no_gpu():
    with pytest.raises(MaskError, match="CUDA_VISIBLE_DEVICES=cuda: 'cuda' is neither"):
        left([], CUDA_VISIBLE_DEVICES="cuda")


@pytest.mark.parametrize(
    "text, why",
    [
        ("GPU-", "fits 4 GPUs: write more"),
        ("1,1", "names a GPU twice"),
        ("MIG-1234", "MIG slices are not placed"),
        ("none", "'none' is neither a GPU's number nor its UUID"),
    ],
)
def test_a_mask_that_cannot_be_followed(text, why):
    with pytest.raises(MaskError, match=why):
        left(nvidia(), CUDA_VISIBLE_DEVICES=text)


def test_a_uuid_that_nothing_tells():
    unknown = [Gpu(0, "nvidia", "b", "0")]
    with pytest.raises(MaskError, match="install nvidia-ml-py"):
        left(unknown, CUDA_VISIBLE_DEVICES="GPU-1")


def test_numbers_of_different_gpus_need_the_order():
    mixed = nvidia(names={1: "B"})
    with pytest.raises(MaskError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        left(mixed, CUDA_VISIBLE_DEVICES="1")
    assert left(mixed, CUDA_VISIBLE_DEVICES="GPU-11") == [1]
    ordered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert left(mixed, CUDA_VISIBLE_DEVICES="1", **ordered) == [1]


def test_rocm_masks_twice():
    both = {"ROCR_VISIBLE_DEVICES": "1,3", "HIP_VISIBLE_DEVICES": "1"}
    (gpu,) = allowed(amd(), both)
    assert (gpu.index, gpu.visible) == (3, "1"), "counted below ROCr's mask"
    assert left(amd(), ROCR_VISIBLE_DEVICES="GPU-0002,GPU-0000") == [2, 0]
    assert left(amd(), CUDA_VISIBLE_DEVICES="2") == [2]
    assert left(amd(), CUDA_VISIBLE_DEVICES="2", HIP_VISIBLE_DEVICES="3") == [3]


def test_the_mask_of_a_cell():
    outer = {"CUDA_VISIBLE_DEVICES": "0,1,2", "HOME": "/h"}
    assert mask(nvidia()[1:3], outer) == {
        "HOME": "/h",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-11-x,GPU-22-x",
    }
    outer |= {"ROCR_VISIBLE_DEVICES": "1,3"}
    gpus = allowed(amd(), {"ROCR_VISIBLE_DEVICES": "1,3"})
    assert mask(gpus[1:], outer) == {
        "HOME": "/h",
        "ROCR_VISIBLE_DEVICES": "1,3",
        "HIP_VISIBLE_DEVICES": "1",
    }
