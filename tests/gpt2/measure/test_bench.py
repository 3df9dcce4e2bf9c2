"""make bench on the CPU: records that grow row by row, and their comparison."""

import json
import subprocess
import sys

import pytest

from gpt2.measure import compare, parts, race
from gpt2.measure.record import Record, fresh, judged, load, slug
from gpt2.measure.table import unfinished, markdown
from gpt2.settings.run import run_settings
from kernels.attention import bench as attention
from kernels.recurrence import bench as recurrence
from records.layout import RecordError
from tests.conftest import ROOT, SMALL

GPU = {"kind": "cuda", "name": "NVIDIA H200"}
FACTS = {"device": GPU, "torch": "2", "triton": "3", "commit": "c"}
DATE = "2026-11-28"


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD Radeon PRO W7900", "w7900"),
        ("AMD Instinct MI300X", "mi300x"),
        ("../../etc", "etc"),
        ("NVIDIA", "unnamed"),
    ],
)
def test_a_name_for_a_file(name, wanted):
    assert slug(name) == wanted


def test_a_record_of_a_cpu_is_ignored_by_git(tmp_path):
    """It is of one machine and day; those of GPUs are kept."""
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    folder = tmp_path / "results" / "bench"
    folder.mkdir(parents=True)
    names = [
        fresh(folder, {"kind": "cpu", "name": "x"}, DATE),
        fresh(folder, GPU, DATE),
    ]
    paths = [str(path.with_suffix(end)) for path in names for end in (".json", ".md")]
    asked = ["git", "-C", str(tmp_path), "check-ignore", *paths]
    ignored = subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    assert ignored == paths[:2]


def row(name="ours", ms=(2.0, 2.0, 2.0), anchor_ms=(1.0, 1.0, 1.0), **more):
    shape = {"B": 1, "T": 8, "H": 2, "D": 16}
    given = {"group": "T=8", "name": name, "anchor": "cuDNN", "shape": shape}
    return {**given, "ms_rounds": list(ms), "anchor_rounds": list(anchor_ms), **more}


def record(folder, *rows, device=GPU, began=None):
    made = Record.begin(folder, {**FACTS, "device": device}, DATE)
    made.call("bench.py", "attention", {"about": "what"})
    if began is not None:
        made.content["calls"][0]["began"] = began
    for each in rows:
        made.add(each)
    made.complete()
    return made


def test_no_record_is_overwritten(tmp_path):
    names = [record(tmp_path, row()).path.name for _ in range(3)]
    assert names == [f"h200-{DATE}{n}.json" for n in ("", "-2", "-3")]
    (tmp_path / f"h200-{DATE}-4.md").touch()
    assert fresh(tmp_path, GPU, DATE).name == f"h200-{DATE}-5.json"
    assert fresh(tmp_path, {"kind": "cpu", "name": "x"}, DATE).name.startswith("cpu-")


def test_the_ratio_and_its_error():
    found = judged(row(ms=(2.0, 2.2, 1.8, 2.0), anchor_ms=(1.0, 1.0, 1.0, 1.0)))
    assert (found["ms"], found["ratio"]) == (2.0, 2.0)
    assert found["error"] == pytest.approx(1.2533 * 1.4826 * 0.1 / 2)


def test_a_record_says_that_it_is_partial_until_it_is_not(tmp_path):
    made = Record.begin(tmp_path, FACTS, DATE)
    made.call("bench.py --part attention", "attention", {"about": "what"})
    made.add(row())
    content = load(made.path)  # as a killed bench leaves it
    text = made.path.with_suffix(".md").read_text()
    assert unfinished(content) == ["attention"] and "**Partial**: attention" in text
    assert len(content["rows"]) == 1 and "2.000 · 2.00" in text
    again = Record.resume(made.path, FACTS)
    assert again.done("attention") == {("T=8", "ours")}
    again.call("bench.py --resume", "attention", {"about": "what"})
    again.add(row("theirs"))
    again.complete()
    content = load(made.path)
    assert unfinished(content) == [] and [r["call"] for r in content["rows"]] == [0, 1]
    assert "Partial" not in made.path.with_suffix(".md").read_text()


def test_a_record_goes_on_only_where_it_began(tmp_path):
    path = record(tmp_path, row()).path
    with pytest.raises(RecordError, match="torch"):
        Record.resume(path, {**FACTS, "torch": "3"})
    with pytest.raises(RecordError, match="device"):
        Record.resume(path, {**FACTS, "device": {"kind": "cuda", "name": "H100"}})
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(RecordError, match="schema 1"):
        load(path)


def test_what_ragged_positions_cost_is_in_the_table(tmp_path):
    shape = {"B": 1, "T": 7, "H": 2, "D": 16}
    ragged = row(group="T=7", shape=shape, beside="T=8")
    made = record(tmp_path, row(), ragged)
    # Equal times for 28 pairs of positions and for 36.
    assert "| ours | 1.286 |" in markdown(made.content)


def test_compare_marks_what_exceeds_the_noise(tmp_path):
    before = record(
        tmp_path, row(), row("loud", (2.0, 2.4, 1.6)), row("cuDNN", (1, 1, 1))
    )
    slower = row(ms=(4.2, 4.2, 4.2), anchor_ms=(2.0, 2.0, 2.0))  # clocks halved, +5 %
    after = record(tmp_path, slower, row("loud", (2.2, 2.6, 1.8)), row("new"))
    found = compare.changes(before.content, after.content)
    assert [(c.row[-4:], c.mark) for c in found] == [("ours", "worse"), ("loud", "")]
    assert found[0].change == pytest.approx(0.05)
    back = compare.changes(after.content, before.content)
    assert [c.mark for c in back] == ["better", ""]


def test_memory_is_compared_too(tmp_path):
    old, new = (
        record(tmp_path, row("cuDNN", (1,), (1,), peak_bytes=n)).content
        for n in (2**30, 2**31)
    )
    assert [c.mark for c in compare.changes(old, new)] == ["worse"]


def test_the_last_record_meets_the_one_before_it_of_its_gpu(tmp_path):
    first = record(tmp_path, row(), began=1.0)
    record(tmp_path, row("other"), began=2.0)  # shares no row
    record(tmp_path, row(), device={"kind": "cuda", "name": "NVIDIA H100"}, began=3.0)
    last = record(tmp_path, row(), began=4.0)
    (tmp_path / "old.json").write_text('{"schema": 1}')
    assert compare.pick(tmp_path, None, None) == (first.path, last.path)
    with pytest.raises(RecordError, match="no earlier record"):
        compare.pick(tmp_path, None, first.path)


def compared(folder, *arguments):
    script = ROOT / "scripts" / "bench_compare.py"
    command = [sys.executable, str(script), "--folder", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_regression_is_an_exit_status(tmp_path):
    assert compared(tmp_path).returncode == 2
    a = record(tmp_path, row(), began=1.0).path
    b = record(tmp_path, row(ms=(3, 3, 3)), began=2.0).path
    done = compared(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "+50.0%" in done.stdout and "1 of 1 worse beyond the noise" in done.stdout
    assert compared(tmp_path, "--a", str(b), "--b", str(a)).returncode == 0


SHAPES = ((attention.Shape(1, 32, 2, 16), attention.Shape(1, 31, 2, 16)),)


def test_attention_by_groups_that_take_turns(monkeypatch):
    monkeypatch.setattr(attention, "GROUPS", SHAPES)
    rows = list(parts.by_group(attention, "cpu", set()))
    assert [(r["group"][:4], r["name"]) for r in rows] == [
        (T, name) for T in ("T=32", "T=31") for name in ("SDPA math", "plain torch")
    ]
    assert {r["beside"] for r in rows} == {None, SHAPES[0][0].name}
    assert all(len(r["ms_rounds"]) == 30 == len(r["anchor_rounds"]) for r in rows)
    assert all(r["anchor"] == "SDPA math" and judged(r)["ratio"] > 0 for r in rows)
    assert rows[0]["ms_rounds"] == rows[0]["anchor_rounds"]
    done = {(r["group"], r["name"]) for r in rows}
    assert list(parts.by_group(attention, "cpu", done)) == []


def test_the_recurrence_beside_attention(monkeypatch):
    shapes = ((attention.Shape(1, 20, 1, 16),),)
    monkeypatch.setattr(recurrence, "GROUPS", shapes)
    rows = list(parts.by_group(recurrence, "cpu", set()))
    rules = ("sum", "decay", "delta", "delta + decay")
    names = ["SDPA math", *(f"{name}, torch" for name in rules)]
    assert [row["name"] for row in rows] == names
    assert {row["anchor"] for row in rows} == {"SDPA math"}


def test_training_steps_beside_the_first(resolve):
    wanted = [
        ("00", run_settings(resolve(SMALL))),
        ("05", run_settings(resolve(SMALL, MLP_DIM="128"))),
    ]
    T = wanted[0][1].model.block_size
    setup = race.Race(tokens=2 * T, rounds=2, timed=1)
    rows = list(race.compare(wanted, setup, set()))
    assert [r["name"] for r in rows] == ["00", "05"]
    assert rows[0]["of_flops"] == 1.0 < rows[1]["of_flops"]
    for found in rows:
        assert found["group"] == f"T={T} B=2" and found["anchor"] == "00"
        assert len(found["ms_rounds"]) == 2 == len(found["anchor_rounds"])
        assert found["last_loss"] < found["first_loss"] < 8
    done = {(rows[0]["group"], "00")}
    assert [r["name"] for r in race.compare(wanted, setup, done)] == ["05"]
    with pytest.raises(ValueError, match="tokens per batch"):
        next(race.compare(wanted, race.Race(tokens=T + 1), set()))


def test_the_rate_rises():
    assert race.rate(1.0, 0) == 1 / race.RISE
    assert race.rate(0.5, race.RISE - 1) == 0.5 == race.rate(0.5, 10**6)


def test_the_command_trains_and_goes_on(tmp_path):
    small = [
        f"CONFIG_{s}"
        for s in (
            "DEVICE_CPU=y GPT2_SIZE_CUSTOM=y GPT2_LAYERS=1 GPT2_WIDTH=32 GPT2_HEADS=4 "
            "DTYPE_FP32=y PARAM_DTYPE_FP32=y GPT2_COMPILE=n"
        ).split()
    ]
    script = [sys.executable, str(ROOT / "scripts" / "bench.py"), "--part", "training"]
    script += ["--folder", str(tmp_path), "--contexts", "16,32", "--tokens", "64"]
    script += ["--rounds", "2", "--timed", "1", "--set", *small]

    def run(*more):
        return subprocess.run([*script, *more], capture_output=True, text=True)

    done = run("--steps", "0")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("cpu-*.json")
    assert [r["context"] for r in load(path)["rows"]] == [16, 32]
    done = run("--steps", "0,2", "--resume", str(path))
    assert done.returncode == 0, done.stderr
    content = load(path)
    names = [(r["name"][:2], r["context"], r["call"]) for r in content["rows"]]
    assert names == [("00", 16, 0), ("00", 32, 0), ("02", 16, 1), ("02", 32, 1)]
    assert content["calls"][0]["complete"] and content["calls"][1]["complete"]
    assert "Peak GiB at 64 tokens per batch, by T:" in done.stdout
