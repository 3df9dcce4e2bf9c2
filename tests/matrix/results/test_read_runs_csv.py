"""A report from runs.csv: what the file carries, and what it says it cannot."""

import csv
import io
import math
from pathlib import Path

import pytest

from matrix.evidence.gather import gather
from matrix.evidence.gather_file import gather_file
from matrix.report.plots import common
from matrix.report.write import write, write_received
from matrix.results import inert_csv
from matrix.results.read_runs_csv import TIMED, read
from matrix.results.recorded import IN_CSV, PATHS
from matrix.results.run import ReportError
from tests.matrix.synthetic import START, Cell

SEEDS = (1, 2, 3, 4, 5, 6)
UNCHECKED = " (configurations not checked)"


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def planted(root: Path, **wide) -> Path:
    """Six seeds of a control and of an arm that is 0.01 better, and what is not counted."""
    for seed in SEEDS:
        loss, finished = 3.3 + seed / 700, START + 100 * seed
        control = Cell("00-base", seed, (5.5, loss), control=True, finished=finished)
        control.finish(root)
        less = loss - 0.01 - 1e-4 * seed**0.5
        more = {"changes": ("MLP_DIM",), "values": {"MLP_DIM": 96}, **wide}
        Cell("02-wide", seed, (5.5, less), finished=finished, **more).finish(root)
    Cell("02-wide", 1, (5.5, 3.8), salt="old", finished=START).finish(root)
    Cell("=cmd;-1+1", 2, (5.5,)).fail(root, "=out, of\n'memory")
    return root / "demo"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(common, "png_bytes", lambda figure: b"")
        patched.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
        return write(planted(tmp_path_factory.mktemp("study"))).csv.parent


@pytest.fixture
def file(study, tmp_path):
    (tmp_path / "runs.csv").write_bytes((study / "runs.csv").read_bytes())
    return tmp_path / "runs.csv"


def test_the_numbers_of_the_file(study, file):
    there, here = gather(study), gather_file(file)
    for row, other in zip(there.rows, here.rows):
        for kept in ("step", "losses", "differences", "bits"):
            assert vars(other)[kept] == vars(row)[kept], kept
        assert set(other.runs) == set(row.runs)
    one, other = there.evidence.of("02-wide"), here.evidence.of("02-wide")
    assert other.measured == one.measured and other.r == one.r
    assert one.label == "SUPPORTED better" and other.label == one.label + UNCHECKED
    assert here.evidence.family == there.evidence.family == ("02-wide", "=cmd;-1+1")


def test_every_column_comes_back_as_it_was(study, file):
    there, here = gather(study).study, read(file).study
    assert [r.run_dir for r in here.runs] == [r.run_dir for r in there.runs]
    assert [r.run_dir for r in here.left_out] == [r.run_dir for r in there.left_out]
    for one, other in zip(there.runs, here.runs):
        for name in IN_CSV:
            wanted = None if name in TIMED else one.value(name)
            assert repr(other.value(name)) == repr(wanted), name
        assert (other.state, other.why) == (one.state, one.why)
    assert "unknown" not in str(here.runs[0].documents)


def test_what_cannot_be_said_is_said(file, tmp_path):
    before = file.read_bytes(), sorted(file.parent.glob("*.*"))
    paths = write_received(file, tmp_path / "out" / "page")
    text = paths.markdown.read_text()
    for words in (
        "no learning curves",
        "could not be checked",
        "Speeds, times and energy are not reported",
        "neither preregistration nor promotion",
        "no column for documents apart",
    ):
        assert words in text, words
    assert "SUPPORTED better" + UNCHECKED in text
    assert "Not preregistered" in text
    for words in ("learning-curves", "## Time and memory", "Step time", "1970"):
        assert words not in text, words
    assert (paths.csv, paths.jsonl) == (None, None)
    made = {p.name for p in (tmp_path / "out" / "page").iterdir()}
    assert not {"runs.csv", "runs.jsonl", "learning-curves.png"} & made
    assert before == (file.read_bytes(), sorted(file.parent.glob("*.*")))


@pytest.mark.parametrize(
    "more, why",
    [
        (dict(summary={"torch": "2.0.0"}), "different torch: 2.0.0 in 02-wide"),
        (dict(identity={"dataset": "b" * 64}), "different dataset: bbbbbbbbbbbb"),
        (dict(identity={"code": "b" * 64}), "different code hash: bbbbbbbbbbbb"),
        (dict(facts={"effective_batch": 8}), "different effective batch: 8 in"),
        (dict(summary={"stopped_by": "time"}), "different end of training: time"),
    ],
)
def test_the_ledger_of_the_columns(tmp_path, more, why):
    report = gather_file(write(planted(tmp_path, **more)).csv)
    verdict = report.evidence.of("02-wide")
    assert verdict.outcome == verdict.label == "NON_DIAGNOSTIC"
    assert why in verdict.reasons[0]


def test_no_step_is_taken_for_the_control_again(tmp_path):
    """Its name is no evidence, and the file has no configuration."""
    salted = {"changes": ("INIT_SALT",), "values": {"INIT_SALT": "b"}}
    made = write(planted(tmp_path, **salted))
    assert made.report.evidence.aa == ("02-wide",)
    assert gather_file(made.csv).evidence.aa == ()


def test_a_metric_of_several_evaluations_is_named(file):
    rows = table(file)
    rows[1]["loss"] = "3.25"
    [told] = [line for line in lacking(written(file, rows)) if "final_loss" in line]
    assert "this report by the last one" in told


def test_columns_that_nobody_knows_are_named(file):
    rows = [{**row, "luck": "7"} for row in table(file)]
    assert "Columns that are not read: luck." in lacking(written(file, rows))


def label(file) -> str:
    """The verdict on 02-wide."""
    return gather_file(file).evidence.of("02-wide").label


def test_a_confirmation_is_not_judged_without_its_design(file):
    """It may be the first of several looks."""
    assert label(written(file, [{**r, "stage": "one"} for r in table(file)]))[:9] == (
        "SUPPORTED"
    )
    rows = [{**row, "stage": "confirm"} for row in table(file)]
    assert label(written(file, rows)) == "NON_DIAGNOSTIC"


def test_a_trial_is_no_seed_left_out_where_it_cannot_be_told(tmp_path):
    values = {"MLP_DIM": 96, "GPT2_MAX_ITERS": 9}
    place = planted(tmp_path)
    Cell("02-wide", 9, (5.5, 3.9), values=values).finish(tmp_path)
    rows = table(write(place).csv)
    rows = [
        row | {"counted": "left out"} if row["seed"] == "9" else row for row in rows
    ]
    made = written(tmp_path / "runs.csv", rows)
    assert label(made).startswith("SUPPORTED better")


@pytest.mark.parametrize("place", ["/seed-1/{}", "a/b/seed-1/{}"])
def test_a_path_of_the_file_is_opened_nowhere(file, place):
    rows = table(file)
    at = next(k for k, row in enumerate(rows) if row["counted"] == "yes")
    there = place.format(rows[at]["hash"])
    rows[at] |= {"reused": "yes", "run_dir": there}
    assert label(written(file, rows)).startswith("SUPPORTED better")


def lacking(file):
    return read(file).study.received.lacking


def table(file):
    return list(csv.DictReader(io.StringIO(file.read_text())))


def written(file, rows):
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    file.write_text(inert_csv.text(cells))
    return file


REFUSED = [
    ({"seed": "1.0"}, "line 3: seed is '1.0', expected a whole number"),
    ({"seed": "7"}, "line 3: run_dir is .*, expected 00-base/seed-7/"),
    ({"hash": "x"}, "line 3: hash is 'x', expected 8 hexadecimal digits"),
    ({"run_dir": "../../etc"}, "line 3: run_dir is '../../etc'"),
    ({"counted": "maybe"}, "counted is 'maybe', expected yes or no or left out"),
    ({"reused": ""}, "reused is '', expected yes or no"),
    ({"state": "failed"}, "line 3: counts, and its state is 'failed'"),
    ({"loss": ""}, "line 3: counts, and its loss is ''"),
    ({"loss": "nan"}, "line 3: counts, and its loss is 'nan'"),
    ({"loss": "0x1"}, "line 3: counts, and its loss is '0x1'"),
    ({"final_loss": "nan"}, "line 3: is done and its loss is not finite"),
    ({"final_loss": ""}, "line 3: is done and holds no final_loss"),
    ({"final_loss": "3,1"}, "line 3: final_loss is '3,1', which its record cannot"),
    ({"tokens": "many"}, "line 3: tokens is 'many', which its record cannot hold"),
    ({"steps": "9" * 30}, "line 3: steps is '9+', which its record cannot hold"),
    ({"compile": "yes"}, "line 3: compile is 'yes', which its record cannot hold"),
    ({"dataset_sha256": "abc"}, "line 3: dataset_sha256 is 'abc'"),
    ({"stage": "two"}, "line 3: stage is 'two', which its record cannot hold"),
    ({"study": "../up"}, "line 3: is '../up', expected a study's name"),
    ({"study": "other"}, "line 3 is of the study 'other', the first of 'demo'"),
    ({"step": ""}, "line 3: is '', expected a name"),
    ({"error": "a\x00"}, ""),
]


IDS = [f"{next(iter(cells))}-{n}" for n, (cells, _) in enumerate(REFUSED)]


@pytest.mark.parametrize("cells, why", REFUSED, ids=IDS)
def test_what_is_malformed(file, cells, why):
    rows = table(file)
    rows[1] |= cells
    written(file, rows)
    if not why:
        gather_file(file)
        return
    with pytest.raises(ReportError, match=why) as refused:
        gather_file(file)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    "column", ["step", "counted", "final_loss", "tokens", "dataset_sha256", "control"]
)
def test_a_column_that_is_missing(file, column):
    rows = [{k: v for k, v in row.items() if k != column} for row in table(file)]
    with pytest.raises(ReportError, match=f"line 1: lacks the columns {column}"):
        gather_file(written(file, rows))


def test_one_cell_counted_twice(file):
    rows = table(file)
    with pytest.raises(ReportError, match="line 5 repeats line 4: 00-base/seed-3/"):
        gather_file(written(file, [*rows[:3], rows[2], *rows[3:]]))
    other = {"hash": "0" * 8, "run_dir": f"00-base/seed-3/{'0' * 8}"}
    again = [*rows[:3], {**rows[2], **other}, *rows[3:]]
    with pytest.raises(ReportError, match="line 5 counts 00-base seed 3 again"):
        gather_file(written(file, again))


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda text: "", "line 0: lacks the columns|line 1: lacks"),
        (lambda text: text.splitlines()[0] + "\n", "holds no run"),
        (
            lambda text: text.replace("00-base,1,", "00-base,1,1,", 1),
            r"has (\d+) cells for \d+ columns",
        ),
        (lambda text: text + '"' + "x" * 200_000, "is no CSV: field larger"),
        (lambda text: text + '"open', "is no CSV"),
        (
            lambda text: text.replace("seed,", "step,", 1),
            "line 1: names a column twice",
        ),
        (lambda text: text + "\udcff", "line 16: is not UTF-8"),
        (lambda text: ",".join("abc" * 200), "has 599 columns|has 600 columns"),
    ],
)
def test_what_is_no_table(file, change, why):
    text = change(file.read_text())
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ReportError, match=why) as refused:
        gather_file(file)
    assert "\n" not in str(refused.value)


def test_too_much(file, monkeypatch):
    for name, most, why in (
        ("read_runs_csv.MOST_RUNS", 5, "holds more than 5 runs"),
        ("received.MOST_BYTES", 1 << 10, "is longer than"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"matrix.results.{name}", most)
            with pytest.raises(ReportError, match=why):
                gather_file(file)


@pytest.mark.parametrize(
    "value",
    ["=1+1", "a;=b", "\t=x", "\n-y+1", "a\t@b\n+c", "plain", "-5", "'quoted'", "", "'"]
    + [" =x", "＝x", "a; -0.5"],
)
def test_the_inverse_of_an_inert_cell(value):
    assert inert_csv.original(inert_csv.inert(value)) == value


@pytest.mark.parametrize("value", ["'=x", "''=x", "'\t", "a;'=b"])
def test_text_that_looks_inert_already(value):
    """Two texts share the cell; what comes back makes the same cell again."""
    told = inert_csv.inert(value)
    assert inert_csv.inert(inert_csv.original(told)) == told


def test_no_wild_number_of_a_run_that_does_not_count(tmp_path):
    root = planted(tmp_path)
    Cell("03-lost", 3, (5.5, math.nan)).finish(tmp_path)
    runs = read(write(root).csv).study.runs
    [run] = [run for run in runs if run.step == "03-lost"]
    assert run.state == "diverged" and math.isnan(run.value("final_loss"))


def test_all_columns_have_a_type(file):
    """A name in IN_CSV whose cell no type fits would refuse every report's own file."""
    assert set(TIMED) < set(IN_CSV) < set(PATHS)
    [run] = [r for r in read(file).study.runs if (r.step, r.seed) == ("00-base", 1)]
    assert type(run.value("tokens")) is int and type(run.value("compile")) is bool
    assert (
        type(run.value("torch")) is str and type(run.value("attn_mlp_ratio")) is float
    )
