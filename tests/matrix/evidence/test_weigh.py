"""Verdicts on run directories whose true differences are known."""

from pathlib import Path

import numpy as np
import pytest

from matrix.evidence import stats
from matrix.evidence.weigh import ranking, weigh
from matrix.report.plots import common
from matrix.report.plots import forest
from matrix.report.planning_text import what_is_possible
from matrix.report.write import render_terminal, write
from matrix.results.metrics import METRICS
from matrix.results.rows import make_rows
from matrix.results.selection import CONFIRM, SCREEN, Selection, Terms
from matrix.results.study import load
from records.jsonl import open_append
from tests.matrix.synthetic import START, Cell

SD = 0.0013
SEEDS = range(1, 7)
AA = {"values": {"INIT_SALT": "aa"}, "changes": ("INIT_SALT",)}


def noise(n: int, salt: int) -> np.ndarray:
    """n numbers with mean 0 and standard deviation SD (n−1); 0 when it is one."""
    if n == 1:
        return np.zeros(1)
    raw = np.random.default_rng(salt).normal(size=n)
    return SD * (raw - raw.mean()) / raw.std(ddof=1)


def runs(output: Path, step: str, shift: float = 0.0, seeds=SEEDS, **change) -> None:
    """A step's runs; `change` goes to all of them, or to seed 2 as `seed2={…}`."""
    special = {int(k[4:]): change.pop(k) for k in list(change) if k[:4] == "seed"}
    values = {"INIT_SALT": "", **change.pop("values", {})}
    own = dict(zip(seeds, noise(len(seeds), sum(map(ord, step)))))
    for seed in seeds:
        loss = 3.3 + 0.001 * seed + own[seed] + shift
        options = {"values": values, **change, **special.get(seed, {})}
        Cell(step, seed, (5.5, 3.4, loss), **options).finish(output)


def evidence(output: Path, terms: Terms = Terms(), **plan):
    selection = Selection(terms=terms, **plan)
    found = load(output / "demo", selection)
    return weigh(found, make_rows(found, selection), terms)


@pytest.fixture
def base(tmp_path) -> Path:
    runs(tmp_path, "00-base")
    return tmp_path


def test_a_true_improvement_is_supported(base):
    runs(base, "01-good", -0.01)
    runs(base, "02-bad", +0.01)
    found = evidence(base)
    assert [v.label for v in found.verdicts] == ["SUPPORTED better", "SUPPORTED worse"]
    assert found.family == ("01-good", "02-bad") and found.aa == ()
    assert found.verdicts[0].measured.difference == pytest.approx(-0.01)
    assert found.about == "validation loss in nats/token, the last evaluation"


def test_an_aa_arm_is_no_claim(base):
    runs(base, "01-a-a", **AA)
    runs(base, "02-flat")
    found = evidence(base)
    assert [v.label for v in found.verdicts] == ["A/A", found.verdicts[1].label]
    assert found.verdicts[1].outcome in ("NEUTRAL", "UNRESOLVED")
    assert (found.aa, found.family) == (("01-a-a",), ("02-flat",))


def test_what_changes_more_than_the_salt_is_an_arm(base):
    both = {"values": {"INIT_SALT": "aa", "MLP_DIM": 9}}
    runs(base, "01-arm", changes=("INIT_SALT", "MLP_DIM"), **both)
    assert evidence(base).family == ("01-arm",)


def test_failed_diverged_and_missing_runs_are_invalid(base):
    for step in ("01-failed", "02-diverged", "03-missing"):
        runs(base, step, -0.01, seeds=[1, 2, 3, 4, 5])
    Cell("01-failed", 6, (5.5,)).fail(base, "CUDA out of memory")
    Cell("02-diverged", 6, (5.5, float("nan"))).finish(base)
    runs(base, "04-good", -0.01)
    found = evidence(base)
    assert [v.label for v in found.verdicts] == ["INVALID"] * 3 + ["SUPPORTED better"]
    reasons = [verdict.reasons[0] for verdict in found.verdicts[:3]]
    assert reasons[0].startswith("01-failed seed 6 failed: CUDA out of memory (01-f")
    assert reasons[1].startswith("02-diverged seed 6 diverged: validation losses end")
    assert reasons[2] == "03-missing seed 6 missing: never ran"
    good = found.verdicts[3].measured
    assert good.adjusted == pytest.approx(4 * good.p)


def test_a_control_without_a_seed_spoils_every_contrast(tmp_path):
    runs(tmp_path, "00-base", seeds=[1, 2, 3, 4, 5])
    runs(tmp_path, "01-good", -0.01)
    (verdict,) = evidence(tmp_path).verdicts
    assert verdict.reasons == ("00-base seed 6 missing: never ran",)


def test_a_check_that_failed_since(base):
    told = {"loss": 3.0, "perplexity": 20.0, "bits_per_byte": 4.3, "step": 100}
    runs(base, "01-good", -0.01, seed3={"summary": {"final_eval": told}})
    (verdict,) = evidence(base).verdicts
    assert verdict.label == "INVALID" and "ends at step 100" in verdict.reasons[0]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"facts": {"effective_batch": 32}}, "different effective batch: 32 in 01-arm"),
        ({"facts": {"compile": True}}, "different compile: True in 01-arm"),
        ({"identity": {"dataset": "cd" * 32}}, "different dataset: cdcdcdcdcdcd in"),
        ({"summary": {"device": {"name": "H200"}}}, "different device: H200 in"),
        ({"summary": {"stopped_by": "time"}}, "different end of training: time in"),
        ({"summary": {"tokens": 12}}, "different tokens trained: 12 in 01-arm"),
        ({"summary": {"step": 101}}, "different optimizer steps: 101 in"),
        ({"values": {"GPT2_EVAL_WINDOWS": 9}}, "different evaluation windows: 9 in"),
        ({"values": {"GPT2_EVAL_INTERVAL": 9}}, "different evaluation interval: 9 in"),
        ({"facts": {"eval_sha256": "ab" * 32}}, "different evaluation text: ababab"),
        ({"facts": {"ranks": 2}}, "different processes: 2 in"),
        ({"identity": {"code": "ab" * 32}}, "different code hash: abababababab in"),
        ({"summary": {"torch": "2.11.0"}}, "different torch: 2.11.0 in 01-arm"),
        ({"values": {"LEARNING_RATE": "1"}}, "01-arm differs from its control in CONF"),
        ({"changes": None}, "6 runs of older code do not record what their step"),
    ],
)
def test_arms_that_cannot_be_compared(base, change, reason):
    change["values"] = {"INIT_SALT": "", **change.get("values", {})}
    runs(base, "01-arm", -0.01, **change)
    runs(base, "02-good", -0.01)
    unfair, good = evidence(base).verdicts
    assert unfair.label == "NON_DIAGNOSTIC" and unfair.measured is None
    assert any(line.startswith(reason) for line in unfair.reasons), unfair.reasons
    assert good.label == "SUPPORTED better"
    assert good.measured.adjusted == pytest.approx(2 * good.measured.p)


def test_another_processor_matters_without_a_gpu(base):
    runs(base, "01-arm", -0.01)
    path = Cell("01-arm", 2, ()).path(base) / "run.json"
    path.write_text(path.read_text().replace("A Processor", "Another"))
    (verdict,) = evidence(base).verdicts
    assert verdict.reasons == (
        "different processor: Another in 01-arm (seed 2); A Processor elsewhere",
    )


def test_a_run_resumed_under_another_torch(base):
    runs(base, "01-arm", -0.01)
    path = Cell("01-arm", 2, ()).path(base) / "attempts.jsonl"
    with open_append(path) as attempts:
        for number, torch in ((2, "2.13.0"), (3, "2.11.0")):
            row = {"event": "start", "attempt": number, "time": START, "torch": torch}
            attempts.append(row)
    (verdict,) = evidence(base).verdicts
    assert verdict.label == "NON_DIAGNOSTIC"
    assert verdict.reasons[0].startswith(
        "01-arm seed 2 was resumed under another torch: 2.13.0, then 2.11.0 (01-arm/"
    )


def test_a_time_budget_lets_tokens_differ(tmp_path):
    timed = {"facts": {"budget": "time"}}
    for step, shift, tokens in (("00-base", 0.0, 1000), ("01-good", -0.01, 900)):
        summary = {"tokens": tokens, "stopped_by": "time"}
        runs(tmp_path, step, shift, summary=summary, **timed)
    (verdict,) = evidence(tmp_path).verdicts
    assert verdict.label == "SUPPORTED better"


@pytest.mark.parametrize("n, told", [(2, "NON_DIAGNOSTIC"), (3, "LIMITED better")])
def test_few_seeds(tmp_path, n, told):
    for step, shift in (("00-base", 0.0), ("01-good", -0.03)):
        runs(tmp_path, step, shift, seeds=range(1, n + 1))
    assert evidence(tmp_path).verdicts[0].label == told


def test_a_metric_that_is_better_when_higher(tmp_path):
    for step, speed in (("00-base", 8000.0), ("01-fast", 9000.0)):
        special = {
            f"seed{k}": {"summary": {"tokens_per_s": speed + x}}
            for k, x in zip(SEEDS, 1e4 * noise(6, int(speed)))
        }
        runs(tmp_path, step, **special)
    terms = Terms(METRICS["tokens_per_s"], smallest=None)
    assert evidence(tmp_path, terms).verdicts[0].label == "SUPPORTED better"


def test_a_metric_that_was_not_recorded(base):
    runs(base, "01-arm", seed4={"summary": {"tokens_per_s": None}})
    terms = Terms(METRICS["tokens_per_s"], smallest=None)
    (verdict,) = evidence(base, terms).verdicts
    assert verdict.label == "INVALID"
    assert verdict.reasons == ("01-arm seed 4 records no tokens_per_s",)


def test_the_mean_of_the_last_evaluations_is_what_counts(base):
    runs(base, "01-good", -0.01)
    one, two = (evidence(base, Terms(last_evals=k)).verdicts[0] for k in (1, 2))
    assert two.measured.difference == pytest.approx(one.measured.difference / 2)


def test_leaving_steps_out_does_not_make_the_family_smaller(base):
    runs(base, "01-good", -0.01)
    runs(base, "02-other", +0.01)
    runs(base, "03-aa", **AA)
    plain = {"values": {"INIT_SALT": ""}}
    steps = ("00-base", "01-good")
    planned = [Cell(step, k, (), **plain).hash for step in steps for k in SEEDS]
    found = evidence(base, steps=steps, hashes=planned)
    assert found.family == ("01-good", "02-other")
    assert found.of("02-other").reasons == (
        "ran in this directory, not in the current plan",
    )
    alone = found.of("01-good").measured
    assert alone.adjusted == pytest.approx(2 * alone.p)


def test_announced_arms_that_never_ran_are_invalid(base):
    runs(base, "01-good", -0.01)
    found = evidence(base, Terms(family=("01-good", "09-announced")))
    assert found.of("09-announced").reasons == ("announced, never ran",)
    assert found.family == ("01-good", "09-announced")


def test_screening_seeds_say_nothing_more(base):
    runs(base, "01-good", -0.01)
    terms = Terms(stage=CONFIRM, screened=frozenset({1, 2, 3}), family=("01-good",))
    (verdict,) = evidence(base, terms).verdicts
    assert verdict.label == "NON_DIAGNOSTIC"
    assert verdict.reasons[0].startswith("screening seeds re-used: 1-3;")
    assert evidence(base, Terms(screened=frozenset({7}))).verdicts[0].measured


def test_a_run_remembers_that_it_was_a_screening(base):
    runs(base, "01-good", -0.01)
    path = Cell("01-good", 5, ()).path(base) / "run.json"
    path.write_text(path.read_text().replace('"seed":', '"stage": "screen", "seed":'))
    (verdict,) = evidence(base).verdicts
    assert verdict.reasons[0].startswith("screening seeds re-used: 5;")
    assert evidence(base, Terms(stage=SCREEN)).verdicts[0].measured


def test_a_screening_ranks(base):
    for step, shift in (("01-a", 0.01), ("02-b", -0.02), ("03-c", -0.01)):
        runs(base, step, shift)
    runs(base, "04-lost", -0.5, seeds=[1, 2])
    runs(base, "05-aa", **AA)
    ranked = [v.step for v in ranking(evidence(base, Terms(stage=SCREEN)))]
    assert ranked == ["02-b", "03-c", "01-a", "04-lost"]


# -- in the report


@pytest.fixture
def drawn(monkeypatch):
    """Reports without drawing."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def row(text: str, step: str) -> list[str]:
    """The first table line of a step."""
    line = next(x for x in text.splitlines() if x.startswith(f"| `{step}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_verdicts_of_a_report(base, drawn):
    runs(base, "01-a-a", **AA)
    runs(base, "02-good", -0.01)
    runs(base, "03-wild", seed5={"facts": {"dtype": "bf16"}})
    paths = write(base / "demo")
    text = paths.markdown.read_text()
    told = section(text, "Verdicts")
    found = paths.report.evidence.of("02-good")
    measured = found.measured
    low, high = measured.interval
    assert row(text, "02-good") == [
        "`02-good`",
        "SUPPORTED better",
        f"{measured.difference:+.5f}",
        rf"\[{low:+.5f}, {high:+.5f}\] 97.5 %",
        "6",
    ]
    ends = stats.correlation_interval(found.r, 6)
    behind = told.split("numbers behind the verdicts")[1]
    assert row(behind, "02-good") == [
        "`02-good`",
        rf"\[{measured.narrow[0]:+.5f}, {measured.narrow[1]:+.5f}\]",
        f"{measured.p:.2g}",
        f"{2 * measured.p:.2g}",
        "0.031",
        f"{measured.equivalence:.2g}",
        f"{measured.sd:.5f}",
        rf"{found.r:+.2f} \[{ends[0]:+.2f}, {ends[1]:+.2f}\]",
        "[R3](#r3)",
    ]
    assert row(behind, "01-a-a")[3] == "–"
    assert "different dtype: bf16 in 03-wild (seed 5)" in row(told, "03-wild")[1]
    assert "6 seeds, 2 arms in the family: SUPPORTED is possible" in told
    assert "(differences.png)" in told
    head = paths.markdown.read_text().split("\n## ")[0]
    assert "Not preregistered" in head
    assert row(told, "02-good")[1].startswith(
        "lowers the validation loss by 0.01000 nats/token"
    )
    each = section(paths.markdown.read_text(), "Verdicts").split("seed by seed")[1]
    expected = [f"{d:+.5f}" for d in found.differences.values()]
    assert row(each, "02-good")[1:7] == expected
    shown = render_terminal(paths.report)
    assert "\n02-good: SUPPORTED better (not preregistered), -0.01000 [" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_an_outlier_is_marked_in_the_report(base, drawn):
    runs(base, "01-good", -0.01)
    loss = {"losses": (5.5, 3.4, 3.9)}
    runs(base, "02-odd", seeds=[1, 2, 3, 5, 6])
    Cell("02-odd", 4, **loss, values={"INIT_SALT": ""}).finish(base)
    told = section(write(base / "demo").markdown.read_text(), "Verdicts")
    assert "outlier: seed 4 does not fit the others" in row(told, "02-odd")[1]
    assert row(told.split("seed by seed")[1], "02-odd")[4].endswith(r"\*")


def test_a_screening_has_a_ranking_and_no_p(base, drawn):
    runs(base, "01-a", 0.01)
    runs(base, "02-b", -0.02)
    paths = write(base / "demo", Selection(terms=Terms(stage=SCREEN)))
    text = paths.markdown.read_text()
    assert "## Verdicts" not in text and "SUPPORTED" not in text
    ranked = section(text, "Ranking")
    assert "claims nothing" in ranked and "p-value" not in ranked
    order = [line for line in ranked.splitlines() if "`0" in line]
    assert ["`02-b`" in order[0], "`01-a`" in order[1]] == [True, True]
    shown = render_terminal(paths.report)
    assert "claims nothing about any of them" in shown and "UNRESOLVED" not in shown


def test_one_step_has_no_verdict(base, drawn):
    paths = write(base / "demo")
    assert "## Verdicts" not in paths.markdown.read_text()
    assert "nothing that a verdict could be about" in render_terminal(paths.report)


def test_a_wild_aa_arm_is_a_warning(base, drawn):
    runs(base, "01-a-a", -0.01, **AA)
    told = section(write(base / "demo").markdown.read_text(), "Verdicts")
    assert "**A/A**" in told and "the A/A arm 01-a-a differs" in told


def test_the_forest_draws_every_arm(base):
    runs(base, "01-a-a", **AA)
    runs(base, "02-good", -0.01)
    runs(base, "03-lost", seeds=[1])
    (axes,) = forest.figure(evidence(base)).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["01-a-a\nA/A", "02-good\nSUPPORTED better", "03-lost\nINVALID"]
    low, high = evidence(base).of("02-good").measured.interval
    lines = [line.get_xdata() for line in axes.lines]
    assert any(tuple(xs) == (low, high) for xs in map(tuple, lines))
    assert len(axes.patches) == 1, "no band for the A/A arm"


def test_nothing_to_draw(base):
    runs(base, "01-nan", seeds=[7])
    assert forest.picture(evidence(base)) is None


@pytest.mark.parametrize(
    "seeds, words",
    [
        (1, "1 seed, 1 arm in the family: nothing can be said."),
        (3, "3 seeds, 1 arm in the family: LIMITED at most."),
        (6, "6 seeds, 1 arm in the family: SUPPORTED is possible."),
    ],
)
def test_what_n_and_m_allow(tmp_path, seeds, words):
    for step in ("00-base", "01-arm"):
        runs(tmp_path, step, seeds=range(1, seeds + 1))
    assert what_is_possible(evidence(tmp_path)).startswith(words)
