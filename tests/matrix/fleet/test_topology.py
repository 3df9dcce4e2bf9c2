"""Fake machines are read as they are, and grouped within their NUMA nodes."""

import os
import shutil
import sys
from types import SimpleNamespace

import pytest

from matrix.fleet import machine, visible_devices
from matrix.fleet.machine import page, ranges, survey
from matrix.fleet.topology import cpu_list, group_name, groups, process_name, read_sysfs
from records.gpu_readers import AmdSmi
from tests.matrix import trees

NONE = {"vendor": "nvidia", "gpus": []}


def looked(root, environment=None, most=4, torch=NONE):
    return survey(environment or {}, most, lambda: torch, root)


def indices(machine):
    return {g.name: [gpu.index for gpu in g.gpus] for g in machine.groups}


def test_eight_gpus_in_two_groups(tmp_path):
    machine = looked(trees.amd8(tmp_path))
    assert indices(machine) == {"A": [0, 1, 2, 3], "B": [4, 5, 6, 7]}
    a, b = machine.groups
    assert (a.node, b.node) == (0, 1)
    assert a.cpus == frozenset([*range(32), *range(64, 96)])
    gpu = a.gpus[0]
    assert (gpu.bus, gpu.vendor, gpu.memory) == ("0000:11:00.0", "amd", 64 * 2**30)
    assert (gpu.name, gpu.uuid, gpu.users) == ("MI250", f"GPU-{0:016x}", ())
    assert machine.notes == ()


@pytest.mark.parametrize(
    "tree, found, node",
    [
        (trees.w7900, {"A": [0]}, 0),
        (trees.a10g4, {"A": [0, 1, 2, 3]}, 0),
        (trees.no_numa, {"A": [0, 1]}, None),
    ],
)
def test_the_other_machines(tmp_path, tree, found, node):
    machine = looked(tree(tmp_path))
    assert indices(machine) == found
    assert machine.groups[0].node == node


def test_without_numa_nothing_is_bound_and_it_is_said(tmp_path):
    machine = looked(trees.no_numa(tmp_path))
    assert machine.groups[0].cpus == frozenset()
    assert any("NUMA node of the GPUs is unknown" in note for note in machine.notes)


def test_no_gpu(tmp_path):
    machine = looked(trees.cpu_only(tmp_path))
    assert machine.groups == () and page(machine, {}).startswith("no GPU")


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8])
def test_no_group_crosses_a_node_or_is_too_large(tmp_path, most):
    topology = read_sysfs(trees.amd8(tmp_path))
    found = groups(topology, topology.gpus, most)
    assert [g for group in found for g in group.gpus] == list(topology.gpus)
    for group in found:
        assert len(group.gpus) <= most
        assert {gpu.node for gpu in group.gpus} == {group.node}


def test_rocm_counts_as_kfd_does(tmp_path):
    """KFD's order is not PCI's; what it does not hand out is not there."""
    root = trees.amd8(tmp_path)
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    (nodes / "1").rename(nodes / "10")
    (nodes / "3/properties").write_text("")
    (nodes / "3/properties").chmod(0)
    machine = looked(root)
    buses = [gpu.bus for gpu in sorted(machine.gpus, key=lambda g: g.index)]
    assert buses[0] == "0000:2f:00.0" and buses[-1] == "0000:11:00.0"
    assert "0000:5d:00.0" in buses and "0000:46:00.0" not in buses
    assert indices(machine) == {"A": [0, 1, 6], "B": [2, 3, 4, 5]}


def test_a_container_sees_the_gpus_that_the_driver_lists(tmp_path):
    root = trees.a10g4(tmp_path)
    listed = root / "proc/driver/nvidia/gpus"
    for bus in ("0000:00:1b.0", "0000:00:1d.0"):
        (listed / bus / "information").unlink()
        (listed / bus).rmdir()
    machine = looked(root)
    assert [gpu.bus[8:10] for gpu in machine.gpus] == ["1c", "1e"]
    assert [gpu.visible for gpu in machine.gpus] == ["GPU-1c-ab", "GPU-1e-ab"]


def test_an_integrated_gpu_is_left_out(tmp_path):
    small = trees.Card("0000:7a:00.0", "amdgpu", 0, 2**29, "Raphael", "1")
    large = trees.Card("0000:03:00.0", "amdgpu", 0, 48 * 2**30, "W7900", "2")
    machine = looked(trees.build(tmp_path, [large, small], {0: "0-15"}))
    assert [gpu.name for gpu in machine.gpus] == ["W7900"]
    assert machine.notes == (
        "other processes on the GPUs are not seen without /sys/class/kfd",
        "GPU 1 (0000:7a:00.0) is left out: 0.5 GiB beside 48 GiB",
    )


def test_of_two_vendors_the_one_torch_is_built_for(tmp_path):
    trees.w7900(tmp_path)
    machine = looked(trees.a10g4(tmp_path), torch={"vendor": "nvidia", "gpus": []})
    assert {gpu.vendor for gpu in machine.gpus} == {"nvidia"}
    machine = looked(tmp_path, torch={"vendor": "amd", "gpus": []})
    assert {gpu.vendor for gpu in machine.gpus} == {"amd"}


def test_a_sandbox_that_hides_the_bus(tmp_path):
    """Then torch's own list, which the outer mask has cut already."""
    torch = {"vendor": "nvidia", "gpus": [{"name": "H200", "memory": 2**37}] * 2}
    masked = {"CUDA_VISIBLE_DEVICES": "2,5"}
    machine = looked(tmp_path, masked, torch=torch)
    assert [gpu.visible for gpu in machine.gpus] == ["2", "5"]
    assert machine.notes[0] == "sysfs shows 0 GPUs, torch 2: torch counts"


def test_a_sandbox_that_hides_the_driver(tmp_path):
    """All GPUs of the host are on the bus, and nothing says which are ours."""
    root = trees.a10g4(tmp_path)
    shutil.rmtree(root / "proc")
    for count, buses in ((1, ["torch-0"]), (4, [f"0000:00:1{x}.0" for x in "bcde"])):
        torch = {"vendor": "nvidia", "gpus": [{"name": "A10G", "memory": 1}] * count}
        assert [gpu.bus for gpu in looked(root, torch=torch).gpus] == buses


def test_a_mask_that_hides_everything_asks_nobody(tmp_path):
    masked = {"CUDA_VISIBLE_DEVICES": ""}
    assert looked(trees.a10g4(tmp_path), masked, torch=None).gpus == []


def test_make_gpus(checkout, tmp_path, monkeypatch, capsys):
    fake = looked(trees.a10g4(tmp_path / "fake"))
    monkeypatch.setattr(machine, "survey", lambda environment, most, build: fake)
    assert machine.main(checkout.root, sys.executable) == 0
    assert "GPU 3  0000:00:1e.0  NVIDIA A10G, memory unknown" in capsys.readouterr().out

    def refuse(environment, most, build):
        raise visible_devices.MaskError("CUDA_VISIBLE_DEVICES=MIG-1: no")

    monkeypatch.setattr(machine, "survey", refuse)
    assert machine.main(checkout.root, sys.executable) == 1
    assert "error: CUDA_VISIBLE_DEVICES=MIG-1: no" in capsys.readouterr().out


def test_processes_on_amd_gpus_are_seen(tmp_path):
    root = trees.amd8(tmp_path)
    trees.amd_user(root, os.getpid(), 102)
    trees.amd_user(root, 77, 103, held=0)
    machine = looked(root)
    assert [gpu.users for gpu in machine.gpus[:4]] == [(), (), (os.getpid(),), ()]
    assert f"in use by {os.getpid()} (" in page(machine, {})
    assert process_name(2**30) == str(2**30)


class FakeNvml:
    """nvidia-ml-py as far as it is used, on a10g4 without its first GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self, broken=False):
        self.broken, self.open = broken, 0

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, number):
        return ("1c", "1d", "1e")[number]

    def nvmlDeviceGetPciInfo(self, gpu):
        return SimpleNamespace(busId=f"00000000:00:{gpu.upper()}.0".encode())

    def nvmlDeviceGetName(self, gpu):
        return "NVIDIA A10G"

    def nvmlDeviceGetMemoryInfo(self, gpu):
        return SimpleNamespace(total=23 * 2**30)

    def nvmlDeviceGetUUID(self, gpu):
        return f"GPU-{gpu}-from-nvml"

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        pids = (9, 8) if gpu == "1d" else ()
        return [SimpleNamespace(pid=pid) for pid in pids]


def test_nvml_adds_memory_and_users_and_counts(tmp_path, library):
    nvml = FakeNvml()
    library("pynvml", nvml)
    machine = looked(trees.a10g4(tmp_path))
    assert [gpu.bus[8:10] for gpu in machine.gpus] == ["1c", "1d", "1e"]
    assert [gpu.index for gpu in machine.gpus] == [0, 1, 2]
    assert {gpu.memory for gpu in machine.gpus} == {23 * 2**30}
    assert [gpu.users for gpu in machine.gpus] == [(), (8, 9), ()]
    assert machine.gpus[0].visible == "GPU-1c-from-nvml" and nvml.open == 0
    assert not any("not seen" in note for note in machine.notes)


def test_nvml_alone_and_nvml_broken(tmp_path, library):
    library("pynvml", FakeNvml())
    machine = looked(tmp_path)
    assert [gpu.bus for gpu in machine.gpus][0] == "0000:00:1c.0"
    root = trees.a10g4(tmp_path / "broken")
    library("pynvml", FakeNvml(broken=True))
    machine = looked(root)
    assert len(machine.gpus) == 4
    assert (
        "nothing is known from NVML: Driver/library version mismatch" in machine.notes
    )
    assert any("not seen" in note for note in machine.notes)
    machine = looked(tmp_path / "none")
    assert machine.notes == (), "no driver where there is no GPU of its kind"


def test_amdsmi_adds_names(tmp_path, library):
    fake = SimpleNamespace(
        AmdSmiException=ValueError,
        AmdSmiMemoryType=SimpleNamespace(VRAM=0),
        amdsmi_init=lambda: None,
        amdsmi_shut_down=lambda: None,
        amdsmi_get_processor_handles=lambda: ["0000:03:00.0"],
        amdsmi_get_gpu_device_bdf=lambda gpu: gpu,
        amdsmi_get_gpu_asic_info=lambda gpu: {"market_name": "Radeon PRO W7900"},
        amdsmi_get_gpu_memory_total=lambda gpu, kind: 45 * 2**30,
    )
    library("amdsmi", fake)
    machine = looked(trees.w7900(tmp_path))
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.memory) == ("Radeon PRO W7900", 45 * 2**30)
    assert gpu.users == () and gpu.uuid == "GPU-5a", "sysfs knows these"


def test_a_library_that_cannot_be_loaded_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "amdsmi.py").write_text("raise KeyError('ROCM_HOME')\n")
    monkeypatch.delitem(sys.modules, "amdsmi")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="ROCM_HOME"):
        AmdSmi()
    assert looked(trees.w7900(tmp_path / "machine")).notes == ()


def test_the_page(tmp_path):
    root = trees.amd8(tmp_path)
    text = page(looked(root), {})
    assert (
        "group A  NUMA node 0, CPUs 0-31,64-95\n  GPU 0  0000:11:00.0  MI250, 64"
        in text
    )
    masked = {"HIP_VISIBLE_DEVICES": "4,5"}
    text = page(looked(root, masked), masked)
    assert "group A  NUMA node 1" in text
    assert "HIP_VISIBLE_DEVICES=4,5 (6 hidden)" in text


def test_lists_of_numbers():
    assert cpu_list("0-2,8\n") == {0, 1, 2, 8} and cpu_list("") == frozenset()
    assert ranges(frozenset({0, 1, 2, 8})) == "0-2,8"
    assert [group_name(n) for n in (0, 1, 25, 26, 27)] == ["A", "B", "Z", "AA", "AB"]
