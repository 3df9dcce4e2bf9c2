"""The report's numbers, recomputed here, and which runs they stand on."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from matrix.report.plots import common
from matrix.report.write import ReportError, gather, render_terminal, write
from matrix.results.selection import Selection, Terms
from records.jsonl import open_append, read_rows
from records.manifest import Manifest, Split, streams_sha256, write_manifest
from tests.matrix.synthetic import START, Cell

ROOT = Path(__file__).resolve().parents[3]

LOSSES = {
    ("00-base", 1): (5.5, 3.9, 3.5, 3.3000),
    ("00-base", 2): (5.5, 3.9, 3.6, 3.3020),
    ("00-base", 3): (5.5, 3.9, 3.7, 3.2970),
    ("01-ra", 1): (5.5, 3.8, 3.4, 3.2950),
    ("01-ra", 2): (5.5, 3.8, 3.5, 3.2990),
    ("01-ra", 3): (5.5, 3.8, 3.6, 3.2880),
}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Numbers only; the plots are drawn in test_report_files.py."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


@pytest.fixture
def study(tmp_path):
    """results/demo with two steps and three seeds, all finished."""
    for (step, seed), losses in LOSSES.items():
        Cell(step, seed, losses).finish(tmp_path)
    return tmp_path / "demo"


@pytest.fixture
def attention_rows():
    """add(study): what CONFIG_LOG_ATTENTION_STATS leaves beside every evaluation."""

    def add(study):
        for path in study.glob("*/*/*/metrics.jsonl"):
            steps = [r["step"] for r in read_rows(path) if r["kind"] == "eval"]
            with open_append(path) as metrics:
                for step in steps:
                    row = {"kind": "attention", "attempt": 1, "step": step}
                    metrics.append({**row, "entropy": [[0.5, None]], "loss": 99.0})

    return add


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def markdown_row(text: str, section: str, step: str) -> list[str]:
    """The cells of a step's line in the table of a section."""
    block = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    line = next(x for x in block.splitlines() if x.startswith(f"| `{step}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_of_other_kinds_change_no_number(study, attention_rows):
    """Attention statistics have a section of their own, whatever else they hold."""

    def report():
        paths = write(study)
        text = paths.markdown.read_text()
        numbers = re.sub(
            r"## Attention over training\n.*?(?=\n## )\n", "", text, flags=re.S
        )
        return [numbers, paths.csv.read_text()]

    before = write(study)
    plain = [before.markdown.read_text(), before.csv.read_text()]
    attention_rows(study)
    assert "## Attention over training" not in plain[0]
    assert report() == plain


def test_means_spreads_and_paired_differences(study):
    paths = write(study)
    base = np.array([LOSSES["00-base", k][-1] for k in (1, 2, 3)])
    arm = np.array([LOSSES["01-ra", k][-1] for k in (1, 2, 3)])
    cells = markdown_row(paths.markdown.read_text(), "Validation loss", "01-ra")
    assert cells[1:] == [
        "3",
        f"{arm.mean():.4f}",
        f"{arm.std(ddof=1):.5f}",
        f"{arm.mean() / np.log(2):.4f}",
        f"{(arm - base).mean():+.5f}",
        f"{(arm - base).std(ddof=1):.5f}",
        "3",
        "[R2](#r2)",
    ]
    control = markdown_row(paths.markdown.read_text(), "Validation loss", "00-base")
    assert control[2] == f"{base.mean():.4f}"
    assert control[5:] == ["control", "–", "–", "[R1](#r1)"]
    assert "UNRESOLVED" in paths.markdown.read_text()


def test_the_mean_of_the_last_evaluations(study):
    row = gather(study, last(2)).rows[1]
    expected = [np.mean(LOSSES["01-ra", k][-2:]) for k in (1, 2, 3)]
    assert list(row.losses.values()) == pytest.approx(expected, abs=1e-12)


def test_step_0_is_no_evaluation_of_a_trained_model(study):
    with pytest.raises(ReportError, match=r"3 evaluations after step 0.*=4: lower"):
        gather(study, last(4))


def test_cost_columns(study):
    text = write(study).markdown.read_text()
    cells = markdown_row(text, "Size", "01-ra")
    assert cells[1:6] == ["124.48M", "85.06M", "860.10M", "1,536", "18,432"]
    cells = markdown_row(text, "Time and memory", "01-ra")
    assert cells[1:5] == ["8,192", "50s", "1m 12s", "1.50 GiB"]


def test_cache_that_does_not_grow_stands_apart(tmp_path):
    Cell("05-ra", 1, (5.0, 3.0), facts={"cache_constant_layer": 100}).finish(tmp_path)
    text = write(tmp_path / "demo").markdown.read_text()
    cells = markdown_row(text, "Size", "05-ra")
    assert cells[4:6] == ["1,536 + 100", "18,432 + 1,200"]


def test_caches_at_three_lengths_where_steps_differ(tmp_path):
    """A state that does not grow, in fp32, beside a cache that does."""
    recurrent = {
        "cache_per_token_layer": 0,
        "cache_constant_layer": 49152,
        "cache_per_token": 0,
        "cache_constant": 589824,
        "cache_fp32": 589824,
    }
    Cell("00-base", 1, (5.0, 3.0), facts={"dtype": "bf16"}).finish(tmp_path)
    text = write(tmp_path / "demo").markdown.read_text()
    assert "64k tokens" not in text
    facts = recurrent | {"dtype": "bf16"}
    Cell("02-retnet", 1, (5.0, 3.1), facts=facts).finish(tmp_path)
    text = write(tmp_path / "demo").markdown.read_text()
    block = text.split("| 64k tokens |")[1].split("\n## ")[0]
    rows = [line.split("|")[2:5] for line in block.splitlines() if "| `0" in line]
    sizes = [[cell.strip() for cell in row] for row in rows]
    assert sizes == [["36.0 MiB", "576.0 MiB", "2.25 GiB"], ["2.2 MiB"] * 3]


def test_missing_seeds_leave_the_pairs_that_remain(tmp_path):
    Cell("01-ra", 4, (5.5, 3.0)).finish(tmp_path)
    for (step, seed), losses in LOSSES.items():
        if (step, seed) != ("01-ra", 2):
            Cell(step, seed, losses).finish(tmp_path)
    paths = write(tmp_path / "demo")
    row = paths.report.rows[1]
    assert sorted(row.differences) == [1, 3]
    pairs = [LOSSES["01-ra", k][-1] - LOSSES["00-base", k][-1] for k in (1, 3)]
    assert row.difference == pytest.approx(np.mean(pairs), abs=1e-12)
    cells = markdown_row(paths.markdown.read_text(), "Validation loss", "01-ra")
    assert (cells[1], cells[7]) == ("3 of 4", "2")
    shown = render_terminal(paths.report)
    assert "missing: 01-ra seed 2: never ran" in shown
    assert "missing: 00-base seed 4: never ran" in shown


def test_one_seed_has_no_spread(tmp_path):
    for step, loss in [("00-base", 3.3), ("01-ra", 3.2)]:
        Cell(step, 4, (5.5, loss)).finish(tmp_path)
    row = gather(tmp_path / "demo").rows[1]
    assert (row.sd, row.difference_sd) == (None, None)
    assert row.difference == pytest.approx(-0.1)


def test_unfinished_cells_are_named_with_their_cause(study, tmp_path):
    Cell("02-mla", 1, (5.5,)).fail(tmp_path, "CUDA out of memory:\n 2 GiB | <b>&")
    started = Cell("02-mla", 2, (5.5,)).start(tmp_path)
    broken = Cell("02-mla", 3, (5.5, 3.0)).finish(tmp_path)
    (broken / "summary.json").write_text("{")
    Cell("03-nan", 1, (5.5, float("nan"))).finish(tmp_path)
    paths = write(study)
    found = {(cell.step, cell.seed): cell for cell in paths.report.study.open}
    assert found["02-mla", 1].state == "failed"
    assert found["02-mla", 1].why == "CUDA out of memory: 2 GiB | <b>&"
    assert found["02-mla", 2].state == "interrupted"
    assert found["02-mla", 2].run_dir == started.path.relative_to(study).as_posix()
    assert found["02-mla", 3].state == "damaged"
    assert "summary.json" in found["02-mla", 3].why
    assert found["03-nan", 1].state == "diverged"
    text = paths.markdown.read_text()
    assert r"CUDA out of memory: 2 GiB \| \<b\>\&" in text
    assert markdown_row(text, "Validation loss", "02-mla")[1:3] == ["0 of 3", "–"]
    assert re.search(r"`03-nan` +\| +2-3 \| missing", text)


def test_the_newest_finished_hash_counts_and_older_ones_are_noted(study, tmp_path):
    Cell("01-ra", 1, (5.5, 3.4, 2.0), salt="old", finished=START - 1e4).finish(tmp_path)
    new = Cell("01-ra", 2, (5.5, 3.4, 3.1), salt="new", finished=START + 1e4)
    new.finish(tmp_path)
    paths = write(study)
    losses = paths.report.rows[1].losses
    assert (losses[1], losses[2]) == (LOSSES["01-ra", 1][-1], 3.1)
    assert paths.report.notes[0].startswith("2 runs left out: older")
    told = {row["run_dir"]: row["counted"] for row in rows_of(paths.csv)}
    assert told[new.path(tmp_path).relative_to(study).as_posix()] == "yes"
    assert sorted(told.values()) == ["left out"] * 2 + ["yes"] * 6


def last(evals: int) -> Selection:
    """Every run, by the mean of its last evaluations."""
    return Selection(terms=Terms(last_evals=evals))


def test_only_planned_hashes_count(study, tmp_path):
    new = Cell("01-ra", 2, (5.5, 3.4, 3.1), salt="new", finished=START + 1e4)
    new.finish(tmp_path)
    planned = {Cell(*key, ()).hash for key in LOSSES} - {Cell("01-ra", 3, ()).hash}
    report = gather(study, Selection(hashes=planned))
    assert report.rows[1].losses == {k: LOSSES["01-ra", k][-1] for k in (1, 2)}
    assert [cell.why for cell in report.study.open] == [
        "never ran as planned now; 1 other run left out"
    ]
    assert "2 runs left out" in report.notes[0]
    assert "not in the current plan" in report.notes[0]


def test_an_unfinished_run_newer_than_the_counted_one_is_named(study, tmp_path):
    later = Cell("01-ra", 1, (5.5,), salt="later", finished=START + 1e4)
    later.fail(tmp_path, "boom")
    report = gather(study)
    assert report.rows[1].losses[1] == LOSSES["01-ra", 1][-1]
    (cell,) = report.study.open
    first = Cell("01-ra", 1, ()).hash[:8]
    assert cell.why == f"boom; {first}, finished before it, counts"


def test_the_last_attempt_wins(tmp_path):
    cell = Cell("00-base", 1, (5.5, 3.5, 3.3), repeated=(5.6, 9.9, 8.8))
    run = cell.finish(tmp_path)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert sum('"kind": "eval"' in line for line in lines) == 6
    report = gather(tmp_path / "demo", last(2))
    assert report.rows[0].losses == {1: pytest.approx(3.4)}
    assert report.warnings == ()


def test_a_summary_that_contradicts_the_metrics_is_a_warning(tmp_path):
    told = {"loss": 3.0, "perplexity": 20.0, "bits_per_byte": 4.3, "step": 100}
    Cell("00-base", 1, (5.5, 3.5), summary={"final_eval": told}).finish(tmp_path)
    (warning,) = gather(tmp_path / "demo").warnings
    assert "summary.json ends at step 100 with validation loss 3.0" in warning


@pytest.mark.parametrize(
    "change, line",
    [
        ({"facts": {"dtype": "bf16"}}, "dtype: bf16 in 01-ra (seed 2); fp32 elsewhere"),
        ({"facts": {"max_iters": 50}}, "max_iters: 50 in 01-ra (seed 2); 100"),
        ({"facts": {"tokens_per_step": 8}}, "tokens per step: 8 in"),
        ({"identity": {"code": "ab" * 32}}, "code hash: abababababab in"),
        ({"identity": {"dataset": "cd" * 32}}, "dataset: cdcdcdcdcdcd in"),
        ({"values": {"GPT2_EVAL_WINDOWS": 9}}, "evaluation windows: 9 in"),
        ({"summary": {"torch": "2.11.0"}}, "torch: 2.11.0 in"),
        ({"summary": {"stopped_by": "time"}}, "end of training: time in"),
        ({"summary": {"device": {"name": "H200"}}}, "device: H200 in"),
    ],
)
def test_arms_that_must_match_and_do_not(tmp_path, change, line):
    for step, seed in LOSSES:
        mine = change if (step, seed) == ("01-ra", 2) else {}
        Cell(step, seed, (5.5, 3.5), **mine).finish(tmp_path)
    report = gather(tmp_path / "demo")
    assert any(text.startswith(f"different {line}") for text in report.warnings)


def test_time_budgets_may_differ_in_tokens(study, tmp_path):
    assert gather(study).warnings == ()
    cells = [Cell("00-base", 1, (5, 3)), Cell("01-ra", 1, (5, 3))]
    for number, cell in enumerate(cells):
        cell.facts = {"budget": "time"}
        cell.summary = {"tokens": 1000 + number, "stopped_by": "time"}
        cell.finish(tmp_path, "timed")
    assert gather(tmp_path / "timed").warnings == ()


def test_order_names_the_control(study):
    report = gather(study, Selection(("01-ra",)))
    assert [row.step for row in report.rows] == ["01-ra", "00-base"]
    assert report.rows[0].differences == {}
    assert report.rows[1].difference > 0


def test_a_recorded_control_comes_first(tmp_path):
    for step in ("adamw-lr1e-3", "adamw-lr6e-4", "sgd"):
        first = step == "adamw-lr6e-4"
        Cell(step, 1, (5.5, 3.3), control=first).finish(tmp_path)
    steps = [row.step for row in gather(tmp_path / "demo").rows]
    assert steps == ["adamw-lr6e-4", "adamw-lr1e-3", "sgd"]


def test_a_control_without_runs_is_a_warning(study):
    report = gather(study, Selection(("none",), (1, 2, 3)))
    assert report.warnings == ("the control none has no finished run",)
    assert report.rows[1].difference is None


def test_steps_sort_by_number(tmp_path):
    for step in ("10-x", "2-y", "LEARNING_RATE=3e-4", "LEARNING_RATE=10e-4"):
        Cell(step, 1, (5.5, 3.3)).finish(tmp_path)
    steps = gather(tmp_path / "demo").study.steps
    assert steps == ("2-y", "10-x", "LEARNING_RATE=3e-4", "LEARNING_RATE=10e-4")


def test_every_number_names_its_run_directories(study):
    paths = write(study)
    runs = paths.markdown.read_text().split("\n## Runs\n")[1]
    for row in rows_of(paths.csv):
        assert (study / row["run_dir"] / "summary.json").exists()
        assert f"`{row['run_dir']}`" in runs
        assert row["run_dir"] in paths.html.read_text()
        assert float(row["loss"]) == LOSSES[row["step"], int(row["seed"])][-1]
    for link in re.findall(r"\]\(#(\w+)\)", paths.markdown.read_text()):
        assert f'<a id="{link}"></a>' in runs


def test_the_head_says_where_the_runs_come_from(tmp_path):
    split = Split(("a.bin",), 10, 1, 10, "ef" * 32)
    splits = {"train": split, "val": split}
    sha256 = streams_sha256(splits)
    data = tmp_path / "stdlib-byte-89abcdef"
    data.mkdir()
    manifest = Manifest(
        "stdlib", "byte", 257, "uint16", splits, sha256, "0" * 64, 3.25, 2.5, 0.0
    )
    write_manifest(data, manifest)
    cell = Cell("00-base", 1, (5.5, 3.3), data_dir=str(data), finished=1_800_000_000.0)
    cell.identity = {"dataset": sha256}
    cell.finish(tmp_path)
    page = write(tmp_path / "demo").html.read_text()
    first, *_, folded = page.split("<h2>")
    for text in [
        "finished 2027-01-15 08:00 UTC",
        f"stdlib-byte-89abcdef (stdlib, byte tokens), sha256 {sha256[:12]}",
        "unigram entropy 3.2500 nats/token, bigram entropy 2.5000 nats/token",
        "feedfeedfeed",
        "c0dec0dec0de",
        "torch 2.13.0, Python 3.12.1",
        "A Processor",
    ]:
        assert text in folded and text not in first
    assert page.count("<details>") == 1 and "<details>" in page.split(folded)[0]


def test_nothing_finished_lists_the_states(tmp_path):
    Cell("00-base", 1, (5.5,)).fail(tmp_path, "boom")
    Cell("01-ra", 1, (5.5,)).start(tmp_path)
    with pytest.raises(ReportError) as error:
        gather(tmp_path / "demo")
    assert "00-base seed 1: failed: boom" in str(error.value)
    assert "01-ra seed 1: interrupted: begins anew: no checkpoint" in str(error.value)
    with pytest.raises(ReportError, match="no such study"):
        gather(tmp_path / "other")


def call(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the script as a person does."""
    script = str(ROOT / "scripts" / "make_report.py")
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True)


def test_the_script_reports_a_directory(study, tmp_path):
    done = call(tmp_path, "demo")
    assert done.returncode == 0 and "demo/report.html" in done.stdout
    assert (study / "report.html").exists()
    missing = call(tmp_path, "nothing")
    assert missing.returncode == 1
    told = "nothing: no such study; `make` runs the configured one"
    assert missing.stderr.splitlines()[-1] == told
