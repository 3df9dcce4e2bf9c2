"""Joules of a run from its samples of the GPUs' power."""

import json

import pytest

from matrix.results import energy
from matrix.results.energy import measure


def sample(time: float, *watts: float | None, attempt: int = 1) -> dict:
    each = {f"gpu/{g}/power_w": w for g, w in enumerate(watts)}
    mean = {"gpu/power_avg_w": 1e9, "gpu/0/power_limit_w": 1e9}
    return {"attempt": attempt, "time": time, "step": 3, **mean, **each}


def test_a_trapezoid_by_hand():
    """2 s from 100 to 200 W, then 4 s from 200 to 0 W: 300 + 400 J."""
    rows = [sample(10.0, 100.0), sample(12.0, 200.0), sample(16.0, 0.0)]
    found = measure(rows, [1])
    assert (found.joules, found.seconds, found.remark) == (700.0, 6.0, "")
    assert measure(rows[::-1], [1]) == found


def test_the_power_of_all_gpus_is_added():
    rows = [sample(0.0, 100.0, 50.0, 25.0), sample(2.0, 100.0, 50.0, 25.0)]
    assert measure(rows, [1]).joules == 350.0


def test_a_gap_is_reported_and_not_integrated():
    """No one knows what was drawn between 2 s and 42 s."""
    rows = [sample(t, 100.0) for t in (0.0, 2.0, 42.0, 44.0)]
    found = measure(rows, [1])
    assert (found.joules, found.seconds) == (400.0, 4.0)
    assert found.gaps == ((1, 40.0),)
    assert found.remark == "40s of attempt 1 between two samples"
    edge = [sample(0.0, 1.0), sample(energy.LONGEST, 1.0)]
    assert measure(edge, [1]).joules == energy.LONGEST


def test_attempts_are_measured_apart():
    """Between the end of one and the start of the next the run drew nothing."""
    rows = [sample(t, 100.0) for t in (0.0, 2.0)]
    rows += [sample(t, 50.0, attempt=2) for t in (4.0, 6.0)]
    found = measure(rows, [1, 2])
    assert (found.joules, found.seconds, found.gaps) == (300.0, 4.0, ())


def test_an_attempt_without_samples_is_named():
    rows = [sample(t, 100.0) for t in (0.0, 2.0)] + [sample(9.0, 1.0, attempt=3)]
    found = measure(rows, [1, 2, 3])
    assert found.joules == 200.0
    assert found.unsampled == (2, 3)
    assert found.remark == "all of attempt 2, all of attempt 3"


def test_a_sample_without_one_of_the_gpus_does_not_count():
    """Half of the power is no measurement of the whole."""
    rows = [sample(0.0, 100.0, 100.0), sample(2.0, 100.0), sample(4.0, 100.0, None)]
    rows += [sample(6.0, 100.0, 100.0)]
    assert measure(rows, [1]).joules == 1200.0


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [sample(0.0, 100.0)],
        [sample(0.0), sample(2.0)],
        [sample(0.0, 1.0), sample(99.0, 1.0)],
    ],
)
def test_nothing_measured_is_no_zero(rows):
    assert measure(rows, [1]) is None


def test_what_a_report_reads(tmp_path):
    """700 J over 3,500 tokens in 6 s, both attempts; what is left out is said."""
    path = tmp_path / "gpu.jsonl"
    assert energy.read(path, [1], 3500) == {}
    rows = [sample(10.0, 100.0), sample(12.0, 200.0)]
    rows += [sample(50.0, 200.0, attempt=2), sample(54.0, 0.0, attempt=2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {"joules": 700.0, "seconds": 6.0, "per_token": 0.2, "remark": ""}
    assert energy.read(path, [1, 2], 3500) == found
    assert energy.read(path, [1, 2, 3], 3500)["remark"] == "all of attempt 3"
    assert energy.read(path, [1, 2], None)["per_token"] is None
    path.write_text(json.dumps(rows[0]) + "\n")
    assert energy.read(path, [1], 3500) == {
        "remark": "gpu.jsonl holds no two samples in a row"
    }
    path.write_text("{\n{\n")
    assert energy.read(path, [1], 3500) == {"remark": "gpu.jsonl line 1 is malformed"}
