"""Jobs, threads and the meaning of auto."""

import sys
from pathlib import Path

import pytest

from matrix.plan import device


@pytest.mark.parametrize(
    "jobs, threads, kind, cores, expected",
    [
        (0, 0, "cpu", 16, 1),
        (0, 4, "cpu", 16, 4),
        (0, 32, "cpu", 16, 1),
        (0, 4, "cuda", 16, 1),
        (3, 4, "cpu", 16, 3),
        (2, 0, "cuda", 16, 2),
    ],
)
def test_jobs(jobs, threads, kind, cores, expected):
    assert device.job_count(jobs, threads, kind, cores) == expected


@pytest.mark.parametrize(
    "threads, jobs, cores, expected",
    [(0, 1, 16, 16), (0, 3, 16, 5), (0, 32, 16, 1), (7, 3, 16, 7), (16, 2, 16, 16)],
)
def test_threads(threads, jobs, cores, expected):
    assert device.thread_count(threads, jobs, cores) == expected


def test_more_threads_than_cores_are_refused():
    with pytest.raises(device.DeviceError, match="CPU_THREADS=17: .* 16 cores"):
        device.thread_count(17, 1, 16)


def test_a_gpu_is_required():
    device.require_gpu(lambda: "cuda", {})
    with pytest.raises(device.DeviceError, match="DEVICE=cuda: .*no GPU"):
        device.require_gpu(lambda: "cpu", {})
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    with pytest.raises(device.DeviceError, match="=cuda: CUDA_VISIBLE_DEVICES= hides"):
        device.require_gpu(lambda: "cpu", hidden)


def fake_python(tmp_path: Path, body: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_probe_asks_once(tmp_path: Path):
    log = tmp_path / "log"
    body = f"open({str(log)!r}, 'a').write('asked ')\nprint('cuda')"
    ask = device.probe_once(fake_python(tmp_path, body))
    assert (ask(), ask(), log.read_text()) == ("cuda", "cuda", "asked ")


@pytest.mark.parametrize("body", ["sys.exit('no module torch')", "print('tpu')"])
def test_an_unclear_answer_is_an_error(tmp_path: Path, body: str):
    with pytest.raises(device.DeviceError, match="cannot ask torch .*(torch|tpu).*cpu"):
        device.probe(fake_python(tmp_path, body))
