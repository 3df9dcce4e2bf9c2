"""The same training time, by hand."""

import pytest

from matrix.report.equal_time import loss_at, pair, table
from matrix.results.rows import make_rows
from matrix.results.study import load
from tests.matrix.synthetic import Cell


def rows(tmp_path, **change):
    """A control (evaluated at 0, 25, 50 s) and an arm of twice as many steps."""
    Cell("00-base", 1, (6.0, 4.0, 3.0), **change).finish(tmp_path)
    slow = {"max_iters": 200, **change.get("facts", {})}
    Cell("01-slow", 1, (6.0, 4.0, 2.5), facts=slow).finish(tmp_path)
    return make_rows(load(tmp_path / "demo"))


def test_the_loss_between_evaluations(tmp_path):
    base, slow = (row.runs[1] for row in rows(tmp_path))
    assert loss_at(base, 37.5) == pytest.approx(3.5)
    assert (loss_at(base, 0.0), loss_at(base, 50.0)) == (6.0, 3.0)
    assert loss_at(base, 50.1) is None and loss_at(base, -1.0) is None
    assert pair(slow, base) == (50.0, pytest.approx(4.0 - 3.0))


def test_the_table(tmp_path):
    found = table(rows(tmp_path))
    assert found.rows == (("01-slow", "50s", "+1.00000", "-0.50000", "1", "R2"),)


def test_a_time_budget_needs_no_such_table(tmp_path):
    assert table(rows(tmp_path, facts={"budget": "time"})) is None
