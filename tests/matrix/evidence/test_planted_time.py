"""Planted studies: runs that shared a device, and runs that only look like it."""

import json
from pathlib import Path

import pytest

from matrix.report.plots import common
from matrix.report.write import render_terminal, write
from matrix.results.metrics import METRICS
from matrix.results.selection import Selection, Terms
from tests.matrix.evidence.test_weigh import SEEDS, evidence, noise
from tests.matrix.synthetic import START, Cell

SPEED = Terms(METRICS["tokens_per_s"], smallest=None)
HOUR = 3600.0
CPU = {"device": {"kind": "cpu", "name": "cpu"}}
GPU = {"device": {"kind": "cuda", "name": "H200"}}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def study(output: Path, start, where, budget="tokens", **symbols) -> Path:
    """A control and an arm that is better and faster, an hour each: `start(step, seed)`
    says when, in hours, and `where(step, seed)` on what.
    """
    for number, step in enumerate(("00-base", "01-arm")):
        own = noise(len(SEEDS), number + 3)
        for seed, x in zip(SEEDS, own):
            began = START + HOUR * start(number, seed)
            device = where(number, seed)
            path = Cell(
                step,
                seed,
                (5.5, 3.4, 3.3 - 0.01 * number + x),
                values={"INIT_SALT": "", **symbols},
                operational=tuple(symbols),
                facts={"budget": budget},
                summary={
                    "tokens_per_s": 8000.0 + 500 * number + 1e4 * x,
                    "stopped_by": budget,
                    "device": {**device["device"], "driver": None},
                },
            ).finish(output)
            ends = ({"event": "start", "time": began, **device},)
            ends += ({"event": "end", "time": began + HOUR, "status": "done"},)
            rows = [{"attempt": 1, "step": 100, "error": None, **end} for end in ends]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (path / "attempts.jsonl").write_text(text)
    return output / "demo"


def in_turn(number: int, seed: int) -> float:
    return 2 * seed + number


def at_once(number: int, seed: int) -> float:
    return 2 * seed + 0.1 * number


def on_the_cpu(number: int, seed: int) -> dict:
    return {**CPU, "host": "one"}


def on_one_gpu(number: int, seed: int) -> dict:
    return {**GPU, "host": "one", "gpus": ["0000:c1:00.0"]}


def word(output: Path, terms: Terms = Terms()) -> str:
    (verdict,) = evidence(output, terms).verdicts
    return verdict.outcome


@pytest.mark.parametrize("where", [on_the_cpu, on_one_gpu])
def test_speeds_of_two_runs_at_once(tmp_path, where):
    """JOBS=2 on a CPU, or two makes on a GPU, whatever RUNS_PER_GPU says."""
    study(tmp_path, at_once, where, RUNS_PER_GPU=1)
    (verdict,) = evidence(tmp_path, SPEED).verdicts
    assert verdict.outcome == "NON_DIAGNOSTIC"
    assert verdict.reasons == (
        "12 runs shared a device with another run at the same time (00-base seed 1 "
        "beside 01-arm seed 1): speeds, times and energy are no evidence",
    )
    assert word(tmp_path) == "SUPPORTED", "a loss at equal tokens is none"


@pytest.mark.parametrize("where", [on_the_cpu, on_one_gpu])
def test_speeds_of_runs_in_turn(tmp_path, where):
    study(tmp_path, in_turn, where)
    assert word(tmp_path, SPEED) == "SUPPORTED"


@pytest.mark.parametrize(
    "where",
    [
        lambda n, k: {**GPU, "host": "one", "gpus": [f"0000:c{n}:00.0"]},
        lambda n, k: {**GPU, "host": f"h{n}", "gpus": ["0000:c1:00.0"]},
        lambda n, k: {**CPU, "host": f"h{n}"},
        lambda n, k: {**GPU, "host": "one"},
        lambda n, k: CPU,
    ],
    ids=["two GPUs", "two hosts", "two CPUs", "no address", "no host"],
)
def test_devices_that_are_not_known_to_be_one(tmp_path, where):
    study(tmp_path, at_once, where)
    assert word(tmp_path, SPEED) == "SUPPORTED"


@pytest.mark.parametrize(
    "processes, outcome", [(1, "SUPPORTED"), (2, "NON_DIAGNOSTIC")]
)
def test_a_process_of_somebody_else_on_the_gpu(tmp_path, processes, outcome):
    """As the driver counted them while one of the runs trained."""
    path = study(tmp_path, in_turn, on_one_gpu)
    run = next(path.glob("01-arm/seed-2/*"))
    counts = (1, processes, 1)
    rows = [
        {"attempt": 1, "time": START + k, "step": k, "gpu/0/processes": float(n)}
        for k, n in enumerate(counts)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "gpu.jsonl").write_text(text)
    assert word(tmp_path, SPEED) == outcome
    if processes > 1:
        (verdict,) = evidence(tmp_path, SPEED).verdicts
        (why,) = verdict.reasons
        assert why.startswith("1 run had another process on the GPU (01-arm seed 2)")


def test_a_neighbour_that_was_killed_had_trained_until_its_last_evaluation(tmp_path):
    study(tmp_path, in_turn, on_one_gpu)
    killed = Cell("09-trial", 1, (5.5, 3.4, 3.3), values={"GPT2_MAX_ITERS": 9})
    run = killed.finish(tmp_path)
    (run / "summary.json").unlink()
    device = on_one_gpu(0, 1)
    start = {"event": "start", "attempt": 1, "time": START + 2 * HOUR, "step": 0}
    (run / "attempts.jsonl").write_text(json.dumps({**start, **device}) + "\n")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    for seconds, outcome in ((0.0, "SUPPORTED"), (3000.0, "NON_DIAGNOSTIC")):
        for row in rows:
            row["time"] = seconds * (row["kind"] == "eval" and row["step"] > 0)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run / "metrics.jsonl").write_text(text)
        found = evidence(tmp_path, SPEED).of("01-arm")
        assert found.outcome == outcome
    assert "beside 09-trial" in found.reasons[0]


def test_a_launcher_said_where_older_runs_were(tmp_path):
    placed = {**GPU, "host": "one", "placement": {"buses": ["0000:c1:00.0"]}}
    study(tmp_path, at_once, lambda number, seed: placed)
    assert word(tmp_path, SPEED) == "NON_DIAGNOSTIC"


@pytest.mark.parametrize("symbol", [{"RUNS_PER_GPU": 2}, {"SHARE_BUSY_GPUS": True}])
def test_a_loss_under_a_time_budget_is_a_speed(tmp_path, symbol):
    """Both symbols let in neighbours that this study's records do not hold."""
    study(tmp_path / "shared", in_turn, on_one_gpu, "time", **symbol)
    assert word(tmp_path / "shared") == "NON_DIAGNOSTIC"
    study(tmp_path / "tokens", in_turn, on_one_gpu, "tokens", **symbol)
    assert word(tmp_path / "tokens") == "SUPPORTED"


def test_a_time_budget_with_runs_at_once(tmp_path):
    study(tmp_path / "at-once", at_once, on_one_gpu, "time")
    assert word(tmp_path / "at-once") == "NON_DIAGNOSTIC"
    study(tmp_path / "in-turn", in_turn, on_one_gpu, "time")
    assert word(tmp_path / "in-turn") == "SUPPORTED"


def test_a_run_that_is_left_out_was_a_neighbour(tmp_path):
    """A trial of another configuration, on the same GPU at the same time."""
    place = study(tmp_path, in_turn, on_one_gpu)
    trial = Cell("01-arm", 1, (5.5, 3.0), values={"MLP_DIM": 1}, finished=START - 1)
    path = trial.finish(tmp_path)
    start = {"event": "start", "attempt": 1, "time": START + 2.5 * HOUR}
    rows = [{**start, **on_one_gpu(0, 0)}, {**start, "event": "end", "step": 9}]
    rows[1] |= {"time": START + 2.6 * HOUR, "status": "failed", "error": "x"}
    (path / "attempts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (path / "summary.json").unlink()
    assert place == tmp_path / "demo"
    assert word(tmp_path, SPEED) == "NON_DIAGNOSTIC"


def test_what_is_printed_of_runs_that_shared(tmp_path):
    """No speed, no time, no energy, no comparison at equal time; memory stays."""
    paths = write(study(tmp_path, at_once, on_the_cpu))
    text = paths.markdown.read_text()
    assert "Speeds, times and energy are not printed" in text
    assert "## Equal training time" not in text and "8,0" not in text
    table = text.split("## Time and memory")[1]
    cells = next(x for x in table.splitlines() if x.startswith("| `01-arm`"))
    assert [cell.strip() for cell in cells.split("|")][2:3] == ["1.50 GiB"]
    assert "Tokens/s |" not in table and "Wall" not in table
    told = render_terminal(paths.report)
    assert next(x for x in told.splitlines() if x.startswith("01-arm")).endswith("–")
    assert "warning: 12 runs shared a device" in told
    assert "8000" in paths.csv.read_text(), "the file holds what was measured"


def test_what_is_printed_of_runs_in_turn(tmp_path):
    paths = write(study(tmp_path, in_turn, on_the_cpu), Selection())
    text = paths.markdown.read_text()
    assert "are not printed" not in text and "## Equal training time" in text
    assert "8,500" in text and "8,500" in render_terminal(paths.report)
