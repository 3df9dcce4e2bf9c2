"""report.html in a browser: it asks for nothing, says nothing, and fits a phone."""

import math

import pytest

from matrix.report.write import write
from tests.e2e.browser import Browser, executable
from tests.matrix.synthetic import Cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no Chromium on this machine"),
]
PLOTS = {
    "learning-curves",
    "final-losses",
    "differences",
    "learning-rates",
    "speed-memory",
    "loss-cache",
    "loss-step-time",
    "loss-parameters",
    "loss-energy",
    "sparsity",
    "attention-entropy",
    "training-curves",
}


SMALLEST = "Math.min(...%s.map(s => s.clientWidth / s.viewBox.baseVal.width * 72 / 96))"
"""Of the plots shown: how large they are against their size in points."""
WIDE = """[...document.querySelectorAll('*')].filter(e => e.clientWidth &&
  (e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1
   && getComputedStyle(e).overflowX != 'visible')).map(e => `${e.tagName}.${e.className} ` +
  `${e.textContent.trim().slice(0, 60)} ${e.scrollWidth}/${e.clientWidth}`).join('; ')"""
"""What reaches over the edge of the page, or scrolls within it."""
OPENED = "document.querySelectorAll('details').forEach(d => d.open = true)"


def heads(layers: int = 6) -> list[dict]:
    """Attention statistics at every evaluation of a Cell with four of them."""
    found = []
    for step in (0, 33, 67, 100):
        entropy = [
            [3 - step / 50 + 0.1 * n + 0.2 * h for h in (0, 1)] for n in range(layers)
        ]
        found.append({"kind": "attention", "step": step, "entropy": entropy})
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with every plot that a report knows."""
    output = tmp_path_factory.mktemp("browser")
    for number, (name, rate) in enumerate(
        (name, rate)
        for name in ("adamw", "muon-magnitude-50")
        for rate in ("3e-4", "1e-3")
    ):
        pruned = "magnitude" in name
        point = {"optimizer": name[:5].strip("-"), "learning_rate": rate}
        point["pruning"] = "magnitude" if pruned else "none"
        rows = heads()
        rows += [
            {"kind": "train", "step": s, "loss": 3.0, "tokens": 4096 * (s + 1)}
            | {"lr": 1e-3, "grad_norm": 1.0 + s % 7}
            for s in range(1, 100, 2)
        ]
        if pruned:
            point["sparsity"] = "0.5"
            rows += [
                {"kind": "train", "step": s, "loss": 3.0, "sparsity": min(0.5, s / 100)}
                for s in range(0, 100, 5)
            ]
        for seed in range(1, 7):
            last = 3.3 + 0.01 * number + 0.001 * math.sin(7 * seed + number)
            gpu = [
                {"time": 2.0 * n, "gpu/0/power_w": 300.0 + 10 * number + seed}
                for n in range(10)
            ]
            Cell(
                f"{name}-lr{rate}",
                seed,
                (5.5, 3.9, 3.5, last),
                rows=rows,
                gpu=gpu,
                arm={"point": point, "dense": None},
                summary={"average_step_time": 0.1 + 0.01 * number + 0.001 * seed},
                facts={"parameters": 124_000_000 - 10_000_000 * number},
            ).finish(output)
    return write(output / "demo")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_the_study_has_every_plot(study):
    assert {path.stem for path in study.markdown.parent.glob("*.png")} == PLOTS


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_page(browser, study, width):
    browser.requests.clear()
    browser.open(study.html, width)
    assert browser.requests == [study.html.resolve().as_uri()]
    assert browser.complaints == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('figure svg')].filter(s => s.clientWidth)"
    assert browser.value(f"{drawn}.length") == len(PLOTS)
    assert browser.value(SMALLEST % drawn) >= 0.9, "smaller than a reader can read"
    if width > 600:
        tallest = (
            "Math.max(...[...document.querySelectorAll('tr')].map(r => r.offsetHeight))"
        )
        assert browser.value(tallest) < 250, "a column too narrow for its text"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Eighteen arms with long names on twelve seeds, and an A/A arm."""
    output = tmp_path_factory.mktemp("large")
    for number in range(20):
        step = f"{number:02d}-mla-latent-reciprocal-attention-with-gate-{number}"
        salted = number == 1
        values = {"INIT_SALT": "again" if salted else "", "GPT2_WIDTH": 64 + number}
        values |= {"GPT2_WIDTH": 64} if salted else {}
        for seed in range(1, 13):
            last = 3.3 - 0.0002 * number + 0.001 * math.sin(7 * seed + 3 * number)
            Cell(
                step,
                seed,
                (5.5, 3.9, last),
                values=values,
                changes=("INIT_SALT",) if salted else ("GPT2_WIDTH",) * (number > 1),
                control=number == 0,
            ).finish(output)
    return write(output / "demo")


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["study", "large"])
def test_nothing_scrolls_sideways(browser, name, width, request):
    """Every section, the folded one too; of twenty steps with long names on twelve
    seeds, and of a study with every plot.
    """
    browser.open(request.getfixturevalue(name).html, width)
    browser.value(OPENED)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(WIDE) == ""


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_first_screen_is_the_answer(browser, study, width):
    """A line for each of the arms, whole, above the fold; what is folded is closed."""
    browser.open(study.html, width)
    rows = browser.value(
        "[...document.querySelectorAll('.answers tbody tr')].map(r => "
        "r.getBoundingClientRect().bottom)"
    )
    assert len(rows) == len(study.report.evidence.verdicts) and max(rows) <= 800
    titles = browser.value("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert titles[0] == "Verdicts" and titles[-1] == "Terms, environment and code"
    assert browser.value("document.querySelectorAll('details[open]').length") == 0
    hidden = "document.querySelector('details table').checkVisibility()"
    assert browser.value(hidden) is False


def test_a_browser_that_complains_is_heard(browser, tmp_path):
    """What the test above would miss if the pipe told it nothing."""
    page = tmp_path / "bad.html"
    image, script = '<img src="missing.png">', "<script>console.log(1); nope()</script>"
    page.write_text(f"<!DOCTYPE html><title>x</title>{image}{script}")
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(page, 1280)
    assert (tmp_path / "missing.png").as_uri() in browser.requests
    said = "\n".join(browser.complaints)
    assert "console.log" in said and "nope is not defined" in said
    browser.complaints.clear()
