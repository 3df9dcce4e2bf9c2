"""The GPU monitor over fake drivers: a sysfs tree, a library, a program."""

import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt2.training import cell, gpu_monitor
from gpt2.training.gpu_monitor import Monitor, row_of
from records.gpu_readers import Nvml, ReadError, Smi, Sysfs
from records.jsonl import read_rows
from records.layout import CellDir

NAMES = ["0000:03:00.0", "0000:43:00.0"]


@pytest.fixture
def amd(tmp_path) -> Path:
    """Two AMD GPUs; the second, newer one has neither a power average nor the edge's
    temperature, and no mem_busy_percent.
    """
    for n, name in enumerate(NAMES):
        device = tmp_path / name
        sensors = device / "hwmon" / f"hwmon{3 + n}"
        sensors.mkdir(parents=True)
        files = {
            device / "gpu_busy_percent": 90 + n,
            device / "mem_info_vram_used": (10 + n) * 2**30,
            device / "mem_info_vram_total": 48 * 2**30,
            sensors / "temp2_input": 61000,
            sensors / "freq1_input": 2304000000,
        }
        if n == 0:
            files[device / "mem_busy_percent"] = 40
            files[sensors / "power1_average"] = 241000000
            files[sensors / "temp1_input"] = 55000
        else:
            files[sensors / "power1_input"] = 199500000
        for path, value in files.items():
            path.write_text(f"{value}\n")
    return tmp_path


ROW = {
    "gpu/compute_util_avg": 90.5,
    "gpu/0/compute_util": 90.0,
    "gpu/1/compute_util": 91.0,
    "gpu/memory_util_avg": 40.0,
    "gpu/0/memory_util": 40.0,
    "gpu/memory_used_avg_gb": 10.5,
    "gpu/0/memory_used_gb": 10.0,
    "gpu/1/memory_used_gb": 11.0,
    "gpu/memory_total_avg_gb": 48.0,
    "gpu/power_avg_w": 220.25,
    "gpu/0/power_w": 241.0,
    "gpu/1/power_w": 199.5,
    "gpu/temperature_avg_c": 58.0,
    "gpu/0/temperature_c": 55.0,
    "gpu/1/temperature_c": 61.0,
    "gpu/clock_avg_mhz": 2304.0,
    "gpu/0/clock_mhz": 2304.0,
    "gpu/1/clock_mhz": 2304.0,
}


def test_amd_through_sysfs(amd):
    assert row_of(Sysfs(NAMES, amd).read()) == ROW


def test_a_sensor_that_refuses_is_left_out(amd):
    reader = Sysfs(NAMES[:1], amd)
    sensor = amd / NAMES[0] / "hwmon" / "hwmon3" / "power1_average"
    sensor.unlink()
    sensor.mkdir()  # reading it is an OSError, as of a sensor that sleeps
    (reading,) = reader.read()
    assert "power_w" not in reading and reading["compute_util"] == 90


def test_no_driver_is_an_error(tmp_path):
    with pytest.raises(ReadError, match="no gpu_busy_percent"):
        Sysfs(NAMES, tmp_path)


@pytest.fixture
def pynvml(monkeypatch):
    """A library that knows two GPUs, the second without power."""

    class NVMLError(Exception):
        pass

    def power(gpu):
        if gpu == 1:
            raise NVMLError("Not Supported")
        return 241000

    library = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda name: NAMES.index(name.decode()),
        nvmlDeviceGetUtilizationRates=lambda gpu: types.SimpleNamespace(
            gpu=90 + gpu, memory=40
        ),
        nvmlDeviceGetMemoryInfo=lambda gpu: types.SimpleNamespace(
            used=(10 + gpu) * 2**30, total=48 * 2**30
        ),
        nvmlDeviceGetPowerUsage=power,
        nvmlDeviceGetTemperature=lambda gpu, sensor: 61,
        nvmlDeviceGetClockInfo=lambda gpu, clock: 1980,
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: [object()] * (gpu + 1),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_nvidia_through_the_library(pynvml):
    row = row_of(Nvml(NAMES).read())
    expected = {**ROW, "gpu/power_avg_w": 241.0, "gpu/memory_util_avg": 40.0}
    expected |= {"gpu/1/memory_util": 40.0}
    expected |= {"gpu/0/processes": 1.0, "gpu/1/processes": 2.0}
    expected |= {"gpu/processes_avg": 1.5}
    expected |= {k: 1980.0 for k in ROW if "clock" in k}
    expected |= {k: 61.0 for k in ROW if "temperature" in k}
    del expected["gpu/1/power_w"]
    assert row == expected


def test_a_library_without_a_driver_is_an_error(pynvml):
    def init():
        raise pynvml.NVMLError("Driver Not Loaded")

    pynvml.nvmlInit = init
    with pytest.raises(ReadError, match="Driver Not Loaded"):
        Nvml(NAMES)


SMI = """#!/bin/sh
case "$*" in
  *pci.bus_id,utilization.gpu,*--format=csv,noheader,nounits*) ;;
  *) exit 3 ;;
esac
echo "00000000:43:00.0, 91, 40, 11264, 49152, [N/A], 61, 1980"
echo "00000000:03:00.0, 90, 40, 10240, 49152, 241.0, 61, 1980"
"""


@pytest.fixture
def smi(tmp_path) -> str:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    return str(program)


def test_nvidia_through_the_program(smi):
    """In the order of the run's GPUs, whatever the order of the answer."""
    row = row_of(Smi(NAMES, smi).read())
    assert row["gpu/0/compute_util"] == 90 and row["gpu/1/compute_util"] == 91
    assert row["gpu/power_avg_w"] == row["gpu/0/power_w"] == 241
    assert "gpu/1/power_w" not in row and row["gpu/memory_used_avg_gb"] == 10.5


@pytest.mark.parametrize("names", [NAMES[:1], ["0000:99:00.0"], []])
def test_a_program_that_answers_for_others_is_an_error(smi, names):
    with pytest.raises(ReadError, match="answers for"):
        Smi(names, smi).read()


def test_a_program_that_fails_is_an_error(tmp_path):
    with pytest.raises(ReadError, match="nvidia-smi"):
        Smi(NAMES, str(tmp_path / "absent")).read()


def test_the_absence_of_the_library_is_said(monkeypatch, smi):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # its import fails
    monkeypatch.setattr(gpu_monitor, "addresses", lambda count: NAMES[:count])
    monkeypatch.setattr(gpu_monitor.torch.version, "hip", None)
    said = []
    monkeypatch.setattr(gpu_monitor.shutil, "which", lambda name: smi)
    assert isinstance(gpu_monitor.reader(2, said.append), Smi)
    assert "nvidia-smi is run for every sample" in said[0]
    monkeypatch.setattr(gpu_monitor.shutil, "which", lambda name: None)
    with pytest.raises(ReadError, match="requirements-gpu.txt"):
        gpu_monitor.reader(2, said.append)


class Flaky:
    """A reader whose every second reading fails."""

    source, count = "flaky", 0

    def read(self):
        self.count += 1
        if self.count % 2 == 0:
            raise ReadError("no answer")
        return [{"power_w": 100.0}]


def watched(path, build, until, interval=0.005) -> tuple[list[str], Monitor]:
    """A monitor until `until(its samples)`, and what it said."""
    said: list[str] = []
    with Monitor(path, 2, build, lambda: 17, said.append, interval) as monitor:
        deadline = time.monotonic() + 60
        while not until(monitor):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    return said, monitor


def test_samples_and_errors(tmp_path):
    path = tmp_path / "gpu.jsonl"
    said, monitor = watched(path, Flaky, lambda m: m.samples >= 5)
    rows = read_rows(path)
    assert len(rows) == monitor.samples
    assert {(r["attempt"], r["step"], r["gpu/0/power_w"]) for r in rows} == {
        (2, 17, 100.0)
    }
    times = [row["time"] for row in rows]
    assert times == sorted(times) and abs(times[-1] - time.time()) < 60
    assert [line for line in said if "missing" in line] == [
        "gpu monitor: a sample is missing: no answer"
    ]
    assert "% of" in said[-1]


def test_no_reader_is_said_and_nothing_is_written(tmp_path):
    def build():
        raise ReadError("no driver")

    said, _ = watched(tmp_path / "gpu.jsonl", build, lambda m: not m._thread.is_alive())
    assert said[0] == "gpu monitor: off: no driver"
    assert not (tmp_path / "gpu.jsonl").exists()


def test_a_reading_costs_little(amd, tmp_path):
    """Below 0.5 % of a core at a sample every two seconds."""
    reader = Sysfs(NAMES, amd)
    _, monitor = watched(
        tmp_path / "gpu.jsonl", lambda: reader, lambda m: m.samples > 50
    )
    per_sample = monitor.cpu_seconds / monitor.samples
    print(f"{1e3 * per_sample:.2f} ms of CPU a sample")
    assert per_sample / 2.0 < 0.005


@pytest.mark.parametrize("kind, wanted, count", [("cuda", 1.5, 2), ("cpu", 1.5, 0)])
def test_the_monitor_knows_attempt_step_and_interval(
    tmp_path, monkeypatch, kind, wanted, count
):
    """The GPUs of this host that the run has, sampled as configured."""
    made = []
    monkeypatch.setattr(cell.gpu_monitor, "Monitor", lambda *found: made.append(found))
    monkeypatch.setattr(cell.gpu_monitor, "reader", lambda count, say: count)
    monkeypatch.setattr(cell.torch.cuda, "device_count", lambda: 2)
    system = SimpleNamespace(gpu_monitor=True, gpu_monitor_interval=wanted)
    about = SimpleNamespace(
        settings=SimpleNamespace(system=system),
        info=SimpleNamespace(kind=kind),
        ranks=SimpleNamespace(main=True),
        batch=SimpleNamespace(ranks=4),
    )
    shown, far = SimpleNamespace(note=print), SimpleNamespace(step=7)
    loop = SimpleNamespace(run=about, display=shown, progress=far)
    cell._monitor(CellDir(tmp_path), loop, 3)
    assert len(made) == (count > 0)
    for path, attempt, build, step, say, interval in made:
        assert (path, attempt, interval) == (tmp_path / "gpu.jsonl", 3, wanted)
        assert (build(), step()) == (count, 7) and say is print
