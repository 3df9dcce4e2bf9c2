"""Training loss, learning rate and gradient norm: thinned, averaged, drawn."""

import pytest

from matrix.report.plots import training_curves
from matrix.report.write import gather
from matrix.results.training_curve import MOST, Point, thinned
from records.columns import REAL, WHOLE, Series
from tests.matrix.synthetic import Cell

TYPES = {"step": WHOLE, "tokens": WHOLE, "loss": REAL, "lr": REAL, "grad_norm": REAL}


def series(count: int) -> Series:
    """Rows whose loss is their number, and whose norm has a peak."""
    found = Series("train", TYPES)
    for step in range(count):
        norm = 9.0 if step == 5 else 1.0
        row = {"step": step, "tokens": 10 * (step + 1), "loss": float(step)}
        found.add({**row, "lr": 0.1 * step, "grad_norm": norm})
    return found


def test_few_rows_stay_as_they_are():
    assert thinned(series(3)) == tuple(
        Point(10 * (k + 1), float(k), pytest.approx(0.1 * k), 1.0, 1.0)
        for k in range(3)
    )
    assert thinned(series(0)) == ()


def test_rows_are_put_together_by_powers_of_two():
    """The mean loss, the last rate, the mean norm and the largest; tokens at the end."""
    found = thinned(series(18), most=5)
    assert [point.tokens for point in found] == [40, 80, 120, 160]
    assert [point.loss for point in found] == [1.5, 5.5, 9.5, 13.5]
    assert found[1].rate == pytest.approx(0.7)
    assert (found[1].norm, found[1].largest) == (3.0, 9.0)
    assert (found[0].norm, found[0].largest) == (1.0, 1.0)


@pytest.mark.parametrize("count", [127, 128, 129, 1000, 65_537])
def test_a_run_has_no_more_points_than_a_plot_takes(count):
    found = thinned(series(count))
    assert MOST // 2 <= len(found) <= MOST
    longer = {point.tokens for point in thinned(series(2 * count))}
    assert longer <= {point.tokens for point in found} | {
        tokens for tokens in longer if tokens > found[-1].tokens
    }


@pytest.fixture
def rows(tmp_path):
    """Two steps on two seeds; the second has the same schedule."""
    for number, step in enumerate(("00-base", "01-arm")):
        for seed in (1, 2):
            logged = [
                {
                    **{"kind": "train", "step": at, "tokens": 100 * (at + 1)},
                    **{"loss": 4.0 + seed - 0.1 * at + number, "lr": 0.01 * (at + 1)},
                    "grad_norm": 1.0 + seed + (at == 5),
                }
                for at in range(0, 20, 5)
            ]
            Cell(step, seed, (5.5, 3.3), rows=logged).finish(tmp_path)
    return gather(tmp_path / "demo").rows


def test_what_is_drawn(rows):
    """The mean over the seeds; one line for a schedule that both have."""
    loss, rate, norm = training_curves.figure(rows).axes
    base, arm = loss.lines
    assert list(base.get_xdata()) == [100, 600, 1100, 1600]
    assert list(base.get_ydata()) == pytest.approx([5.5, 5.0, 4.5, 4.0])
    assert list(arm.get_ydata()) == pytest.approx([6.5, 6.0, 5.5, 5.0])
    assert [len(axes.lines) for axes in (loss, rate, norm)] == [2, 1, 4]
    assert list(rate.lines[0].get_ydata()) == pytest.approx([0.01, 0.06, 0.11, 0.16])
    mean, largest = norm.lines[:2]
    assert list(mean.get_ydata()) == pytest.approx([2.5, 3.5, 2.5, 2.5])
    assert list(largest.get_ydata()) == pytest.approx([3.0, 4.0, 3.0, 3.0])
    assert loss.get_title(loc="left") == "Training loss, nats/token"


def test_runs_without_rows_have_no_such_section(tmp_path):
    Cell("00-base", 1, (5.5, 3.3)).finish(tmp_path)
    assert training_curves.section(gather(tmp_path / "demo")) is None
