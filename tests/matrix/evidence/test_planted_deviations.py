"""Planted studies: what was changed after the first run, and what only looks like it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.evidence import preregistration
from matrix.evidence.deviations import DAY, idle
from matrix.evidence.gather import gather
from matrix.report.plots import common
from matrix.report.write import render_terminal, write
from matrix.results.metrics import METRICS
from matrix.results.selection import SCREEN, Selection, Terms
from tests.matrix.evidence.test_weigh import noise
from tests.matrix.imagined import run
from tests.matrix.synthetic import START, Cell

HOUR = 3600.0
SYMBOLS = {
    "SEEDS": "1-6",
    "ALPHA": "0.05",
    "SMALLEST_EFFECT": "0.002",
    "METRIC": "val_loss",
    "METRIC_LAST_EVALS": 1,
}


TWO, THREE = ({**SYMBOLS, "SEEDS": seeds} for seeds in ("1-2", "1-3"))


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def round_of(output: Path, seed: int, start: float, **symbols) -> None:
    """Control and arm of a seed, one after the other, an hour each."""
    values = {"INIT_SALT": "", **SYMBOLS, **symbols}
    own = noise(9, 3)[seed]
    for step, shift in (("00-base", 0.0), ("01-good", -0.01 + own)):
        one_run(output, step, seed, start, shift, values)
        start += HOUR


def one_run(output, step, seed, start, shift=0.0, values=SYMBOLS, **more) -> Path:
    """A run of an hour that began at `start`."""
    path = Cell(
        step,
        seed,
        (5.5, 3.4, 3.3 + 0.001 * seed + shift),
        values={"INIT_SALT": "", **values},
        operational=tuple(SYMBOLS),
        finished=start + HOUR,
        control=step == "00-base",
        **more,
    ).finish(output)
    attempts = path / "attempts.jsonl"
    began, text = str(start + HOUR - 60.0), attempts.read_text()
    assert text.count(began) == 1
    attempts.write_text(text.replace(began, str(start)))
    return path


def study(output: Path, later: float = 0.0, **symbols) -> Path:
    """Six rounds; `later` and `symbols` are of the last three."""
    for seed in range(1, 7):
        late = seed > 3
        start = START + 2 * HOUR * seed + late * later
        round_of(output, seed, start, **(symbols if late else {}))
    return output / "demo"


def changed(place: Path, **terms) -> tuple[str, ...]:
    return gather(place, Selection(terms=Terms(**terms))).deviations


def test_the_first_plan_unchanged(tmp_path):
    assert changed(study(tmp_path)) == ()


def test_a_pause_between_rounds_parts_no_pair(tmp_path):
    assert changed(study(tmp_path, later=9 * DAY)) == ()


# -- seeds


def test_seeds_added_when_others_had_run(tmp_path):
    for seed in range(1, 7):
        symbols = {"SEEDS": "1-3"} if seed < 4 else {}
        round_of(tmp_path, seed, START + 2 * HOUR * seed, **symbols)
    assert changed(tmp_path / "demo") == ("seeds 4-6 added after seeds 1-3 had run",)


def test_seeds_of_two_machines_at_once(tmp_path):
    """The second list began before a run of the first was done."""
    for seed in range(1, 7):
        values = {**SYMBOLS, "SEEDS": "1-3" if seed < 4 else "4-6"}
        one_run(tmp_path, "00-base", seed, START, values=values)
        one_run(tmp_path, "01-good", seed, START + 60, -0.01, values)
    assert changed(tmp_path / "demo") == ()


def test_seeds_that_were_sealed_were_not_added(tmp_path, monkeypatch):
    """One at a time, `SEEDS=1 make` and so on, as they were announced."""
    for seed in range(1, 7):
        round_of(tmp_path, seed, START + 2 * HOUR * seed, SEEDS=str(seed))
    assert changed(tmp_path / "demo") == ("seeds 2-6 added after seed 1 had run",)
    seeds = (1, 2, 3, 4, 5, 6)
    monkeypatch.setattr(preregistration, "announced_seeds", lambda *_: seeds)
    assert changed(tmp_path / "demo") == ()


def test_a_list_that_is_cut_where_it_suits(tmp_path):
    """SEEDS=1-6 and six seeds, then SEEDS=1-4: peeking backwards."""
    for seed in range(1, 5):
        round_of(tmp_path, seed, START + 2 * HOUR * seed)
    assert changed(tmp_path / "demo") == (
        "seeds 5-6 were planned when a run started and not judged now",
    )


def test_runs_put_aside_whose_seeds_nobody_judges(tmp_path):
    place = study(tmp_path)
    home = tmp_path / ".replaced/demo/01-good/seed-7"
    (home / f"{'0' * 8}-1").mkdir(parents=True)
    assert changed(place) == (
        "put aside, and their seeds are not judged: "
        f".replaced/demo/01-good/seed-7/{'0' * 8}-1",
    )


def test_a_trial_deviates_from_nothing(tmp_path):
    """A short run of another configuration, judged by nobody, came first."""
    place = study(tmp_path)
    values = {**SYMBOLS, "SEEDS": "1", "ALPHA": "0.2", "GPT2_MAX_ITERS": 9}
    one_run(tmp_path, "00-base", 1, START - DAY, values=values, salt="trial")
    assert changed(place) == ()


def test_older_records_are_not_compared(tmp_path):
    for seed in range(1, 7):
        for step, shift in (("00-base", 0.0), ("01-good", -0.01)):
            one_run(tmp_path, step, seed, START + HOUR * seed, shift, values={})
    assert changed(tmp_path / "demo", alpha=0.01, smallest=None) == ()


@pytest.mark.parametrize("seeds", ["", "x", "3-1", "1-99999999999"])
def test_a_list_that_nobody_planned_with(tmp_path, seeds):
    assert changed(study(tmp_path, SEEDS=seeds)) == ()
    for path in tmp_path.glob("demo/*"):
        shutil.rmtree(path)
    for seed in range(1, 4):
        round_of(tmp_path, seed, START + 2 * HOUR * seed, SEEDS=seeds, ALPHA=seeds)
    assert changed(tmp_path / "demo") == ()


# -- what it is judged by


@pytest.mark.parametrize(
    "terms, line",
    [
        ({"alpha": 0.01}, "CONFIG_ALPHA: 0.05 when the first run started, now 0.01"),
        (
            {"smallest": 0.005},
            "CONFIG_SMALLEST_EFFECT: 0.002 when the first run started, now 0.005",
        ),
        (
            {"smallest": None},
            "CONFIG_SMALLEST_EFFECT: 0.002 when the first run started, now none",
        ),
        (
            {"last_evals": 2},
            "CONFIG_METRIC_LAST_EVALS: 1 when the first run started, now 2",
        ),
        (
            {"metric": METRICS["perplexity"], "smallest": None},
            "CONFIG_METRIC: val_loss when the first run started, now perplexity",
        ),
    ],
)
def test_terms_that_changed(tmp_path, terms, line):
    assert changed(study(tmp_path), **terms) == (line,)
    assert changed(tmp_path / "demo", **terms, stage=SCREEN) == (), "no claim"


def test_another_control(tmp_path):
    place = study(tmp_path)
    selection = Selection(steps=("01-good", "00-base"))
    assert gather(place, selection).deviations == (
        "CONFIG_CONTROL_STEP: 00-base when the first run started, now 01-good",
    )


def test_deviations_stand_beside_the_verdicts(tmp_path):
    """In the report and in the table that ends make."""
    place = study(tmp_path)
    paths = write(place, Selection(terms=Terms(alpha=0.01)))
    line = "CONFIG_ALPHA: 0.05 when the first run started, now 0.01"
    first_page = paths.markdown.read_text().split("\n## ")[0].replace("\\", "")
    assert line in first_page
    told = " ".join(render_terminal(paths.report).split())
    assert "01-good: LIMITED better (not preregistered; 1 deviation)" in told
    assert f"deviation: {line}" in told


# -- runs that were replaced


def test_runs_that_were_replaced(tmp_path):
    place = study(tmp_path)
    home = tmp_path / ".replaced/demo/01-good/seed-2"
    values = {"INIT_SALT": "", **SYMBOLS}
    judged = Cell("01-good", 2, (), values=values, operational=tuple(SYMBOLS))
    (home / f"{'0' * 8}-1").mkdir(parents=True)
    assert changed(place) == (), "a trial that was run again"
    (home / f"{judged.hash[:8]}-1").mkdir()
    assert changed(place) == (
        "replaced by another run of the cell: .replaced/demo/01-good/seed-2/"
        f"{judged.hash[:8]}-1",
    )


# -- pairs that are far apart


def test_a_control_much_older_than_the_arm(tmp_path):
    for seed in range(1, 4):
        one_run(tmp_path, "00-base", seed, START + HOUR * seed, values=THREE)
        at = START + HOUR * seed + 3 * DAY + HOUR
        one_run(tmp_path, "01-good", seed, at, -0.01 * seed, THREE)
    assert changed(tmp_path / "demo") == (
        "seeds 1-3 of 00-base had ended 3.0 days before 01-good began",
    )


def test_a_control_that_came_later(tmp_path):
    one_run(tmp_path, "01-good", 1, START, -0.01, TWO)
    one_run(tmp_path, "00-base", 1, START + HOUR + 2 * DAY, values=TWO)
    one_run(tmp_path, "01-good", 2, START, -0.02, TWO)
    one_run(tmp_path, "00-base", 2, START + HOUR, values=TWO)
    assert changed(tmp_path / "demo") == (
        "seed 1 of 01-good had ended 2.0 days before 00-base began",
    )


def test_a_long_round_is_no_pause(tmp_path):
    """Thirty arms of an hour each: the last begins 30 hours after the control."""
    for seed in (1, 2):
        for number in range(30):
            step = "00-base" if not number else f"{number:02d}-arm"
            at = START + (30 * seed + number) * HOUR
            one_run(tmp_path, step, seed, at, 1e-3 * number * seed, TWO)
    assert changed(tmp_path / "demo") == ()


def test_time_without_a_run():
    made = [
        replace(run("a", 1, [3.0]), began=began, time=end)
        for began, end in ((10.0, 20.0), (12.0, 14.0), (25.0, 40.0))
    ]
    assert idle(0.0, 5.0, []) == 5.0 and idle(5.0, 0.0, made) == 0.0
    assert idle(20.0, 30.0, made) == 5.0 and idle(0.0, 30.0, made) == 15.0
    assert idle(0.0, 50.0, made[::-1]) == 25.0
