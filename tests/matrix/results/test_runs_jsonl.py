"""runs.jsonl: the same report from one file; what is malformed is refused in a line."""

import json
import math
import re
from dataclasses import fields, replace

import pytest

from matrix.evidence.gather import gather
from matrix.evidence.gather_file import gather_file
from matrix.evidence.preregistration import WHOLE
from matrix.plan.stage import PROMOTION
from matrix.report.plots import common
from matrix.report.write import write, write_received
from matrix.results import runs_jsonl
from matrix.results.metrics import METRICS
from matrix.results.read_runs_jsonl import read
from matrix.results.recorded import PATHS
from matrix.results.run import ReportError
from matrix.results.selection import Looks, Selection, Terms
from matrix.results.study import load
from records import evaluations, sealed_record
from records.jsonl import open_append, read_rows
from records.layout import CellDir
from records.unit_losses import UnitLosses
from tests.matrix.synthetic import START, Cell

SEEDS = (1, 2, 3, 4, 5, 6)
TERMS = Terms(METRICS["val_loss"], 2, 0.0007, 0.03)
KNOWN = dict(operational=("ALPHA", "OUTPUT_DIR", "RUNS_PER_GPU", "SEEDS"))
VALUES = {"ALPHA": "0.03", "OUTPUT_DIR": "/home/me", "SEEDS": "1-6", "RUNS_PER_GPU": 1}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def cell(step: str, seed: int, *losses: float, **more) -> Cell:
    values = {**VALUES, "SEED": seed, "MLP_DIM": 64, **more.pop("values", {})}
    finished = START + 100 * seed + more.pop("later", 0)
    known = {**KNOWN, "values": values, "finished": finished, **more}
    return Cell(step, seed, losses, **known)


@pytest.fixture
def study(tmp_path):
    """results/demo of `planted`."""
    return planted(tmp_path)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Its runs.jsonl."""
    root = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(common, "png_bytes", lambda figure: b"")
        patched.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
        return write(planted(root)).jsonl.read_text()


@pytest.fixture
def file(told, tmp_path):
    """It alone."""
    path = tmp_path / "runs.jsonl"
    path.write_text(told)
    return path


def planted(tmp_path):
    """Every kind of line: an A/A arm, an arm, failed, diverged, damaged, replaced by a
    newer one, reused, evaluated, and sealed records beside them.
    """
    for seed in SEEDS:
        tail = (3.5 + seed / 7, 3.3 + seed / 700)
        cell("00-base", seed, 5.5, *tail, control=True).finish(tmp_path)
        salted = dict(values={"INIT_SALT": "b"}, changes=("INIT_SALT",))
        aa = cell("01-a-a", seed, 5.5, *(x + 1e-3 / seed for x in tail), **salted)
        aa.finish(tmp_path)
        wide = dict(values={"MLP_DIM": 96}, changes=("MLP_DIM",))
        less = (x - 0.003 - 1e-4 * seed**0.5 for x in tail)
        cell("02-wide", seed, 5.5, *less, **wide).finish(tmp_path)
    cell("02-wide", 1, 5.5, 3.9, 3.8, salt="old", later=-5000, **wide).finish(tmp_path)
    cell("03-lost", 2, 5.5).fail(tmp_path, "out of\nmemory")
    cell("03-lost", 3, 5.5, math.nan, math.inf).finish(tmp_path)
    path = cell("03-lost", 4, 5.5, 3.0, 2.9).finish(tmp_path)
    (path / "run.json").write_text("{")
    made = tmp_path / "demo"
    arms = {"arms": ["02-wide", "09-gone"], "aa": ["01-a-a"], "seeds": [*SEEDS]}
    record = {"metric": "val_loss", "last_evals": 2, "smallest": 0.0007, "alpha": 0.03}
    record |= {"control": "00-base", "dataset": "e" * 64, "cells": {}, "time": START}
    sealed_record.write(made / WHOLE, {**record, **arms})
    (made / "notes.json").write_text('{"not": "sealed"}')
    judged = cell("02-wide", 1).hash[:8]
    former = tmp_path / ".replaced" / "demo" / "02-wide" / "seed-1" / f"{judged}-1"
    former.mkdir(parents=True)
    return made


def words(text: str) -> str:
    """A report without what is said of its source and of a dataset that is gone."""
    own = (
        r"Read from [^ ]+, not from run directories: what the file lacks stands at the "
        r"end\. |> \[!WARNING\]\n> \*\*What [^\n]+ lacks\*\*\n(>[^\n]*\n)+|"
        r"## Training loss, learning rate, gradient norm\n.*?(?=\n## )"
    )
    text = re.sub(own, "", text, flags=re.DOTALL)
    return re.sub(
        r"[ \n]+|-{2,}|\(entropies unknown: it is no longer there\)", "", text
    )


@pytest.mark.parametrize("terms", [Terms(), TERMS], ids=["directory", "planned"])
def test_the_same_report_from_the_file(study, tmp_path, terms):
    helps = {"00-base": "what the others are compared with"}
    selection = Selection(("00-base",), SEEDS, None, helps, (("a", "why"),), terms)
    one = write(study, selection)
    other = write_received(one.jsonl, tmp_path / "elsewhere")
    assert other.report.evidence == one.report.evidence
    assert len(one.report.evidence.verdicts) == 4
    for kept in ("warnings", "notes", "selection", "deviations"):
        assert vars(other.report)[kept] == vars(one.report)[kept], kept
    a, b = one.report.registration, other.report.registration
    assert replace(a, path=b.path) == b and len(b.deviations) >= 3
    assert any("/demo/02-wide/seed-1/" in line for line in b.deviations)
    assert words(one.markdown.read_text()) == words(other.markdown.read_text())


def test_every_value_of_every_run(study):
    paths = write(study)
    there, here = load(study), read(paths.jsonl).study
    assert len(here.runs) == len(there.runs) == 22
    assert [r.state for r in here.runs].count("done") == 19
    for one, other in zip(there.runs, here.runs):
        bare = {"documents": None, "attention": (), "evals": ()}
        assert replace(other, **bare) == replace(one, **bare)
        for name in set(PATHS) - {"data_dir"}:
            assert repr(other.value(name)) == repr(one.value(name)), name
        if one.state != "damaged":
            withheld = {"OUTPUT_DIR"}
            kept = {k: v for k, v in one.config.items() if k not in withheld}
            assert other.config == kept
            assert set(other.operational) == set(one.operational) - withheld
            assert dict(other.software) == dict(one.software)
            sessions = [{**each, "host": None} for each in other.sessions]
            assert sessions == [{**each, "host": None} for each in one.sessions]
        names = runs_jsonl.EVALS
        evals = [{k: row[k] for k in names if k in row} for row in one.evals]
        assert repr(list(other.evals)) == repr(evals)


def test_no_place_of_the_machine_is_handed_on(study):
    text = write(study).jsonl.read_text()
    assert "/home/me" not in text and "/nowhere" not in text
    assert "stdlib-byte-0123abcd" in text


def test_it_is_strict_json_and_smaller_than_two_megabytes(tmp_path):
    """18 arms of 8 seeds, a hundred evaluations, 300 symbols, 60 files of code."""
    values = {f"GPT2_SYMBOL_{n}": f"value {n}" for n in range(300)}
    for arm in range(3):
        for seed in range(2):
            losses = [4.0 + math.sin(arm + seed * k) / 7 for k in range(101)]
            made = cell(f"{arm:02}-arm", seed, *losses, values=values)
            path = made.finish(tmp_path) / "run.json"
            record = json.loads(path.read_text())
            files = {f"gpt2/file_{n}.py": f"{n:064}" for n in range(60)}
            files |= {f"gpt2/own_{arm}.py": "f" * 64}
            path.write_text(json.dumps({**record, "code_files": files}))
    file = write(tmp_path / "demo").jsonl

    def refuse(word):
        raise AssertionError(word)

    lines = file.read_text().splitlines()
    assert len(lines) == 7
    for line in lines:
        json.loads(line, parse_constant=refuse)
    each = (len("".join(lines[1:]))) / 6
    assert len(lines[0]) + 144 * each < 2_000_000, each
    assert "code_files" in lines[0] and len(lines[1]) < 10_000


def test_losses_stand_in_every_line(tmp_path):
    """Two runs alike in every loss: else a first line could stand for a million."""
    for seed in (1, 2):
        cell("00-base", seed, 5.5, 3.3).finish(tmp_path)
    head, *lines = map(json.loads, write(tmp_path / "demo").jsonl.open())
    assert "loss" not in head["same"]["evals"] and "step" in head["same"]["evals"]
    assert [line["evals"]["loss"] for line in lines] == [[5.5, 3.3]] * 2


def test_a_last_evaluation_goes_along_without_its_documents(tmp_path):
    """Its size does; what each document cost stays in the directories."""
    tokens = [100] * 30
    for step, loss in (("00-base", 3.5), ("01-wide", 3.25)):
        documents = UnitLosses("document", tokens, [loss * n for n in tokens])
        run = cell(step, 1, 5.5, loss, documents=documents, control=step == "00-base")
        run.finish(tmp_path)
    found = gather_file(write(tmp_path / "demo").jsonl)
    assert found.study.counted["00-base", 1].value("last_eval_tokens") == 3000
    assert found.evidence.text["01-wide"].error is None


def test_evaluations_after_training_go_along(study):
    run = load(study).counted["00-base", 1]
    row = {"schema": 1, "name": "book", "kind": "text", "sha256": "a" * 64}
    row |= {"settings": {"stride": 8}, "metrics": {"loss": 3.25, "acc": math.nan}}
    row |= {"model_sha256": run.value("model_sha256"), "better": {"loss": "lower"}}
    evaluations.append(CellDir(study / run.run_dir), {**row, "device": "cpu"})
    found = read(write(study).jsonl).study.counted["00-base", 1].evaluations["book"]
    assert repr(found["metrics"]) == repr(row["metrics"])
    assert found["settings"] == {"stride": 8} and found["better"] == row["better"]


def test_who_shared_a_device_goes_along(tmp_path):
    """By hosts that are told apart and not named."""
    for step, seed, host in (
        ("00-base", 1, "a"),
        ("00-base", 2, "b"),
        ("01-x", 1, "a"),
    ):
        path = cell(step, seed, 5.5, 3.3 + seed / 9, finished=START).finish(tmp_path)
        first, *rest = read_rows(path / "attempts.jsonl")
        (path / "attempts.jsonl").unlink()
        device = {"kind": "cuda", "name": "H"}
        first |= {"host": f"host-{host}.of.us", "device": device, "gpus": ["0:1"]}
        with open_append(path / "attempts.jsonl") as attempts:
            for row in (first, *rest):
                attempts.append(row)
    paths = write(tmp_path / "demo")
    found = gather_file(paths.jsonl)
    assert found.shared == paths.report.shared
    assert "2 runs shared a device" in found.shared[0]
    assert ".of.us" not in paths.jsonl.read_text()


def test_a_promotion_goes_along(study):
    chosen = {"control": "00-base", "promoted": ["02-wide"], "seeds": [3, 4]}
    sealed_record.write(study / PROMOTION, chosen)
    selection = Selection(terms=replace(TERMS, stage="confirm"))
    paths = write(study, selection)
    there, here = paths.report.evidence, gather_file(paths.jsonl).evidence
    assert here == there and here.terms.screened == {3, 4}
    assert here.of("02-wide").outcome == "NON_DIAGNOSTIC"


def test_every_term_of_a_verdict_is_in_the_file():
    beside = {"screened", "tuned", "family"}  # in the sealed records
    told = runs_jsonl.selected(Selection())
    assert {field.name for field in fields(Terms)} - beside <= set(told)
    assert {field.name for field in fields(Selection)} - {"terms"} <= set(told)


def test_looks_go_along(study):
    looks = Looks((6, 8), (1, 2, 3, 4, 5, 6, 7, 8), "gain")
    selection = Selection(terms=replace(TERMS, looks=looks))
    text = runs_jsonl.text(load(study), selection, {}, [])
    (study / "runs.jsonl").write_text(text)
    assert read(study / "runs.jsonl").selection == selection


def test_an_edited_preregistration_is_no_absent_one(study):
    path = study / WHOLE
    path.write_text(path.read_text().replace("0.03", "0.05"))
    file = write(study).jsonl
    with pytest.raises(ReportError, match="preregistration.json was edited since"):
        gather_file(file)


# -- what is refused ------------------------------------------------------


def edited(file, number, change):
    """The file with one line's object changed."""
    lines = file.read_text().splitlines()
    value = json.loads(lines[number])
    change(value)
    lines[number] = json.dumps(value)
    file.write_text("\n".join(lines) + "\n")
    return file


def put(*at):
    *place, last, new = at

    def change(value):
        for key in place:
            value = value[key]
        if new is ...:
            del value[last]
        else:
            value[last] = new

    return change


REFUSED = [
    (0, put("schema", 2), "line 1: has schema 2, this code reads up to 1"),
    (0, put("schema", ...), "line 1: has no schema version"),
    (0, put("schema", True), "line 1: has no schema version"),
    (0, put("study", "../x"), "line 1: study is '../x', expected a study's name"),
    (0, put("selection", "alpha", 2), "selection.alpha is 2, expected a number"),
    (
        0,
        put("selection", "alpha", 1e-10),
        "selection.alpha is 1e-10, expected a number",
    ),
    (0, put("selection", "smallest", 0), "selection.smallest is 0, expected a number"),
    (0, put("selection", "metric", "luck"), "metric is none of val_loss"),
    (0, put("selection", "excluded", [["a"]]), "holds what is no pair"),
    (0, put("records", {"../x.json": {}}), "expected the name of a sealed record"),
    (0, put("records", {"a.json": {}}), "a.json was edited since"),
    (0, put("replaced", ["../../x/seed-1/0123abcd-1"]), "expected STEP/seed-K/HASH8-N"),
    (0, put("same", "values", "device", "a\nb"), "summary.device.name is 'a.nb'"),
    (0, put("same", "config", "x y", 1), "expected a symbol"),
    (1, put("step", ...), "line 2: step is absent"),
    (1, put("seed", 2), "seed is 2, and CONFIG_SEED 1"),
    (1, put("step", "01-a-a"), "run_dir is '00-base/.*', expected 01-a-a/seed-1/"),
    (1, put("hash", "0" * 8), "expected 00-base/seed-1/00000000"),
    (1, put("run_dir", "/etc/seed-1/x"), "run_dir is '/etc/seed-1/x'"),
    (1, put("values", "cell_hash", "0" * 64), "cell_hash is 0000000000000000"),
    (1, put("values", "cell_hash", ...), "is done and holds no cell_hash"),
    (1, put("values", "luck", 1), "luck is no value that this version knows"),
    (1, put("values", "git", "x"), "provenance.git is 'x', expected an object"),
    (1, put("values", "final_loss", {"float": "nan"}), "its loss is not finite"),
    (1, put("evals", "loss", [1.0, 2.0]), "columns of different lengths"),
    (1, put("evals", "loss", [5.5, {"float": "nan"}, 3.0]), "loss is not finite"),
    (1, put("evals", "loss", ["a", 1.0, 1.0]), r"evals.loss\[0\] is 'a'"),
    (1, put("evals", "step", [0, 50, 50]), "evals.step does not rise"),
    (1, put("evals", "loss", []), "is done and holds no evaluation"),
    (1, put("config", "SEED", 7), "seed is 1, and CONFIG_SEED 7"),
    (1, put("error", "\ud800"), "error is .*, expected text that is valid Unicode"),
]


@pytest.mark.parametrize(
    "number, change, why", REFUSED, ids=[why for *_, why in REFUSED]
)
def test_what_is_malformed(file, number, change, why):
    edited(file, number, change)
    with pytest.raises(ReportError, match=why) as refused:
        gather_file(file)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    "line, why",
    [
        ("{", "line 24: is not JSON"),
        ("[1]", "line 24: is not a JSON object"),
        ('{"a": NaN}', "line 24: is not JSON: holds NaN"),
        ('{"a": 1, "a": 2}', "line 24: is not JSON: names a field twice"),
        ('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "line 24: is nested"),
        ('{"a": ' + "9" * 5000 + "}", "line 24: is not JSON"),
        ("\udcff", "line 24: is not JSON"),
    ],
    ids=["torn", "list", "nan", "twice", "deep", "long", "bytes"],
)
def test_lines_that_are_no_line(file, line, why):
    with file.open("ab") as end:
        end.write(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(ReportError, match=why):
        gather_file(file)


def test_one_cell_counted_twice(file):
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[3]]) + "\n")
    with pytest.raises(ReportError, match="line 24 repeats line 4: 00-base/seed-3/"):
        gather_file(file)


def test_too_much(file, monkeypatch):
    for name, most, why in (
        ("read_runs_jsonl.MOST_RUNS", 5, "line 7: holds more than 5 runs"),
        ("read_runs_jsonl.MOST_VALUES", 50, "holds more than 50 values"),
        ("received.MOST_BYTES", 1 << 10, "is longer than"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"matrix.results.{name}", most)
            with pytest.raises(ReportError, match=why):
                gather_file(file)


def test_no_such_file_and_an_empty_one(tmp_path):
    file = tmp_path / "runs.jsonl"
    with pytest.raises(ReportError, match="no such file"):
        gather_file(file)
    file.write_text("")
    with pytest.raises(ReportError, match="is empty"):
        gather_file(file)
    with pytest.raises(ReportError, match="is neither a study's directory nor"):
        gather_file(tmp_path / "report.md")


def test_gathering_from_directories_says_nothing_of_a_file(study):
    assert gather(study).study.received is None
