"""Planted studies whose verdict needs a word beside it, each with an honest neighbour."""

import numpy as np
import pytest

from matrix.report.plots import common
from matrix.report.write import render_terminal, write
from tests.matrix.evidence.test_weigh import AA, runs
from tests.matrix.synthetic import Cell

SMALL = "smaller than the smallest effect of interest"
POOR = "times too large on average"
RATE = "its rate was set for this arm (LEARNING_RATE)"


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def told(output) -> tuple[str, str, str]:
    """The report's text, its page and the terminal's table, lines joined."""
    paths = write(output / "demo")
    shown = " ".join(render_terminal(paths.report).split())
    return paths.markdown.read_text(), paths.html.read_text(), shown


def planted(output, sd: float, shift: float) -> None:
    """A control and an arm on eight seeds, the differences of this mean and SD."""
    raw = np.random.default_rng(8).normal(size=8)
    d = shift + sd * (raw - raw.mean()) / raw.std(ddof=1)
    for seed, x in enumerate(d, 1):
        Cell("00-base", seed, (5.5, 3.3 + 0.001 * seed), control=True).finish(output)
        Cell("01-arm", seed, (5.5, 3.3 + 0.001 * seed + x)).finish(output)


@pytest.mark.parametrize(
    "sd, shift, small, poor",
    [(0.0004, -0.001, True, False), (0.003, -0.004, False, True)]
    + [(0.0008, -0.004, False, False)],
    ids=["small", "poor", "honest"],
)
def test_an_effect_that_is_too_small_or_too_lucky(tmp_path, sd, shift, small, poor):
    planted(tmp_path, sd, shift)
    for text in told(tmp_path):
        assert "SUPPORTED better" in text
        assert (SMALL in text, POOR in text) == (small, poor)


@pytest.mark.parametrize("rate", [True, False])
def test_a_learning_rate_inside_a_step(tmp_path, rate):
    """In the steps, the answer and the terminal; from run.json, without a plan."""
    old, new = {"GPT2_WIDTH": 64, "LEARNING_RATE": "6e-4"}, {"GPT2_WIDTH": 96}
    lines = "# Help: wider\nCONFIG_GPT2_WIDTH=96\n"
    if rate:
        new["LEARNING_RATE"] = "1e-3"
        lines += 'CONFIG_LEARNING_RATE="1e-3"\n'
    runs(tmp_path, "00-base", values=old, help="the base")
    change = {"fragment": lines, "help": "wider", "changes": tuple(new)}
    runs(tmp_path, "01-wide", -0.01, values={**old, **new}, **change)
    markdown, page, shown = told(tmp_path)
    for text in (page, shown):
        assert (RATE in text) == rate
    steps = markdown.split("\n## How the runs were trained\n")[1].split("\n## ")[0]
    assert "the base" in steps and "GPT2\\_WIDTH 64 → 96" in steps
    assert ('LEARNING\\_RATE "6e-4" → "1e-3"' in steps) == rate


def test_another_initialisation_is_no_yardstick(tmp_path):
    """An A/A arm of two seeds is in no count; of six it has words of its own."""
    runs(tmp_path, "00-base")
    runs(tmp_path, "01-a-a", **AA)
    runs(tmp_path, "02-good", -0.01)
    _, page, shown = told(tmp_path)
    assert "another initialisation" in page and "another initialisation" in shown
    assert "noise floor" not in page.lower() + shown.lower()
    few = tmp_path / "few"
    for step, change in (("00-base", {}), ("01-a-a", AA), ("02-good", {})):
        runs(few, step, -0.01 * (step == "02-good"), seeds=(1, 2), **change)
    assert "Verdicts: 1 NON_DIAGNOSTIC. 2 seeds" in told(few)[2]
