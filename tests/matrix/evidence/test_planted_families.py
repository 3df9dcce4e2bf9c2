"""Planted studies: one family in two halves, by the control that both have."""

from pathlib import Path

import pytest

from matrix.evidence.gather import gather
from matrix.results.selection import SCREEN, Selection, Terms
from records import pointer
from records.layout import CellDir, cell_path
from tests.matrix.evidence.test_weigh import SEEDS, noise
from tests.matrix.synthetic import Cell


def arm(output: Path, study: str, step: str, shift=-0.01, **more) -> None:
    """An arm with a symbol of its own, or with `values` and `changes`."""
    options = {"values": {"INIT_SALT": "", "OWN": step}, "changes": ("OWN",), **more}
    for seed, x in zip(SEEDS, noise(len(SEEDS), sum(map(ord, step)))):
        Cell(step, seed, (5.5, 3.4, 3.3 + shift + x), **options).finish(output, study)


@pytest.fixture
def output(tmp_path) -> Path:
    """A study `one` with its control and an arm, and `two`, which reuses the control."""
    plain = {"values": {"INIT_SALT": "", "OWN": ""}, "control": True}
    for seed, x in zip(SEEDS, noise(len(SEEDS), 3)):
        path = Cell("00-base", seed, (5.5, 3.4, 3.3 + x), **plain).finish(
            tmp_path, "one"
        )
        own = cell_path(tmp_path, "two", "00-base", seed, path.name)
        pointer.write(CellDir(own), CellDir(path), ())
    arm(tmp_path, "one", "01-a")
    arm(tmp_path, "two", "02-b")
    return tmp_path


def families(output: Path, terms: Terms = Terms()) -> tuple[tuple[str, ...], ...]:
    found = [gather(output / name, Selection(terms=terms)) for name in ("one", "two")]
    return tuple(report.evidence.family for report in found)


def test_both_halves_are_one_family(output):
    assert families(output) == (("01-a", "two/02-b"), ("02-b", "one/01-a"))
    report = gather(output / "two")
    (verdict,) = report.evidence.verdicts
    assert verdict.step == "02-b" and verdict.label == "SUPPORTED better"
    assert verdict.measured.adjusted == pytest.approx(2 * verdict.measured.p)
    assert report.notes[-1] == (
        "Holm's family counts 1 arm of other studies over the same control runs, with "
        "p = 1: one/01-a"
    )


def test_a_control_with_a_line_of_its_own(output):
    """As CONFIG_CONTROL_STEP and a tuning give it: the arms differ in that as well."""
    for path in sorted(output.glob("one/00-base/seed-*/*")):
        own = cell_path(output, "two", "00-base", int(path.parent.name[5:]), path.name)
        (own / pointer.NAME).unlink()
        pointer.write(CellDir(own), CellDir(path), ("GPT2_LAYERS",))
    other = {"values": {"INIT_SALT": "", "OWN": "04-d", "GPT2_LAYERS": 6}}
    arm(output, "one", "04-d", **other)
    assert families(output)[1] == ("02-b", "one/01-a", "one/04-d")


def test_a_third_study_over_the_same_control(output):
    for path in sorted(output.glob("one/00-base/seed-*/*")):
        seed = int(path.parent.name[5:])
        own = cell_path(output, "three", "00-base", seed, path.name)
        pointer.write(CellDir(own), CellDir(path), ())
    arm(output, "three", "03-c")
    assert families(output)[1] == ("02-b", "one/01-a", "three/03-c")


def test_studies_that_share_no_control(output):
    arm(output, "else", "00-base", values={"INIT_SALT": "", "OWN": ""}, changes=())
    arm(output, "else", "05-e")
    assert families(output)[0] == ("01-a", "two/02-b")
    assert gather(output / "else").evidence.family == ("05-e",)


@pytest.mark.parametrize(
    "more",
    [
        {"values": {"INIT_SALT": "aa", "OWN": ""}, "changes": ("INIT_SALT",)},
        {"values": {"INIT_SALT": "", "OWN": "x", "GPT2_MAX_ITERS": 9}},
        {"identity": {"dataset": "0ff5" * 16}},
        {"values": {"INIT_SALT": "", "OWN": "02-b"}},
    ],
    ids=["an A/A arm", "a trial", "another corpus", "the same arm"],
)
def test_what_is_no_further_arm(output, more):
    arm(output, "one", "06-f", **more)
    assert families(output)[1] == ("02-b", "one/01-a")


def test_a_screening_has_no_family(output):
    report = gather(output / "two", Selection(terms=Terms(stage=SCREEN)))
    assert report.evidence.family == ("02-b",)
