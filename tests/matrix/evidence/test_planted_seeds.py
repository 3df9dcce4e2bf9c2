"""Planted studies: seeds left out, copied, lost; each beside its honest neighbour."""

import json
import shutil
from pathlib import Path

import pytest

from matrix.evidence.survivors import mcnemar
from matrix.evidence.gather import gather
from matrix.results.selection import Looks, CONFIRM, SCREEN, Terms
from records import atomic
from records.jsonl import open_append
from tests.matrix.evidence.test_weigh import SEEDS, evidence, noise, runs
from tests.matrix.synthetic import START, Cell

PLAIN = {"values": {"INIT_SALT": ""}}
NAN = float("nan")


@pytest.fixture
def base(tmp_path) -> Path:
    """A control, and an arm that is 0.01 better in all of SEEDS."""
    runs(tmp_path, "00-base")
    runs(tmp_path, "01-good", -0.01)
    return tmp_path


def planned(output: Path, terms: Terms = Terms(), seeds=SEEDS, **cells):
    """The verdict on 01-good where the plan holds `seeds`; `cells` go to every one."""
    steps = ("00-base", "01-good")
    hashes = frozenset(
        Cell(step, seed, (), **{**PLAIN, **cells}).hash
        for step in steps
        for seed in seeds
    )
    selection = {"steps": steps, "seeds": tuple(seeds), "hashes": hashes}
    return evidence(output, terms, **selection).of("01-good")


# -- seeds that ran and are left out


def test_a_seed_that_ran_and_is_not_judged(base):
    found = planned(base, seeds=(1, 2, 3, 4, 5))
    assert found.label == "INVALID"
    for step, line in zip(("01-good", "00-base"), found.reasons):
        path = Cell(step, 6, (), **PLAIN).path(base)
        there = path.relative_to(base / "demo").as_posix()
        assert line == f"{step}: seed 6 ran and is left out ({there})"
    assert planned(base).label == "SUPPORTED better", "all of them are judged"


def test_several_seeds_of_the_arm_alone(base):
    for seed in (7, 8):
        Cell("01-good", seed, (5.5, 3.4, 3.9 + seed), **PLAIN).finish(base)
    (line,) = planned(base).reasons
    assert line.startswith("01-good: seeds 7-8 ran and are left out (01-good/seed-7/")


def test_a_control_with_a_seed_left_out_spoils_every_arm(base):
    Cell("00-base", 7, (5.5, 3.4, 3.9), **PLAIN).finish(base)
    runs(base, "02-other", +0.01)
    hashes = frozenset(
        Cell(step, seed, (), **PLAIN).hash
        for step in ("00-base", "01-good", "02-other")
        for seed in SEEDS
    )
    found = evidence(base, hashes=hashes)
    assert [v.label for v in found.verdicts] == ["INVALID"] * 2


def test_a_seed_that_diverged_and_is_planned_no_more(base):
    Cell("01-good", 7, (5.5, NAN), **PLAIN).finish(base)
    (line,) = planned(base).reasons
    assert line.startswith("01-good: seed 7 ran (diverged) and is left out (01-good/s")
    early = Cell("01-good", 8, (5.5,), **PLAIN).fail(base, "loss nan at step 1")
    record = json.loads((early / "failure.json").read_text())
    atomic.write_json(early / "failure.json", {**record, "status": "diverged"})
    with open_append(early / "attempts.jsonl") as attempts:
        end = {"event": "end", "attempt": 1, "time": START, "status": "diverged"}
        attempts.append({**end, "step": 1, "error": "loss nan at step 1"})
    (line,) = planned(base).reasons
    assert line.startswith("01-good: seeds 7-8 ran (diverged) and are left out")


def test_a_seed_that_was_stopped_when_its_loss_was_seen(base):
    cell = Cell("01-good", 7, (5.5, 3.9), **PLAIN)
    cell.fail(base, "killed")
    assert planned(base).label == "SUPPORTED better", "it showed nothing"
    with open_append(cell.path(base) / "metrics.jsonl") as metrics:
        metrics.append(cell.eval_rows(cell.losses, 1)[1])
    (line,) = planned(base).reasons
    assert line.startswith("01-good: seed 7 ran (failed) and is left out")


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"INIT_SALT": "", "GPT2_MAX_ITERS": 10}},
        {"identity": {"code": "0ff5" * 16}},
        {"identity": {"code_rule": 2}},
        {"identity": {"dataset": "0ff5" * 16}},
        {"identity": {"threads": 7}},
    ],
    ids=["a trial", "other code", "another rule", "another dataset", "threads"],
)
def test_another_cell_is_no_seed_left_out(base, change):
    Cell("01-good", 7, (5.5, 3.4, 3.9), **{**PLAIN, **change}).finish(base)
    assert planned(base).label == "SUPPORTED better"


def test_what_is_no_part_of_an_identity_hides_no_seed(base):
    """Another SEEDS= is the same cell."""
    values = {"INIT_SALT": "", "SEEDS": "1-9"}
    cell = Cell("01-good", 7, (5.5, 3.9), values=values, operational=("SEEDS",))
    cell.finish(base)
    assert planned(base).label == "INVALID"


def test_a_screening_and_a_planned_look_are_left_out_rightly(base):
    path = Cell("01-good", 7, (5.5, 3.4, 3.9), **PLAIN).finish(base) / "run.json"
    assert planned(base).label == "INVALID"
    looks = Looks((6, 7), (1, 2, 3, 4, 5, 6, 7))
    assert planned(base, Terms(looks=looks)).measured
    looks = Looks((6, 7), (1, 2, 3, 4, 5, 6, 8))
    assert planned(base, Terms(looks=looks)).label == "INVALID"
    used = Terms(stage=CONFIRM, screened=frozenset({7}))
    assert planned(base, used).label == "SUPPORTED better"
    assert planned(base, Terms(stage=SCREEN)).measured, "which claims nothing"
    path.write_text(path.read_text().replace('"seed":', '"stage": "screen", "seed":'))
    assert planned(base).label == "SUPPORTED better"


# -- one run is one seed


def test_a_run_under_two_seeds(base):
    """The same losses at every evaluation, whatever the records call them."""
    losses = gather(base / "demo").study.counted["01-good", 1].evals
    shutil.rmtree(Cell("01-good", 4, (), **PLAIN).path(base))
    Cell("01-good", 4, tuple(row["loss"] for row in losses), **PLAIN).finish(base)
    (verdict,) = evidence(base).verdicts
    assert verdict.label == "INVALID"
    assert verdict.reasons == (
        "01-good: seeds 1 and 4 are one run: the same training curve",
    )


def test_curves_that_meet_are_no_copy(base):
    """One equal evaluation of several; and one arm's losses are no other's."""
    own = noise(len(SEEDS), 5)
    for seed, x in zip(SEEDS, own):
        Cell("02-same-start", seed, (5.5, 3.4, 3.31 + x), **PLAIN).finish(base)
    assert [v.label for v in evidence(base).verdicts][0] == "SUPPORTED better"
    assert evidence(base).of("02-same-start").measured is not None


# -- runs that diverge


def test_an_arm_that_diverges(base):
    for seed in (3, 5):
        shutil.rmtree(Cell("01-good", seed, (), **PLAIN).path(base))
        Cell("01-good", seed, (5.5, NAN), **PLAIN).finish(base)
    (verdict,) = evidence(base).verdicts
    assert verdict.label == "INVALID" and verdict.measured is None
    assert verdict.reasons[-2] == "diverged in seeds 3, 5; control in none (p 0.5)"
    mean = sum(verdict.differences.values()) / 4
    assert verdict.reasons[-1] == (
        f"difference {mean:+.5f} over 4 pairs of survivors, no evidence"
    )


def test_a_control_that_diverges(base):
    for step, seeds in (("00-base", (2, 3)), ("01-good", (3,))):
        for seed in seeds:
            shutil.rmtree(Cell(step, seed, (), **PLAIN).path(base))
            Cell(step, seed, (5.5, NAN), **PLAIN).finish(base)
    (verdict,) = evidence(base).verdicts
    assert "diverged in seed 3; control in seeds 2-3 (p 1)" in verdict.reasons


@pytest.mark.parametrize(
    "pair, p",
    [((0, 0), 1.0), ((2, 0), 0.5), ((0, 6), 2 / 64), ((6, 1), 16 / 128), ((3, 3), 1.0)],
)
def test_the_exact_p_of_discordant_pairs(pair, p):
    assert mcnemar(*pair) == mcnemar(*pair[::-1]) == p
