"""Steps 3, 7, 12, seeds 5, 2, 9, GPUs 6, 2, 5: from the plan to a promotion, by name
and number; nothing is where its number would count it.
"""

import csv
import io
import json
import math
import time
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gpt2.check import prove, table, two_processes
from gpt2.check.studies import Study as Checked
from kconf.bind import SettingsError, ranges
from kconf.study import find_step, list_steps
from kconf.syntax import ConfigError
from matrix import evidence_commands
from matrix.fleet import visible_devices
from matrix.fleet.place import Pool, Slot
from matrix.fleet.topology import Gpu, Group, groups, numbered
from matrix.fleet.topology import Topology
from matrix.launch import prepare
from matrix.plan.steps import step_at
from matrix.report import compare, write
from matrix.report.plots import common
from matrix.results import config_differences
from matrix.results.selection import Selection
from records import atomic, jsonl
from tests.matrix.plan.test_stage import reported
from tests.matrix.synthetic import FACTS

STEPS = {
    "03-base": "# Help: the base\n",
    "07-wide": "# Help: a wider MLP\nCONFIG_MLP_DIM=1024\n",
    "12-hot": '# Help: a higher rate\nCONFIG_LEARNING_RATE="1e-3"\n',
    "20-again": '# Help: the control again\nCONFIG_INIT_SALT="aa"\n',
}
SHIFT = {"03-base": 0.0, "07-wide": 0.02, "12-hot": -0.03, "20-again": 0.0004}
SEEDS = (5, 2, 9)


def loss(step: str, seed: int) -> float:
    """The final loss of a cell; no two are the same."""
    return 3 + SHIFT[step] + 0.01 * seed + 0.0001 * ((seed * int(step[:2])) % 11)


@pytest.fixture
def study(checkout, monkeypatch):
    """A checkout with these steps and seeds; plots are not drawn."""
    for path in (checkout.root / "defconfigs/toy.d").iterdir():
        path.unlink()
    for name, text in STEPS.items():
        checkout.step(name, text)
    checkout.base = checkout.base.replace('SEEDS="1-2"', 'SEEDS="5,2,9"')
    checkout.base += 'CONFIG_PROMOTE=1\nCONFIG_CONFIRM_SEEDS="31,17,40"\n'
    checkout.configure()
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
    return checkout


def train(checkout, **environment):
    """As if the plan's cells had been trained, with evaluations at 3, 7 and 12."""
    plan = checkout.plan(**environment)
    for cell in plan.cells:
        final = loss(cell.step, cell.seed)
        provenance = {"time": time.time(), "cpu": "A Processor", "git": {}}
        prepare.write(plan, cell, ["python"], provenance)
        with jsonl.open_append(cell.dir.metrics) as metrics:
            for at, more in ((0, 6.0), (3, 2.0), (7, 0.5), (12, 0.0)):
                row = {"kind": "eval", "attempt": 1, "step": at, "loss": final + more}
                numbers = {"tokens": 64 * at, "time": 2.0 * at, "bits_per_byte": 1.0}
                metrics.append({**row, **numbers})
        with jsonl.open_append(cell.dir.attempts) as attempts:
            attempts.append({"event": "start", "attempt": 1, "time": time.time()})
        summary = {"schema": 1, "hash": cell.hash, "step": 12, "facts": FACTS}
        summary["final_eval"] = {"loss": final, "step": 12}
        atomic.write_json(cell.dir.summary, {**summary, "stopped_by": "tokens"})
    return checkout.plan(**environment)


def average(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def d(step: str, seeds=SEEDS) -> dict[int, float]:
    """Arm minus control by seed."""
    return {k: loss(step, k) - loss("03-base", k) for k in sorted(seeds)}


def test_the_cells_of_a_plan(study):
    """Seeds as they are written, within them the steps; names, values and directory
    are those of the step and of the seed.
    """
    plan = study.plan()
    assert [cell.name for cell in plan.cells] == [
        f"{step} seed-{seed}" for seed in SEEDS for step in STEPS
    ]
    for cell in plan.cells:
        assert cell.values["SEED"] == cell.seed and cell.control is (
            cell.step[0:2] == "03"
        )
        assert cell.dir.path.parts[-3:-1] == (cell.step, f"seed-{cell.seed}")
        wide, hot = cell.step == "07-wide", cell.step == "12-hot"
        assert (cell.values["MLP_DIM"] == 1024) is wide
        assert (cell.values["LEARNING_RATE"] == "1e-3") is hot
        assert cell.fragment == STEPS[cell.step] and cell.help in STEPS[cell.step]
    changes = {cell.step: cell.changes for cell in plan.cells}
    assert changes["07-wide"] == ("MLP_DIM",) and changes["03-base"] == ()
    assert changes["20-again"] == (config_differences.SALT,)


@pytest.mark.parametrize(
    "environment, steps, seeds, control",
    [
        ({"STEPS": "12"}, ["12-hot"], SEEDS, "03-base"),
        ({"STEPS": "20,7"}, ["07-wide", "20-again"], SEEDS, "03-base"),
        ({"STEPS": "3,7-7"}, ["03-base", "07-wide"], SEEDS, "03-base"),
        ({"SEEDS": "3-5"}, [*STEPS], (3, 4, 5), "03-base"),
        ({"SEEDS": "9,3-4,0"}, [*STEPS], (9, 3, 4, 0), "03-base"),
        ({"CONTROL": "12"}, [*STEPS], SEEDS, "12-hot"),
        ({"CONTROL": "07-wide", "STEPS": "12"}, ["12-hot"], SEEDS, "07-wide"),
    ],
)
def test_what_a_number_chooses(study, environment, steps, seeds, control):
    plan = study.plan(**environment)
    assert [c.name for c in plan.cells] == [
        f"{s} seed-{k}" for k in seeds for s in steps
    ]
    reference = [] if control in steps else [f"{control} seed-{k}" for k in seeds]
    assert [cell.name for cell in plan.reference] == reference
    controls = {c.step for c in [*plan.reference, *plan.cells] if c.control}
    assert controls == {control}


@pytest.mark.parametrize(
    "environment, why",
    [
        ({"STEPS": "0"}, "no step 0; it has 3, 7, 12, 20"),
        ({"STEPS": "3-7"}, "no step 4;"),
        ({"CONTROL": "1"}, "1 is none of 03-base, 07-wide"),
        ({"CONTROL": "0"}, "0 is none of"),
    ],
)
def test_what_no_number_chooses(study, environment, why):
    with pytest.raises(SettingsError, match=why):
        study.plan(**environment)


def test_a_study_to_its_end(study, capsys):
    """Report, runs.csv, verdict, comparison, on numbers by hand."""
    train(study, CONTROL="7", STEPS="12", SEEDS="2")
    plan = train(study)
    assert [cell.state for cell in plan.cells] == ["done"] * 12
    found = reported(plan)
    assert [row.step for row in found.rows] == [*STEPS]
    assert found.study.seeds == (2, 5, 9) and found.warnings == ()
    for row in found.rows:
        assert row.losses == {k: loss(row.step, k) for k in (2, 5, 9)}
    evidence = found.evidence
    assert evidence.family == ("07-wide", "12-hot") and evidence.aa == ("20-again",)
    for verdict in evidence.verdicts:
        assert verdict.differences == pytest.approx(d(verdict.step))
    told = {verdict.step: verdict.label for verdict in evidence.verdicts}
    assert (told["07-wide"], told["12-hot"]) == ("LIMITED worse", "LIMITED better")
    paths = write.write(plan.study_dir, Selection(tuple(STEPS)))
    for line in csv.DictReader(io.StringIO(paths.csv.read_text())):
        assert float(line["loss"]) == loss(line["step"], int(line["seed"]))
        assert (line["control"] == "True") is (line["step"] == "03-base")
        assert line["run_dir"].startswith(f"{line['step']}/seed-{line['seed']}/")
    text = paths.markdown.read_text().split("Differences seed by seed")[1]
    for step in ("07-wide", "12-hot"):
        (row,) = [x for x in text.splitlines() if x.startswith(f"| `{step}`")][:1]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:4] == [f"{x:+.5f}" for x in d(step).values()]
    assert evidence_commands.perform("verdict", plan, {"STEP": "12"}) == 0
    said = capsys.readouterr().out
    assert said.startswith("12-hot against 03-base: LIMITED better (not ")
    assert (
        "by seed " + ", ".join(f"{k}: {x:+.5f}" for k, x in d("12-hot").items()) in said
    )
    for name in ("1", "2", "0"):
        with pytest.raises(SettingsError, match=f"{name} is none of 07-wide, 12-hot"):
            evidence_commands.perform("verdict", plan, {"STEP": name})
    other = reported(study.plan(CONTROL="12", STEPS="7")).evidence
    expected = {k: loss("07-wide", k) - loss("12-hot", k) for k in (2, 5, 9)}
    assert other.control == "12-hot"
    assert other.of("07-wide").differences == pytest.approx(expected)
    a, b = (next(plan.study_dir.glob(f"{x}/seed-5/*")) for x in ("07-wide", "12-hot"))
    text = compare.compare(a, b)
    (line,) = [
        x.split() for x in text.splitlines() if x.startswith("  validation loss")
    ]
    values = (loss("07-wide", 5), loss("12-hot", 5))
    assert line[3:5] == [f"{x:.6g}" for x in values]
    assert float(line[5]) == pytest.approx(values[1] - values[0], abs=1e-6)
    assert "CONFIG_MLP_DIM: 1024 | " in text and "CONFIG_SEED" not in text


def test_a_screening_and_its_confirmation(study, capsys):
    """The best by its loss; its seeds are used up, the fresh ones in their order."""
    plan = train(study, DESIGN="screen-confirm", STAGE="screen")
    assert evidence_commands.perform("promote", plan, {}) == 0
    shown = capsys.readouterr().out.splitlines()
    ranked = sorted(("07-wide", "12-hot"), key=lambda step: average(d(step).values()))
    for place, (line, step) in enumerate(zip(shown, ranked), 1):
        mark = ["promoted"] * (place == 1)
        middle = f"{average(d(step).values()):+.5f}"
        assert line.split() == [f"{place}.", step, middle, *mark]
    record = json.loads((plan.study_dir / "promotion.json").read_text())
    assert record["promoted"] == ["12-hot"] and record["seeds"] == [2, 5, 9]
    confirm = study.plan(DESIGN="screen-confirm", STAGE="confirm")
    steps = ("03-base", "12-hot", "20-again")
    assert [cell.name for cell in confirm.cells] == [
        f"{step} seed-{seed}" for seed in (31, 17, 40) for step in steps
    ]
    assert evidence_commands.prereg(confirm, None) == 0
    path = plan.study_dir / "preregistration-confirm.json"
    sealed = json.loads(path.read_text())
    assert (sealed["arms"], sealed["aa"]) == (["12-hot"], ["20-again"])
    assert (sealed["seeds"], sealed["control"]) == ([31, 17, 40], "03-base")
    assert sealed["cells"] == {f"{c.step}/seed-{c.seed}": c.hash for c in confirm.cells}
    done = reported(train(study, DESIGN="screen-confirm", STAGE="confirm"))
    assert done.registration.deviations == () and done.evidence.seeds == (17, 31, 40)
    expected = {k: loss("12-hot", k) - loss("03-base", k) for k in (17, 31, 40)}
    assert done.evidence.of("12-hot").differences == pytest.approx(expected)


# -- numbers that are written


@pytest.mark.parametrize(
    "raw, numbers",
    [
        ("3-5", (3, 4, 5)),
        ("0", (0,)),
        ("9,2,5", (9, 2, 5)),
        ("7-7", (7,)),
        ("12,3-4, 0", (12, 3, 4, 0)),
    ],
)
def test_lists_of_numbers(raw, numbers):
    assert ranges("SEEDS", raw) == numbers


@pytest.mark.parametrize(
    "raw, why",
    [
        ("5-3", "the range '5-3' is reversed"),
        ("3-5,4", "4 is named twice"),
        ("", "'' is not a number"),
        ("3,", "'' is not a number"),
        ("-3", "'-3' is not a number"),
        ("3-", "'3-' is not a number"),
        ("1-10001", "names more than 10,000 numbers"),
        ("0,1-10000", "names more than 10,000 numbers"),
        ("1" * 19, "over 18 digits"),
    ],
)
def test_lists_that_are_none(raw, why):
    with pytest.raises(SettingsError, match=why):
        ranges("SEEDS", raw)


def test_the_most_numbers_of_a_list():
    assert len(ranges("SEEDS", "1-10000")) == 10_000
    assert len(ranges("SEEDS", "0,1-9999")) == 10_000
    assert ranges("SEEDS", "9" * 18) == (int("9" * 18),)


def test_a_step_by_its_number():
    ids = [*STEPS]
    for name, at in {"3": 0, "03": 0, "7": 1, "12": 2, "20-again": 3, "": 0}.items():
        assert step_at(ids, name) == at
    for name in ("0", "1", "2", "again", "120", "3-base"):
        with pytest.raises(SettingsError, match=f"{name} is none of"):
            step_at(ids, name)
    assert step_at(["adamw-lr3", "3-x"], "3") == 1, "a name that begins with no number"


def test_steps_by_number_slug_and_name(study, monkeypatch):
    files = list_steps(study.root, "toy")
    assert [file.number for file in files] == [3, 7, 12, 20]
    assert [file.select for file in files] == ["STEP=3", "STEP=7", "STEP=12", "STEP=20"]
    wanted = {"3": 0, "03": 0, "base": 0, "7": 1, "07-wide": 1, "12": 2, "again": 3}
    for name, at in wanted.items():
        assert find_step(files, name) is files[at]
    for name in ("0", "1", "2", "007"):
        with pytest.raises(ConfigError, match=f"no step '{name}'"):
            find_step(files, name)
    checked = Checked("toy", (), (), files)
    for chosen, ids in {"12": [12], "20,3": [3, 20], "7-7": [7]}.items():
        assert [step.number for step in checked.only(chosen).steps] == ids
    with pytest.raises(ConfigError, match="no step 4; its steps: 3, 7, 12, 20"):
        checked.only("3-7")


# -- who proves what


def cases(count: int) -> list[prove.Case]:
    names = ["12-hot", "03-base", "20-again", "07-wide", "09-x"][:count]
    return [prove.Case(table.Verdict("toy", name, "", "")) for name in names]


def test_cases_come_back_at_their_places(monkeypatch):
    """Whoever proved them, in whatever order."""
    monkeypatch.setattr(
        two_processes, "prove", lambda case: case.verdict.proofs.append("mine")
    )
    partner, given = cases(5), cases(5)
    taken, sent = SimpleNamespace(value=1, get_lock=Lock), []
    both = two_processes.Pair.__new__(two_processes.Pair)
    both.taken = taken
    both.pipe = SimpleNamespace(
        send=sent.append, recv=lambda: {0: partner[0], 2: partner[2]}
    )
    seen = []
    found = both.prove(given, seen.append)
    names = [case.verdict.step for case in found]
    assert names == ["12-hot", "03-base", "20-again", "07-wide", "09-x"]
    assert found[0] is partner[0] and found[2] is partner[2] and found[4] is given[4]
    assert seen == [1, 2, 3, 4, 5] and sent == [given]


class Lock:
    """A lock that nobody waits for."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_twins_are_earlier_cases(monkeypatch):
    """By index of the first case with the same network; theirs is inherited."""

    def subject(model, lr):
        system = SimpleNamespace(dtype="fp32")
        train = SimpleNamespace(init_salt="")
        settings = SimpleNamespace(model=model, system=system, train=train, lr=lr)
        return SimpleNamespace(settings=settings, small=settings)

    made = cases(5)
    for case, model in zip(made, ["a", "b", "a", "b", "c"]):
        case.subject = subject(model, case.verdict.step)
        with prove.Recorded(case.verdict, "strict load"):
            prove.find_network(case)
    prove.find_twins(made)
    assert [case.twin for case in made] == [None, None, 0, 1, None]
    for number, case in enumerate(made):
        case.function, case.initial = f"f{number}", {("w",): f"i{number}"}
        case.verdict.parameters = 10 + number
    prove.inherit(made)
    assert [case.function for case in made] == ["f0", "f1", "f0", "f1", "f4"]
    assert [case.verdict.parameters for case in made] == [10, 11, 10, 11, 14]
    assert [case.verdict.network_of for case in made] == [
        *(None, None, "toy 12-hot", "toy 03-base", None)
    ]


def test_the_columns_of_the_table(capsys):
    one = table.Verdict(
        "toy", "07-wide", "", "", 1234, 0.5, 7_000_000, 96, 2**31, 4, 1.25
    )
    two = replace(one, step="12-hot", memory_bytes=None, promise="causality")
    table.print_table([one, two, replace(one, study="other", network_of="x")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["toy"] and lines[4] == ["other"]
    assert lines[1] == [
        "step",
        "parameters",
        "attn:MLP",
        "MFLOP/token",
        "cache/token",
    ] + [*("memory", "at", "batch", "time")]
    row = [
        "07-wide",
        "1,234",
        "1:0.500",
        "7.0",
        "96",
        "2.00",
        "GiB",
        "at",
        "4",
        "1.2s",
    ]
    assert lines[2] == [*row, "✓"] == lines[6]
    assert lines[3] == ["12-hot", *row[1:5], "1.2s", "✗"]
    assert lines[7][:3] == ["1", "step", "shares"]


# -- devices


def gpus(*numbers: int, node: int = 0) -> tuple[Gpu, ...]:
    """GPUs of these numbers, in this order; `visible` is none of them."""
    return tuple(
        Gpu(
            n,
            "amd",
            f"0000:{n:02x}:00.0",
            str(n + 20),
            "MI",
            2**36,
            uuid=f"GPU-{n}",
            node=node,
        )
        for n in numbers
    )


class Leases:
    """Leases that are always given; what was asked for."""

    def __init__(self):
        self.asked = []

    def whole(self, bus):
        taken = bus in self.asked
        self.asked.append(bus)
        return None if taken else []

    def port(self):
        return 4000 + len(self.asked), []


def pool(tmp_path, *found: Group) -> Pool:
    return Pool(found, Leases(), lambda: {}, lambda node: False, tmp_path)


def job(step="a", seed=5, ranks=1):
    values = {"GPUS_PER_RUN": ranks}
    return SimpleNamespace(step=step, seed=seed, values=values, device="cuda")


def test_slots_name_their_gpus(tmp_path):
    """The numbers and masks of the GPUs that are leased, not their places."""
    cpus = frozenset()
    both = pool(
        tmp_path,
        Group("A", 3, cpus, gpus(6, 2, 5, 1, 9)),
        Group("B", 8, cpus, gpus(11, 4, node=8)),
    )
    assert (both.capacity(2), both.capacity(1)) == (3, 7)
    slots = list(iter(lambda: both.take(job(ranks=2), print), None))
    assert [[gpu.index for gpu in slot.gpus] for slot in slots] == [
        [6, 2],
        [11, 4],
        [5, 1],
    ]
    one = slots[2]
    record = one.record()
    assert (record["gpus"], record["group"], record["node"]) == ([5, 1], "A", 3)
    assert record["buses"] == ["0000:05:00.0", "0000:01:00.0"]
    assert (
        one.environment({"HIP_VISIBLE_DEVICES": "0"})["HIP_VISIBLE_DEVICES"] == "25,21"
    )
    assert one.line().startswith("placed on group A, GPU 5 (0000:05:00.0), 1 (0000:01")
    assert one.cache.name == "0000-05-00.0+0000-01-00.0"
    assert Slot(2, port=77).command("py", ["x"])[0] == "py"


def test_the_order_of_seeds_and_arms(tmp_path):
    """Forwards, backwards, shifted: by the place of a seed, not by its number."""
    seeds, steps = (9, 2, 40, 5), ("c", "a", "d", "b")
    cells = [job(step, seed) for seed in seeds for step in steps]
    found = [(c.seed, c.step) for c in pool(tmp_path).order(cells, seeds)]
    assert found == [
        *((9, "c"), (9, "a"), (9, "d"), (9, "b")),
        *((2, "b"), (2, "d"), (2, "a"), (2, "c")),
        *((40, "d"), (40, "b"), (40, "c"), (40, "a")),
        *((5, "a"), (5, "c"), (5, "b"), (5, "d")),
    ]


def test_the_next_cell_is_of_the_seed_in_front(tmp_path):
    here = pool(tmp_path)
    slot = Slot(1, Group("B", 8, frozenset(), gpus(4)), gpus(4))
    for step in ("a", "b", "b"):
        here.started(job(step, 7), slot)
    here.started(job("c", 7), Slot(1, Group("A", 3, frozenset(), gpus(6)), gpus(6)))
    queue = deque([job("b", 9), job("a", 9), job("c", 5), job("d", 9, ranks=2)])
    assert here.choose(queue, slot).step == "a"
    assert [(c.step, c.seed) for c in queue] == [("b", 9), ("c", 5), ("d", 9)]


@pytest.mark.parametrize(
    "environment, found",
    [
        ({}, [(6, "0"), (2, "1"), (5, "2"), (1, "3")]),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, [(5, "0"), (6, "1")]),
        (
            {"ROCR_VISIBLE_DEVICES": "3,1,0", "HIP_VISIBLE_DEVICES": "2,0"},
            [(6, "2"), (1, "0")],
        ),
        ({"CUDA_VISIBLE_DEVICES": "3,-1,0"}, [(1, "3")]),
        ({"HIP_VISIBLE_DEVICES": "1,4,0"}, [(2, "1")]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-5,GPU-1"}, [(5, "0"), (1, "1")]),
    ],
)
def test_what_a_mask_leaves(environment, found):
    """Numbers count what the mask before left; the GPU keeps its own."""
    left = visible_devices.allowed(gpus(6, 2, 5, 1), environment)
    assert [(gpu.index, gpu.visible) for gpu in left] == found


def test_groups_keep_the_numbers_of_their_gpus():
    """By vendor and node; never more than asked for."""
    five, two = gpus(6, 2, 5, 1, 9, node=7), gpus(3, 8, node=2)
    nodes = {7: frozenset({70, 71}), 2: frozenset({20})}
    made = groups(Topology((*five, *two), nodes), [*five, *two], 2)
    assert [
        (g.name, g.node, sorted(g.cpus), [x.index for x in g.gpus]) for g in made
    ] == [
        ("A", 2, [20], [3, 8]),
        ("B", 7, [70, 71], [6, 2]),
        ("C", 7, [70, 71], [5, 1]),
        ("D", 7, [70, 71], [9]),
    ]
    again = numbered([replace(gpu, index=-1) for gpu in five])
    assert [(gpu.index, gpu.bus[5:7]) for gpu in again] == [
        *((0, "06"), (1, "02"), (2, "05"), (3, "01"), (4, "09"))
    ]
