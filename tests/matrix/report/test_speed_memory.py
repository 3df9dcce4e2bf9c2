"""Speed, memory, energy and sparsity in a report."""

import csv
import io

import pytest

from matrix.report.plots import common, sparsity, speed_memory
from matrix.report.write import gather, write
from tests.matrix.report.test_report import markdown_row
from tests.matrix.synthetic import Cell


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def train(*shares: float) -> list[dict]:
    """Train rows every ten updates with these sparsities."""
    return [
        {"kind": "train", "step": 10 * n, "loss": 3.0, "sparsity": share}
        for n, share in enumerate(shares)
    ]


def powered(watts: float, seconds: float) -> list[dict]:
    """Samples every 2 s at a constant power."""
    return [
        {"time": 100.0 + 2 * n, "gpu/0/power_w": watts}
        for n in range(int(seconds / 2) + 1)
    ]


def test_energy_in_the_tables(tmp_path):
    """100 W and 300 W for 20 s: 2 and 6 kJ, over 100 updates of 4,096 tokens."""
    for seed, watts in ((1, 100.0), (2, 300.0)):
        Cell("00-base", seed, (5, 3), gpu=powered(watts, 20)).finish(tmp_path)
        gpu = powered(watts, 20) if seed == 1 else ()
        Cell("01-ra", seed, (5, 3), gpu=gpu).finish(tmp_path)
    paths = write(tmp_path / "demo")
    text = paths.markdown.read_text()
    base = markdown_row(text, "Time and memory", "00-base")
    assert base[5:] == ["4.0 kJ", f"{4000 / 409600:.3g}", "[R1](#r1)"]
    lacking = markdown_row(text, "Time and memory", "01-ra")
    assert lacking[5:7] == ["not measured", "–"]
    rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
    assert [row["energy_joules"] for row in rows] == ["2000.0", "6000.0", "2000.0", ""]
    assert rows[1]["energy_seconds"] == "20.0"


def test_without_samples_there_is_no_column(tmp_path):
    Cell("00-base", 1, (5, 3)).finish(tmp_path)
    text = write(tmp_path / "demo").markdown.read_text()
    assert "Energy was not measured: no run has samples" in text
    assert "J/token" not in text


def test_gaps_and_damage_are_named_with_their_run(tmp_path):
    gpu = [*powered(100.0, 4), {"time": 200.0, "gpu/0/power_w": 100.0}]
    Cell("00-base", 1, (5, 3), gpu=gpu).finish(tmp_path)
    broken = Cell("00-base", 2, (5, 3), gpu=powered(100.0, 4)).finish(tmp_path)
    path = broken / "gpu.jsonl"
    path.write_text(path.read_text().replace("\n", "\ntorn\n", 1))
    report = write(tmp_path / "demo")
    text = report.markdown.read_text()
    assert "00-base seed 1: 1m 36s of attempt 1 between two samples (00-base/" in text
    assert "00-base seed 2: gpu.jsonl line 2 is malformed" in text
    assert len(report.report.counted) == 2, "a damaged sample hides no run"


def test_speed_and_memory_of_every_run(tmp_path):
    for seed in (1, 2):
        fast = {"tokens_per_s": 1000.0 * seed, "peak_memory_bytes": seed * 2**29}
        Cell("00-base", seed, (5, 3), summary=fast).finish(tmp_path)
        Cell("01-ra", seed, (5, 3), summary={"tokens_per_s": None}).finish(tmp_path)
    left, right = speed_memory.figure(gather(tmp_path / "demo").rows).axes
    dots = [each.get_offsets()[:, 0].tolist() for each in left.collections]
    assert dots == [[1000.0, 2000.0]]
    assert left.lines[0].get_xdata()[0] == 1500.0 and left.get_xlim()[0] == 0
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "00-base",
        "01-ra",
    ]
    dots = [each.get_offsets()[:, 0].tolist() for each in right.collections]
    assert dots == [[2**29, 2**30], [3 * 2**29] * 2]
    assert right.xaxis.get_major_formatter()(2**29, 0) == "512 MiB"
    assert right.xaxis.get_major_formatter()(3 * 2**29, 0) == "1.50 GiB"
    assert right.xaxis.get_major_formatter()(0, 0) == "0"


def test_only_changes_of_the_sparsity_are_kept(tmp_path):
    Cell("00-base", 1, (5, 3), rows=train(0.0, 0.0, 0.3, 0.3, 0.5, 0.5, 0.5)).finish(
        tmp_path
    )
    (run,) = gather(tmp_path / "demo").counted
    assert run.sparsity == ((0, 0.0), (20, 0.3), (40, 0.5), (60, 0.5))
    assert [sparsity.share_at(run.sparsity, s) for s in (0, 19, 20, 30, 60)] == (
        [0.0, 0.0, 0.3, 0.3, 0.5]
    )


def test_sparsity_over_training(tmp_path):
    Cell("00-base", 1, (5, 3)).finish(tmp_path)
    Cell("01-pruned", 1, (5, 3), rows=train(0.0, 0.2, 0.5)).finish(tmp_path)
    Cell("01-pruned", 2, (5, 3), rows=train(0.0, 0.4, 0.5)).finish(tmp_path)
    paths = write(tmp_path / "demo")
    assert "(sparsity.png)" in paths.markdown.read_text()
    rows = paths.report.rows
    assert sparsity.pruned(rows) == [1]
    (axes,) = sparsity.figure(rows, [1]).axes
    low, high, middle = axes.lines
    assert list(middle.get_ydata()) == pytest.approx([0.0, 0.3, 0.5])
    assert list(low.get_ydata()) == [0.0, 0.2, 0.5]
    assert list(high.get_ydata()) == [0.0, 0.4, 0.5]
    assert {line.get_drawstyle() for line in axes.lines} == {"steps-post"}


def test_without_pruning_there_is_no_section(tmp_path):
    Cell("00-base", 1, (5, 3)).finish(tmp_path)
    assert "## Sparsity" not in write(tmp_path / "demo").markdown.read_text()
