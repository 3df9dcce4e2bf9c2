"""Every row of the ledger, written out: one property differs, one line says so."""

import copy
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.evidence.gather import gather
from matrix.evidence.verdict import Verdict
from matrix.evidence.weigh import weigh
from matrix.report import compare
from matrix.results import fairness
from matrix.results.metrics import METRICS
from matrix.results.rows import make_rows
from matrix.results.run import Run
from matrix.results.selection import Terms
from matrix.results.study import Study, load
from records import atomic, jsonl
from tests.matrix.synthetic import START, Cell

CONTROL, ARM, SEEDS = "00-control", "07-arm", (9, 5, 2)
CODE, OTHER = "ab" * 32, "cd" * 32
TEXT, MORE = "0f" * 32, "1e" * 32
PARAMETERS = "dtype of the parameters"
TF32_NAME = "NVIDIA_TF32_OVERRIDE"
TF32 = {TF32_NAME: "0"}
# name, where a run has it, the control's value, the arm's, and as both are shown.
ROWS = (
    ("code hash", "run.cell.identity.code", CODE, OTHER, "ab" * 6, "cd" * 6),
    ("dataset", "run.cell.identity.dataset", OTHER, CODE, "cd" * 6, "ab" * 6),
    ("budget", "summary.facts.budget", "tokens", "time", "tokens", "time"),
    ("end of training", "summary.stopped_by", "tokens", "time", "tokens", "time"),
    ("tokens per step", "summary.facts.tokens_per_step", 4096, 4095, "4096", "4095"),
    ("effective batch", "summary.facts.effective_batch", 16, 17, "16", "17"),
    ("micro-batch", "summary.facts.micro_batch", 16, 8, "16", "8"),
    ("context", "config.GPT2_BLOCK_SIZE", 256, 255, "256", "255"),
    ("documents apart", "config.DOCUMENTS_APART", False, True, "False", "True"),
    ("max_iters", "summary.facts.max_iters", 100, 101, "100", "101"),
    ("time limit", "config.GPT2_MAX_TIME", 90, 91, "90", "91"),
    ("tokens trained", "summary.tokens", 409_600, 409_599, "409600", "409599"),
    ("optimizer steps", "summary.step", 100, 101, "100", "101"),
    ("evaluation windows", "config.GPT2_EVAL_WINDOWS", 64, 63, "64", "63"),
    ("evaluation interval", "config.GPT2_EVAL_INTERVAL", 50, 49, "50", "49"),
    ("evaluation text", "summary.facts.eval_sha256", TEXT, MORE, "0f" * 6, "1e" * 6),
    (
        "last evaluation's text",
        "summary.facts.last_eval_sha256",
        *(TEXT, MORE, "0f" * 6, "1e" * 6),
    ),
    ("dtype", "summary.facts.dtype", "bf16", "fp32", "bf16", "fp32"),
    (PARAMETERS, "summary.facts.param_dtype", "fp32", "bf16", "fp32", "bf16"),
    (
        "loss computation",
        "summary.facts.loss_impl",
        "chunked",
        "plain",
        "chunked",
        "plain",
    ),
    ("update", "summary.facts.update_impl", "torch", "one_pass", "torch", "one_pass"),
    ("compile", "summary.facts.compile", True, False, "True", "False"),
    ("device", "summary.device.name", "a board", "another", "a board", "another"),
    ("runtime", "summary.device.driver", "CUDA 13", "CUDA 12", "CUDA 13", "CUDA 12"),
    ("driver", "summary.device.kernel_driver", "580.1", "570.2", "580.1", "570.2"),
    ("processes", "summary.facts.ranks", 2, 1, "2", "1"),
    ("processor", "run.provenance.cpu", "A chip", "B chip", "A chip", "B chip"),
    ("threads", "summary.threads", 4, 3, "4", "3"),
    ("torch", "summary.torch", "2.13.0", "2.13.1", "2.13.0", "2.13.1"),
    ("triton", "summary.triton", "3.6.0", "3.7.0", "3.6.0", "3.7.0"),
    (
        "environment",
        "summary.numeric_environment",
        {},
        TF32,
        "none set",
        f"{TF32_NAME}=0",
    ),
    ("python", "summary.python", "3.12.1", "3.12.2", "3.12.1", "3.12.2"),
)
NAMES = [row[0] for row in ROWS]
CHANGED = {where: new for _, where, _, new, *_ in ROWS}
ABSENT = object()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """For a disk."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def write(
    output: Path, step: str, seed: int, changed=False, name="demo", **identity: object
) -> Path:
    """A run with the control's values of all rows, or with the arm's."""
    groups: dict[str, dict] = {key: {} for key in ("run", "summary", "config")}
    for _, where, usual, other, *_ in ROWS:
        group, _, path = where.partition(".")
        put(groups[group], path, other if changed else usual)
    made = Cell(
        step,
        seed,
        (5.5, 3.3 + 0.001 * seed**2 + 0.01 * (step == ARM)),
        facts=groups["summary"].pop("facts"),
        summary=groups["summary"],
        identity={**groups["run"]["cell"]["identity"], **identity},
        values={"INIT_SALT": "", **groups["config"]},
        changes=tuple(groups["config"]) if step == ARM else (),
    )
    made.summary["device"]["kind"] = "cpu"
    path = made.finish(output, name)
    record = json.loads((path / "run.json").read_text())
    record["provenance"] |= groups["run"]["provenance"]
    atomic.write_json(path / "run.json", record)
    return path


def put(document: dict, path: str, value: object) -> None:
    """document.a.b = value; ABSENT takes it away."""
    *parents, last = path.split(".")
    for name in parents:
        document = document.setdefault(name, {})
    document[last] = value
    if value is ABSENT:
        del document[last]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Control and arm with equal properties, and a study in which all differ."""
    place = tmp_path_factory.mktemp("ledger")
    for step in (CONTROL, ARM):
        for seed in SEEDS:
            write(place, step, seed)
            write(place, step, seed, step == ARM, "all")
            write(place, step, seed, True, "other")
    return place


@pytest.fixture(scope="module")
def equal(output) -> Study:
    """The study in which no property differs."""
    return load(output / "demo")


def changed(study: Study, change, seeds=SEEDS, both=None) -> Study:
    """The study with `change`, {where: value}, in the arm's `seeds` and `both` in all."""

    def other(run: Run) -> Run:
        documents = copy.deepcopy(run.documents)
        mine = change if run.step == ARM and run.seed in seeds else {}
        for where, value in {**(both or {}), **mine}.items():
            put(documents, where, value)
        return replace(run, documents=documents)

    runs = {run.run_dir: other(run) for run in study.runs}
    counted = {key: runs[run.run_dir] for key, run in study.counted.items()}
    return replace(study, runs=tuple(runs.values()), counted=counted)


def differences(study: Study) -> list[str]:
    """The ledger's lines over all runs of a study."""
    return fairness.differences(study.runs)


def judged(study: Study, terms: Terms = Terms()) -> Verdict:
    """The verdict on the arm."""
    (verdict,) = weigh(study, make_rows(study), terms).verdicts
    return verdict


def test_the_copy_is_whole():
    """A row that is added or taken away is written here as well."""
    assert [name for name, _ in fairness.MUST_MATCH] == NAMES
    assert len(set(NAMES)) == len(set(CHANGED)) == 32


def test_where_nothing_differs_nothing_is_said(output, equal):
    assert differences(equal) == fairness.resumed_elsewhere(equal.runs) == []
    (reason,) = judged(equal).reasons
    assert "without spread" in reason
    assert gather(output / "demo").warnings == ()


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row(equal, row):
    """In all seeds of the arm, in one of them, and where the arm lacks it; the verdict
    gives this reason and no other.
    """
    name, where, usual, other, told, others = row
    for seeds, value, line in [
        (SEEDS, other, f"{name}: {others} in {ARM}; {told} elsewhere"),
        ((5,), other, f"{name}: {others} in {ARM} (seed 5); {told} elsewhere"),
        (
            (9, 2),
            ABSENT,
            f"{name}: not recorded in {ARM} (seeds 2, 9); {told} elsewhere",
        ),
    ]:
        study = changed(equal, {where: value}, seeds)
        assert differences(study) == [line]
        assert judged(study).label == "NON_DIAGNOSTIC"
        found = [r for r in judged(study).reasons if "not a line of the step" not in r]
        assert [r for r in found if "its runs differ" not in r] == [f"different {line}"]
    assert differences(changed(equal, {}, both={where: other})) == []


def test_every_row_in_its_order(output):
    """All at once and from the files; where there are as many of one value as of the
    other, the first is the usual one.
    """
    lines = [f"{n}: {b} in {ARM}; {a} elsewhere" for n, _, _, _, a, b in ROWS]
    assert differences(load(output / "all")) == lines
    found = gather(output / "all")
    whole = tuple(f"different {line}" for line in lines)
    assert found.evidence.verdicts[0].reasons == found.warnings == whole


def ledger_of(text: str) -> list[str]:
    """The lines of a comparison under this heading."""
    block = text.split("\nFairness\n")[1].split("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


def test_every_row_of_a_comparison(output):
    """`make compare` of two studies and of two runs, A's value first."""
    one, two = output / "demo", output / "other"
    forth = [f"{name}: {a} | {b}" for name, *_, a, b in ROWS]
    back = [f"{name}: {b} | {a}" for name, *_, a, b in ROWS]
    assert ledger_of(compare.compare(one, two)) == forth
    a, b = (next(each.glob(f"{ARM}/seed-5/*")) for each in (one, two))
    assert ledger_of(compare.compare(a, b)) == forth
    assert ledger_of(compare.compare(b, a)) == back
    assert ledger_of(compare.compare(one, one)) == ["the same"]
    mixed = [f"{name}: {a} / {b} | {a}" for name, *_, a, b in ROWS]
    assert ledger_of(compare.compare(output / "all", one))[: len(ROWS)] == mixed


# -- the code, file by file

FILES = {"gpt2/a.py": "a" * 64, "gpt2/b.py": "b" * 64}
RULED = {"run.cell.identity.code_rule": 2}


def coded(equal, files, both=FILES, **identity) -> list[str]:
    """The lines where the arm's runs with seed 5 ran `files` and all others `both`."""
    change = {"run.code_files": files, "run.cell.identity.code": OTHER, **identity}
    common = {"run.code_files": both, **RULED}
    return differences(changed(equal, change, (5,), common))


def test_code_is_compared_by_the_files_that_both_ran(equal):
    """An arm may choose files of its own, whatever that does to the hash."""
    edited = {**FILES, "gpt2/b.py": "c" * 64}
    mine = {"gpt2/own.py": "d" * 64}
    assert coded(equal, {**FILES, **mine}) == []
    assert coded(equal, {"gpt2/a.py": "a" * 64, **mine}) == []
    line = f"code, gpt2/b.py: {'c' * 12} in {ARM} (seed 5); {'b' * 12} elsewhere"
    assert coded(equal, {**edited, **mine}) == [line]
    assert coded(equal, {name: "e" * 64 for name in FILES}) == [
        f"code, {name}: {'e' * 12} in {ARM} (seed 5); {digest[:12]} elsewhere"
        for name, digest in FILES.items()
    ]


def test_a_file_that_two_runs_of_an_arm_do_not_share(equal):
    """It counts though no other step runs it."""
    own = {**FILES, "gpt2/own.py": "d" * 64}
    other = {**FILES, "gpt2/own.py": "e" * 64}
    study = changed(equal, {"run.code_files": own}, both={"run.code_files": FILES})
    study = changed(study, {"run.code_files": other}, (5,))
    line = f"code, gpt2/own.py: {'e' * 12} in {ARM} (seed 5); {'d' * 12} elsewhere"
    assert differences(study) == [line]
    assert judged(study).label == "NON_DIAGNOSTIC"


def test_code_of_two_rules_is_compared_by_its_hash(equal):
    """And where a run does not say which files it ran."""
    line = f"code hash: {'cd' * 6} in {ARM} (seed 5); {'ab' * 6} elsewhere"
    assert coded(equal, FILES, **{"run.cell.identity.code_rule": 1}) == [line]
    assert coded(equal, {}) == coded(equal, None) == [line]
    assert coded(equal, FILES) == []


def test_code_in_a_comparison(output, tmp_path):
    """Of two studies, A's value first; a file that one of them has not is left out."""
    places = []
    for name, files in (
        ("one", FILES),
        ("two", {"gpt2/a.py": "f" * 64, "gpt2/own.py": "d" * 64}),
    ):
        identity = {"code": files["gpt2/a.py"], "code_rule": 2}
        path = write(tmp_path, ARM, 5, name=name, **identity)
        record = json.loads((path / "run.json").read_text())
        atomic.write_json(path / "run.json", {**record, "code_files": files})
        places.append(tmp_path / name)
    line = f"code, gpt2/a.py: {'a' * 12} | {'f' * 12}"
    assert ledger_of(compare.compare(*places)) == [line]
    assert ledger_of(compare.compare(places[0], places[0])) == ["the same"]


# -- what may differ


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_what_a_time_budget_frees(equal, row):
    """Tokens and steps and nothing else; and only where both have such a budget."""
    name, where, _, other, told, others = row
    timed = {"summary.facts.budget": "time"}
    line = f"{name}: {others} in {ARM}; {told} elsewhere"
    if name == "budget":
        return
    free = name in ("tokens trained", "optimizer steps")
    assert differences(changed(equal, {where: other}, both=timed)) == [line] * (
        not free
    )
    found = differences(changed(equal, {where: other, **timed}))
    assert sorted(found) == sorted([f"budget: time in {ARM}; tokens elsewhere", line])


@pytest.mark.parametrize("kinds", [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_beside_a_gpu_the_processor_may_differ(equal, kinds):
    """And nothing else."""
    control, arm = kinds
    both = {"summary.device.kind": control}
    for name, where, _, other, told, others in ROWS:
        change = {"summary.device.kind": arm, where: other}
        line = f"{name}: {others} in {ARM}; {told} elsewhere"
        expected = [] if name == "processor" else [line]
        assert differences(changed(equal, change, both=both)) == expected


# -- how a line is worded


def run(step: str, seed: int, **documents) -> Run:
    """A run without a directory."""
    where = f"{step}/seed-{seed}"
    return Run(step, seed, "0" * 8, where, "done", "", 0.0, 0.0, documents, ())


def dtypes(*runs: tuple[str, int, str | None]) -> list[str]:
    """The ledger's lines on runs that differ in their compute type."""
    made = [
        run(step, seed, summary={"facts": {"dtype": value}})
        for step, seed, value in runs
    ]
    return fairness.differences(made)


def test_who_has_which_value():
    """The most frequent value is elsewhere; a step that has one whole names no seed."""
    assert dtypes(
        *[("a", seed, "bf16") for seed in (3, 5)],
        *[("b", seed, "fp32") for seed in (3, 5, 8)],
        *[("c", seed, "bf16" if seed == 5 else None) for seed in (3, 4, 5)],
        *[("a", seed, "bf16") for seed in (6, 7)],
    ) == ["dtype: fp32 in b; not recorded in c (seeds 3-4); bf16 elsewhere"]
    assert dtypes(("a", 1, "x"), ("b", 1, "y"), ("b", 2, "y")) == [
        "dtype: x in a; y elsewhere"
    ]
    assert dtypes(("a", 1, "x"), ("b", 1, "x")) == []


@pytest.mark.parametrize(
    "value, told",
    [
        (None, "not recorded"),
        (0, "0"),
        (False, "False"),
        ("", ""),
        ("ab" * 20, "abababababab"),
        ("ab" * 19 + "a", "ab" * 19 + "a"),
        ("ab" * 20 + "g", "ab" * 20 + "g"),
        ("AB" * 20, "AB" * 20),
    ],
)
def test_how_a_value_is_shown(value, told):
    """Forty hexadecimal digits or more are a digest, of which twelve are enough."""
    assert fairness.shown(value) == told


# -- runs that were resumed


def resumed(output: Path, tmp_path: Path, **machines) -> Path:
    """The study with two further attempts of one run of the arm, on these machines."""
    place = tmp_path / "demo"
    shutil.copytree(output / "demo", place)
    (path,) = place.glob(f"{ARM}/seed-5/*")
    with jsonl.open_append(path / "attempts.jsonl") as attempts:
        for number in (2, 3):
            values = {key: each[number - 2] for key, each in machines.items()}
            start = {"event": "start", "attempt": number, "time": START + number}
            attempts.append({**start, **values})
            end = {"event": "end", "attempt": number, "time": START + number}
            end |= {"status": "done", "error": None, "step": 100}
            attempts.append({**end, "torch": "9"})
    return place


BOARDS = [{"kind": "cpu", "name": name} for name in ("a board", "another")]


@pytest.mark.parametrize(
    "name, values, told",
    [
        ("torch", ("2.13.0", "2.11.0"), "2.13.0, then 2.11.0"),
        ("python", ("3.12.1", "3.13.0"), "3.12.1, then 3.13.0"),
        ("device", BOARDS, "a board, then another"),
    ],
)
def test_a_run_that_was_resumed_under_another(output, tmp_path, name, values, told):
    place = resumed(output, tmp_path, **{name: values})
    (path,) = place.glob(f"{ARM}/seed-5/*")
    line = f"{ARM} seed 5 was resumed under another {name}: {told} "
    line += f"({ARM}/seed-5/{path.name})"
    found = gather(place)
    assert found.evidence.verdicts[0].reasons == (line,)
    assert found.warnings == (line,)
    assert ledger_of(compare.compare(place, place)) == [line, line]
    assert ledger_of(compare.compare(place, output / "demo")) == [line]
    assert ledger_of(compare.compare(output / "demo", place)) == [line]


@pytest.mark.parametrize("name", ["torch", "python", "device"])
@pytest.mark.parametrize("value", [BOARDS[0], None])
def test_a_run_that_was_resumed_under_the_same(output, tmp_path, name, value):
    """Or under what was not recorded."""
    text = value if name == "device" or value is None else "2.13.0"
    place = resumed(output, tmp_path, **{name: (text, text)})
    assert fairness.resumed_elsewhere(load(place).runs) == []


# -- how runs ended


def test_runs_that_ended_otherwise(tmp_path):
    """One line per kind of end, with the number of its runs."""
    ends = {
        "tokens": [("tokens", 1), ("time", 2), (None, 1)],
        "time": [("tokens", 3), ("time", 1), ("signal", 1)],
    }
    made = [
        run("a", 10 * len(budget) + k, summary={"facts": facts, "stopped_by": end})
        for budget, counts in ends.items()
        for facts in [{"budget": budget}]
        for end, count in counts
        for k in range(count)
    ]
    made = [replace(each, run_dir=str(n)) for n, each in enumerate(made)]
    assert fairness.other_ends(made) == [
        "2 runs with the budget 'tokens' ended by time",
        "3 runs with the budget 'time' reached CONFIG_GPT2_MAX_ITERS before the time "
        "was over: raise it",
        "1 run with the budget 'time' ended by signal",
    ]


def test_runs_that_shared_a_gpu():
    made = [run("a", k, config={"RUNS_PER_GPU": n}) for k, n in enumerate([1, 2, 4])]
    assert fairness.shared_gpus([*made, run("a", 3, config={})]) == [
        "2 runs shared a GPU with up to 3 other cells (CONFIG_RUNS_PER_GPU): speeds "
        "and step times are no evidence, and energy counts the power of all of them"
    ]
    assert fairness.shared_gpus(made[:1]) == []
    (line,) = fairness.shared_gpus(made[:2])
    assert line.startswith("1 run shared a GPU with up to 1 other cell (")


@pytest.mark.parametrize("name", METRICS)
def test_what_a_shared_gpu_changes(equal, name):
    """Speeds and times are NON_DIAGNOSTIC; losses and memory are not."""
    study = changed(equal, {}, both={"config.RUNS_PER_GPU": 2})
    reasons = judged(study, Terms(METRICS[name], smallest=None)).reasons or ("",)
    timed = name in ("tokens_per_s", "step_time", "train_time")
    assert ("6 runs shared a GPU" in reasons[0]) == timed
