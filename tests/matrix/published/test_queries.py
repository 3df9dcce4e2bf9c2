"""Published runs: what the scripts say of them, and the checklist before publishing."""

import csv
import io
import json
import math
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from matrix.published import cli, compileplots, events, queries
from matrix.published.checklist import block, checklist
from matrix.published.run import PublishedError, PublishedRun
from matrix.published.selection import Query
from matrix.published.sources import fetch
from records import entry, jsonl
from records.layout import CellDir
from tests.matrix.synthetic import Cell

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = (
    "inspect_wandb_keys.py",
    "query_wandb_gpu.py",
    "query_wandb_gpu_full.py",
    "compare_wandb_runs.py",
    "verify_wandb_publication.py",
    "plot_torch_compile_impact.py",
)
VALUES = {"GPT2_COMPILE": False, "GPT2_EVAL_INTERVAL": 50, "GPT2_BLOCK_SIZE": 64}
COMMIT = "one commit, clean, in the public remote"
PROJECT = "one W&B project that holds all runs, or none"
FACTS = "every fact of the block on record"
STARTED = {"device": {"kind": "cpu", "name": "cpu"}, "torch": "2.13.0"}
VALUES |= {"LEARNING_RATE": "6e-4", "GPT2_MAX_TIME": 0, "MLP_DIM": 3072}


def train(step: int, rate: float) -> dict:
    row = {"kind": "train", "attempt": 1, "step": step, "loss": 4.0 - step / 100}
    return {**row, "tokens_per_s": rate}


def gpu(step: int, compute: float, memory: float) -> dict:
    row = {"attempt": 1, "time": 1e9 + step, "step": step, "gpu/power_avg_w": 500.0}
    row |= {"gpu/compute_util_avg": compute, "gpu/memory_util_avg": memory}
    row |= {"gpu/0/compute_util": compute, "gpu/0/memory_util": memory}
    return {**row, "gpu/0/power_w": 490.0 + step, "gpu/0/temperature_c": 61.0}


def add(path: Path, name: str, rows: list[dict]) -> None:
    with jsonl.open_append(path / name) as file:
        for row in rows:
            file.append(row)


def cell(
    tmp_path: Path, step: str, seed: int = 1, start: dict | None = None, **options
) -> Path:
    """A finished run; `start` is what its attempt recorded of the machine."""
    options = {"control": step == "00-control", "values": VALUES, **options}
    options["facts"] = {"eval_sha256": "e" * 64, **options.get("facts", {})}
    losses = options.pop("losses", (4.0, 3.5, 3.0 + (seed - 1) / 1000))
    path = Cell(step, seed, losses, **options).finish(tmp_path, "study")
    first, *rest = jsonl.read_rows(path / "attempts.jsonl")
    (path / "attempts.jsonl").unlink()
    known = {k: v for k, v in (STARTED | (start or {})).items() if v is not None}
    add(path, "attempts.jsonl", [{**first, **known}, *rest])
    return path


def wide(tmp_path: Path, seed: int = 1, **options) -> Path:
    values = {**VALUES, "MLP_DIM": 4096}
    options = {"values": values, "changes": ("MLP_DIM",), **options}
    return cell(tmp_path, "01-wide", seed, **options)


def mirror(path: Path, **more) -> None:
    """What a mirror in W&B left in the run directory."""
    target = {"project": "kablate", "entity": "me", "mode": "online"}
    (path / "mirror").mkdir(exist_ok=True)
    record = {"schema": 1, "state": "current", **target, **more}
    (path / "mirror" / "wandb.json").write_text(json.dumps(record))


def without(path: Path, fact: str) -> None:
    """Take a fact, where it is one of the model's, out of the records of a run."""
    rows = jsonl.read_rows(path / "metrics.jsonl")
    (path / "metrics.jsonl").unlink()
    kept = [{k: v for k, v in row.items() if k != fact} for row in rows]
    add(path, "metrics.jsonl", kept)


def runs(tmp_path: Path, *names: str) -> list[PublishedRun]:
    return fetch(Query("local", study="study", names=names, output=tmp_path))


def failed(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    items = checklist(runs(tmp_path), "https://x", lambda commit, remote: None)
    return {item.name: item.against for item in items if not item.passed}


class TestChoosing:
    def test_a_beginning_is_enough(self, tmp_path):
        for seed in (1, 2):
            cell(tmp_path, "00-control", seed)
        [found] = runs(tmp_path, "00-control-s2")
        assert found.config["seed"] == 2

    @pytest.mark.parametrize(
        "name, cause",
        [
            ("00-contrl-s1", "no run '00-contrl-s1'.*there is 00-control-s1"),
            (
                "00-control",
                "may be 00-control-s1-.*, 00-control-s2-.*: name one, or its id",
            ),
        ],
    )
    def test_a_name_that_is_no_run(self, tmp_path, name, cause):
        for seed in (1, 2):
            cell(tmp_path, "00-control", seed)
        with pytest.raises(PublishedError, match=cause):
            runs(tmp_path, name)

    def test_a_metric_that_is_not_there(self, tmp_path):
        cell(tmp_path, "00-control")
        [run] = runs(tmp_path)
        with pytest.raises(PublishedError, match="no metric 'eval/los'.*eval/loss"):
            run.series("eval/los")

    def test_no_study(self, tmp_path):
        with pytest.raises(PublishedError, match="no such study"):
            runs(tmp_path)

    def test_no_run_was_mirrored(self, tmp_path):
        cell(tmp_path, "00-control")
        with pytest.raises(PublishedError, match="no run in"):
            fetch(Query("offline", study="study", output=tmp_path))


def test_the_last_row_of_a_step_counts():
    rows = [{"step": 0, "a": 1.0}, {"step": 1, "a": 2.0}, {"step": 1, "a": 3.0}]
    run = PublishedRun("i", "n", "g", "s", "here", {}, history=rows)
    assert run.series("a") == {0: 1.0, 1: 3.0}


class TestGpu:
    def test_means_and_hints(self, tmp_path):
        path = cell(tmp_path, "00-control")
        add(path, "gpu.jsonl", [gpu(0, 30.0, 10.0), gpu(10, 50.0, 20.0)])
        answer = queries.gpu(runs(tmp_path))
        found = {row["key"]: row for row in answer.rows}
        assert found["gpu/compute_util_avg"]["mean"] == 40.0
        assert found["gpu/compute_util_avg"]["max"] == 50.0
        assert [note.split(": ")[1] for note in answer.notes] == [
            "compute is busy 40 % of the time, below 50 %",
            "memory is busy 15 % of the time, below 20 %",
        ]

    def test_a_busy_gpu_gets_no_hint(self, tmp_path):
        path = cell(tmp_path, "00-control")
        add(path, "gpu.jsonl", [gpu(0, 50.0, 20.0)])
        assert queries.gpu(runs(tmp_path)).notes == []

    def test_every_device_on_its_own(self, tmp_path):
        path = cell(tmp_path, "00-control")
        add(path, "gpu.jsonl", [gpu(0, 90.0, 10.0), gpu(10, 90.0, 10.0)])
        answer = queries.gpu_full(runs(tmp_path))
        found = {row["key"]: (row["min"], row["max"]) for row in answer.rows}
        assert found["gpu/0/power_w"] == (490.0, 500.0)
        assert found["gpu/0/temperature_c"] == (61.0, 61.0)
        [note] = answer.notes
        assert "gpu/0: memory is busy 10 %" in note

    @pytest.mark.parametrize("ask", [queries.gpu, queries.gpu_full])
    def test_a_run_on_a_cpu(self, tmp_path, ask):
        cell(tmp_path, "00-control")
        with pytest.raises(PublishedError, match="no GPU .*in .*00-control-s1"):
            ask(runs(tmp_path))

    @pytest.mark.parametrize("prefix", ["", "system."])
    def test_the_names_of_wandbs_monitor(self, prefix):
        theirs = {"gpu.1.powerWatts": 410.5, "gpu.1.temp": 60, "gpu.1.gpu": 99}
        theirs |= {"gpu.1.memoryAllocatedBytes": 2**31, "gpu.1.memory": 42, "cpu": 3.0}
        item = {prefix + key: value for key, value in theirs.items()}
        assert events.monitored(item, "2026-11-20T20:05:38.330316903Z") == {
            "time": pytest.approx(1795205138.330316),
            "gpu/1/power_w": 410.5,
            "gpu/1/temperature_c": 60.0,
            "gpu/1/compute_util": 99.0,
            "gpu/1/memory_used_gb": 2.0,
            "gpu/1/memory_util": 42.0,
        }


class TestCompare:
    def test_what_differs_is_marked(self, tmp_path):
        cell(tmp_path, "00-control")
        wide(tmp_path, facts={"effective_batch": 32})
        answer = queries.compare(runs(tmp_path))
        names = answer.columns[3:]
        rows = {row["key"]: row for row in answer.rows}
        assert [rows["CONFIG_MLP_DIM"][name] for name in names] == [3072, 4096]
        assert [rows["effective_batch"][name] for name in names] == [16, 32]
        marked = {key for key, row in rows.items() if row["differs"]}
        assert {"CONFIG_MLP_DIM", "effective_batch"} <= marked
        assert not {"learning_rate", "final/loss", "torch"} & marked
        assert any(n.startswith("unequal effective_batch: 16") for n in answer.notes)

    def test_metrics_by_name(self, tmp_path):
        cell(tmp_path, "00-control")
        wide(tmp_path)
        answer = queries.compare(runs(tmp_path), ["eval/loss"])
        metrics = [row["key"] for row in answer.rows if row["part"] == "metrics"]
        assert metrics == ["eval/loss"]

    def test_one_run_is_no_comparison(self, tmp_path):
        cell(tmp_path, "00-control")
        with pytest.raises(PublishedError, match="two runs or more"):
            queries.compare(runs(tmp_path))


class TestChecklist:
    def test_a_clean_study_passes(self, tmp_path):
        for seed in (1, 2):
            cell(tmp_path, "00-control", seed)
            wide(tmp_path, seed)
        assert failed(tmp_path) == {}

    @pytest.mark.parametrize(
        "item, told, options",
        [
            (
                "equal effective batch",
                "effective_batch",
                dict(facts={"effective_batch": 8}),
            ),
            ("equal dataset", "dataset_sha256", dict(identity={"dataset": "e" * 64})),
            (
                "equal tokens or time",
                "ended by time",
                dict(summary={"stopped_by": "time"}),
            ),
            ("equal tokens or time", "final/tokens", dict(summary={"tokens": 7})),
            ("equal protocol and software", "dtype", dict(facts={"dtype": "bf16"})),
            (
                "equal protocol and software",
                "code_hash",
                dict(identity={"code": "f" * 64}),
            ),
            (
                "equal protocol and software",
                "eval_sha256",
                dict(facts={"eval_sha256": "d" * 64}),
            ),
            ("equal hardware", "ranks", dict(facts={"ranks": 2})),
        ],
    )
    def test_what_is_unequal(self, tmp_path, item, told, options):
        cell(tmp_path, "00-control")
        wide(tmp_path, **options)
        found = failed(tmp_path)
        assert list(found) == [item] and told in "".join(found[item])

    def test_the_code_of_a_step_is_one(self, tmp_path):
        """Another step may choose another; by the first rule all had the same."""
        ruled = {"code": "f" * 64, "code_rule": 2}
        cell(tmp_path, "00-control", identity={"code_rule": 2})
        cell(tmp_path, "00-control", 2, identity={"code_rule": 2})
        wide(tmp_path, identity=ruled)
        other = wide(tmp_path, 2, identity=ruled)
        assert failed(tmp_path) == {}
        for identity, keys in (
            ({"code": "e" * 64}, ["code_hash"]),
            ({"code_rule": 3}, ["code_rule"]),
        ):
            shutil.rmtree(other)
            other = wide(tmp_path, 2, identity={**ruled, **identity})
            [(item, told)] = failed(tmp_path).items()
            assert item == "equal protocol and software"
            assert [line.split(":")[0] for line in told] == keys

    def test_a_run_under_two_seeds(self, tmp_path):
        for seed in (1, 2):
            cell(tmp_path, "00-control", seed)
        path = wide(tmp_path)
        wide(tmp_path, 2, losses=(4.0, 3.5, 3.0))
        [(item, told)] = failed(tmp_path).items()
        assert item == "every seed is a run of its own"
        copy = Cell("01-wide", 2, ()).path(tmp_path, "study")
        names = [f"01-wide-s{p.parent.name[5:]}-{p.name}" for p in (path, copy)]
        assert told == (
            f"{names[0]} and {names[1]} are one run: the same training curve",
        )

    def test_compilation(self, tmp_path):
        cell(tmp_path, "00-control")
        values = {**VALUES, "GPT2_COMPILE": True}
        cell(tmp_path, "01-x", values=values, changes=("GPT2_COMPILE",))
        [(item, told)] = failed(tmp_path).items()
        assert item == "equal compilation" and "compile_model: " in told[0]

    def test_a_difference_that_no_step_declares(self, tmp_path):
        cell(tmp_path, "00-control")
        wide(tmp_path, values={**VALUES, "MLP_DIM": 4096, "LEARNING_RATE": "1e-3"})
        found = failed(tmp_path)
        assert list(found) == ["hyperparameters equal but for the declared difference"]
        [told] = found.values()
        assert len(told) == 1 and told[0].startswith("CONFIG_LEARNING_RATE: 1e-3 in")

    def test_runs_of_one_step_declare_nothing(self, tmp_path):
        cell(tmp_path, "00-control", 1)
        cell(tmp_path, "00-control", 2, values={**VALUES, "MLP_DIM": 1})
        assert len(failed(tmp_path)) == 1

    def test_operational_symbols_may_differ(self, tmp_path):
        for seed, where in ((1, "here"), (2, "there")):
            values = {**VALUES, "OUTPUT_DIR": where}
            cell(
                tmp_path, "00-control", seed, values=values, operational=("OUTPUT_DIR",)
            )
        assert failed(tmp_path) == {}

    def test_a_seed_that_is_missing(self, tmp_path):
        for seed in (1, 2):
            cell(tmp_path, "00-control", seed)
        wide(tmp_path, 2)
        assert failed(tmp_path) == {
            "every step has the same seeds": ("01-wide lacks seed 1",)
        }

    def test_a_run_that_is_not_finished(self, tmp_path):
        cell(tmp_path, "00-control")
        path = wide(tmp_path)
        CellDir(path).summary.unlink()
        assert "every run is finished, its validation loss finite" in failed(tmp_path)

    def test_a_loss_that_is_no_number(self, tmp_path, capsys):
        """No run writes one: it is named as damaged, and not compared."""
        cell(tmp_path, "00-control")
        lost = {"loss": math.nan, "step": 100}
        wide(tmp_path, summary={"final_eval": lost})
        with pytest.raises(PublishedError, match="two runs or more"):
            failed(tmp_path)
        assert "summary.json: final_eval.loss is nan" in capsys.readouterr().err

    def test_a_dirty_checkout(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "tests.matrix.synthetic.GIT", {"commit": "b" * 40, "dirty": True}
        )
        cell(tmp_path, "00-control")
        wide(tmp_path)
        [told] = failed(tmp_path).values()
        assert len(told) == 2 and "uncommitted changes" in told[0]

    def test_a_commit_that_nobody_can_have(self, tmp_path):
        cell(tmp_path, "00-control")
        wide(tmp_path)
        items = checklist(runs(tmp_path), None)
        [item] = [item for item in items if not item.passed]
        assert "no remote origin" in item.against[0]

    @pytest.mark.parametrize("git", [{"commit": None, "why": "an archive"}, {}])
    def test_an_archive_has_no_commit(self, tmp_path, monkeypatch, git):
        """Whatever the checkout that asks has for an origin."""
        monkeypatch.setattr("tests.matrix.synthetic.GIT", git)
        cell(tmp_path, "00-control")
        wide(tmp_path)
        told = failed(tmp_path)
        assert (
            all("no commit" in line for line in told[COMMIT]) and len(told[COMMIT]) == 2
        )
        assert told[FACTS][0].startswith("git_commit is not recorded in 00-control-s1")

    def test_one_commit_of_several(self, tmp_path, monkeypatch):
        cell(tmp_path, "00-control")
        monkeypatch.setattr(
            "tests.matrix.synthetic.GIT", {"commit": None, "why": "an archive"}
        )
        wide(tmp_path)
        assert any("01-wide" in line for line in failed(tmp_path)[COMMIT])

    @pytest.mark.parametrize(
        "name, options",
        [
            ("device", dict(start={"device": None})),
            ("torch", dict(start={"torch": None})),
            ("driver", dict(start={"device": {"kind": "cuda", "name": "H"}})),
            ("CONFIG_LEARNING_RATE", dict(values={**VALUES, "LEARNING_RATE": None})),
            ("context", dict(values={**VALUES, "GPT2_BLOCK_SIZE": None})),
            ("eval_sha256", {}),
            ("compile", {}),
            ("effective_batch", {}),
        ],
    )
    def test_a_fact_that_no_run_records(self, tmp_path, name, options):
        """All alike, so that nothing is unequal: the paper would have a hole."""
        without(cell(tmp_path, "00-control", **options), name)
        values = {**VALUES, **options.get("values", {}), "MLP_DIM": 4096}
        without(wide(tmp_path, **{**options, "values": values}), name)
        found = failed(tmp_path)
        assert list(found) == [FACTS]
        assert found[FACTS][0].startswith(f"{name} is not recorded in 00-")

    def test_the_project_of_wandb(self, tmp_path):
        paths = [cell(tmp_path, "00-control"), wide(tmp_path)]
        mirror(paths[0])
        found = failed(tmp_path)
        assert list(found) == [PROJECT]
        assert "me/kablate: 00-control-s1" in found[PROJECT][0]
        assert "none: 01-wide-s1" in found[PROJECT][0]
        mirror(paths[1])
        assert failed(tmp_path) == {}
        items = checklist(runs(tmp_path), "https://x", lambda commit, remote: None)
        assert "- W&B: me/kablate\n" in block(runs(tmp_path), items, None)
        mirror(paths[1], state="failed")
        [told] = failed(tmp_path).values()
        assert told[0].startswith("not all uploaded: 01-wide-s1")
        mirror(paths[1], mode="offline")
        assert len(failed(tmp_path)) == 1

    def test_one_run_is_nothing_to_check(self, tmp_path):
        cell(tmp_path, "00-control")
        with pytest.raises(PublishedError, match="two runs or more"):
            failed(tmp_path)


class TestCompilePlots:
    def study(self, tmp_path):
        for compiled, factor in ((False, 1.0), (True, 2.0)):
            step = f"0{int(compiled)}-x"
            values = {**VALUES, "GPT2_COMPILE": compiled}
            summary = {"average_step_time": 0.5 / factor}
            path = cell(tmp_path, step, values=values, summary=summary)
            evals = [{**train(s, 100.0 * factor), "time": s / factor} for s in (0, 50)]
            add(path, "metrics.jsonl", evals)
            add(path, "gpu.jsonl", [gpu(0, 40.0 * factor, 15.0 * factor)])

    def test_four_pictures_of_300_dpi(self, tmp_path):
        self.study(tmp_path)
        answer = compileplots.plot(runs(tmp_path), tmp_path / "out")
        pictures = sorted((tmp_path / "out").glob("*.png"))
        assert len(pictures) == 4 and answer.notes[0] == "speed-up 2.000"
        for picture in pictures:
            data = picture.read_bytes()
            chunk = data.index(b"pHYs")
            per_metre = int.from_bytes(data[chunk + 4 : chunk + 8], "big")
            assert round(per_metre * 0.0254) == 300

    def test_one_kind_is_no_comparison(self, tmp_path):
        cell(tmp_path, "00-control")
        with pytest.raises(PublishedError, match="no compiled run among 1"):
            compileplots.plot(runs(tmp_path), tmp_path)


class TestScripts:
    def ask(self, tmp_path, capsys, *options: str) -> str:
        argv = ["--source", "local", "--study", "study", "--output", str(tmp_path)]
        ask = lambda found, given: queries.keys(found)  # noqa: E731
        assert cli.main("doc", ask, [*argv, *options]) == 0
        return capsys.readouterr().out

    def test_json_and_csv_hold_numbers_in_full(self, tmp_path, capsys):
        path = cell(tmp_path, "00-control")
        add(path, "metrics.jsonl", [train(3, 1 / 3)])
        found = json.loads(self.ask(tmp_path, capsys, "--json"))
        rows = {row["key"]: row for row in found["rows"] if row["in"] == "history"}
        assert rows["train/tokens_per_s"]["last"] == 1 / 3
        table = csv.DictReader(io.StringIO(self.ask(tmp_path, capsys, "--csv")))
        rows = {row["key"]: row for row in table if row["in"] == "history"}
        assert float(rows["train/tokens_per_s"]["last"]) == 1 / 3

    def test_a_number_that_is_none_is_null_in_json(self, tmp_path, capsys):
        path = cell(tmp_path, "00-control")
        add(path, "metrics.jsonl", [{**train(3, 1.0), "loss": math.inf}])
        assert "Infinity" not in self.ask(tmp_path, capsys, "--json")

    def test_an_error_is_one_line_and_status_1(self, tmp_path, capsys):
        argv = ["--source", "local", "--output", str(tmp_path / "x")]
        assert cli.main("doc", lambda found, given: None, argv) == 1
        assert capsys.readouterr().err.startswith("error: ")

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_every_script_has_the_shared_options(self, name, monkeypatch, capsys):
        monkeypatch.setattr(sys, "path", list(sys.path))
        end = lambda main: sys.exit(main(["--help"]))  # noqa: E731
        monkeypatch.setattr(entry, "run", end)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        for option in ("--entity", "--project", "--run-name", "--source", "--json"):
            assert option in shown
        assert "--csv" in shown and "{wandb,offline,local}" in shown

    def test_the_checklist_decides_the_status_and_prints_the_block(self, tmp_path):
        cell(tmp_path, "00-control")
        wide(tmp_path, facts={"effective_batch": 8})
        command = [sys.executable, ROOT / "scripts" / "verify_wandb_publication.py"]
        command += ["--source", "local", "--study", tmp_path / "study"]
        command += ["--remote", tmp_path / "nowhere"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "### How these numbers were made" in done.stdout
        assert "- Batch: 16 / 8 sequences" in done.stdout
        assert f"- Commit: {'feed' * 10} of no public remote" in done.stdout
        assert "nowhere is a path of this machine" in done.stdout
        assert "- W&B: none, these runs are not there" in done.stdout
        assert "**not: equal effective batch**" in done.stdout
