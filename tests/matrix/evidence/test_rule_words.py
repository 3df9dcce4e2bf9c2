"""What is printed around a verdict, word by word: terminal, tables, ranking, plot."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from matrix.evidence import promotion
from matrix.evidence.gather import Report
from matrix.evidence.verdict import RULE, Rule
from matrix.evidence.weigh import ranking
from matrix.plan.checks import PlanError
from matrix.report import answers, numbers, verdict_section, verdict_text
from matrix.report.document import Notice, Picture, Table, Text
from matrix.report.plots import forest
from matrix.results.metrics import METRICS, named
from matrix.results.selection import CONFIRM, SCREEN, Terms
from matrix.results.study import Open
from tests.matrix.imagined import MEASURED, evidence, report, run, study, verdict

D = {2: -0.01, 5: -0.02, 9: -0.0123}
SPEED = Terms(METRICS["tokens_per_s"], smallest=50.0)
LOSSES = {"04-control": {9: [3.1], 2: [3.2]}, "03-arm": {9: [3.0], 2: [3.3]}}


def good(**numbers):
    """A claim."""
    more = {"direction": "better", "r": 0.987, "outliers": (5,), "measured": numbers}
    return verdict("03-arm", "SUPPORTED", D, **more)


AGAIN = verdict("07-again", "A/A", {2: 0.5, 9: 0.25}, measured={"level": 0.05})
OPEN = verdict(
    "11-open", "UNRESOLVED", {2: 0.001}, r=-0.5, measured={"bca": (-1.0, 2.0)}
)
LOST = verdict("06-lost", "INVALID", {}, reasons=("seed 2 failed", "seed 5 too"))
UNFAIR = verdict("05-odd", "NON_DIAGNOSTIC", {2: 0.1, 5: 0.3}, reasons=("dtype",))
ALL = (good(), AGAIN, OPEN, LOST, UNFAIR)


SEEN = "could have seen 0.00410–0.00830 (80 % power); 0.00200 takes 11–46 seeds"
CLAIMED = (
    "a true difference of 0.00200 would be seen with power 0.24 (0.12–0.41); what is "
    "found at such power is 1.1–1.3 times too large on average"
)
ODD = "outlier: seed 5 does not fit the others; it is kept, look at its run"


# -- numbers


def test_how_a_number_is_written():
    loss, speed = evidence(ALL), evidence(ALL, SPEED)
    assert numbers.difference(loss, 0.0123456) == "+0.01235"
    assert (
        numbers.difference(loss, -2.0) == "-2.00000"
        and numbers.difference(loss, None) == "–"
    )
    assert (
        numbers.difference(speed, 1234.56) == "+1235"
        and numbers.difference(speed, None) == "–"
    )
    assert numbers.difference(speed, -0.123456) == "-0.1235"
    assert (
        numbers.magnitude(loss, 0.002),
        numbers.magnitude(loss, -1.0),
    ) == (
        "0.00200",
        "-1.00000",
    )
    assert numbers.magnitude(speed, 50.0) == "50"
    assert numbers.interval(loss, (-1.0, 2.0)) == "[-1.00000, +2.00000]"
    assert (numbers.p_value(0.00123), numbers.p_value(0.5)) == (
        "0.0012",
        "0.5",
    )
    assert numbers.correlation(good()) == "+0.99 (no interval: n < 4)"
    five = replace(OPEN, differences=dict.fromkeys(range(5), 0.1))
    assert numbers.correlation(five) == "-0.50 [-0.96, +0.68]"
    assert numbers.correlation(replace(five, r=1.0)) == "+1.00 (no interval: |r| = 1)"
    assert numbers.correlation(LOST) == "–"
    assert numbers.by_seed(loss, good()) == "2: -0.01000, 5: -0.02000*, 9: -0.01230"
    assert verdict_text.outliers(loss, OPEN) == ""
    assert verdict_text.outliers(loss, replace(good(), outliers=(2, 9))) == (
        "outlier: seed 2, 9 does not fit the others; it is kept, look at its run"
    )


def test_why_a_verdict_is_no_claim():
    loss = evidence(ALL)
    assert verdict_text.cause(loss, AGAIN) == "another initialisation, no claim"
    assert verdict_text.cause(loss, LOST) == "seed 2 failed; seed 5 too"
    assert verdict_text.cause(loss, OPEN) == SEEN
    quiet = verdict("a", "UNRESOLVED", D, reasons=("x",))
    assert verdict_text.cause(loss, quiet) == "x"
    told = replace(loss, remarks={"06-lost": ("its rate was set", "y")})
    assert verdict_text.cause(told, LOST) == (
        "seed 2 failed; seed 5 too; its rate was set; y"
    )


def test_a_verdict_with_its_numbers():
    found = evidence((good(bca=(-0.02, -0.005)), LOST), seeds=(2, 9))
    arm, lost, about = verdict_text.explain(
        report(study(LOSSES), found), ["03-arm", "06-lost"]
    )
    assert max(map(len, arm.split("\n"))) <= 100
    assert arm.replace("\n    ", " ").split("\n") == [
        "03-arm against 04-control: SUPPORTED better (not preregistered)",
        f"  {CLAIMED}; {ODD}",
        "  difference -0.01230, 98 % interval [-0.01900, -0.00100], 3 seeds",
        "  90 % interval [-0.01700, -0.00900], p (paired t) 0.0012, Holm p 0.0046, "
        "Sign-flip p 0.031, NEUTRAL p 0.9, SD 0.00310, r +0.99 (no interval: n < 4), "
        "BCa 95 % (description) [-0.02000, -0.00500]",
        "  by seed 2: -0.01000, 5: -0.02000*, 9: -0.01230",
        "  runs 04-control/seed-2/00000000 04-control/seed-9/00000000",
        "  runs 03-arm/seed-2/00000000 03-arm/seed-9/00000000",
    ]
    assert lost.split("\n") == [
        "06-lost against 04-control: INVALID (not preregistered)",
        "  seed 2 failed; seed 5 too",
        "  runs 04-control/seed-2/00000000 04-control/seed-9/00000000",
    ]
    assert about.split("\n") == [
        "validation loss in nats/token, the last evaluation",
        "2 seeds, 2 arms in the family: nothing can be said.",
    ]
    empty = study({"04-control": {}, "03-arm": {2: [3.0]}})
    arm, _ = verdict_text.explain(report(empty, evidence([OPEN])), ["11-open"])
    assert arm.split("\n")[-1] == "  runs –"


# -- another initialisation


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_edge_of_a_wild_aa_arm(alpha):
    def told(p, outcome="A/A"):
        return verdict_text.aa_warning(
            evidence(
                [verdict("07-again", outcome, D, measured={"p": p})], Terms(alpha=alpha)
            )
        )

    assert told(alpha) == [
        f"the A/A arm 07-again differs from its control (p {alpha:g}): expected of a "
        f"share of {alpha:g}, otherwise a sign that something beside the salt differs"
    ]
    assert told(math.nextafter(alpha, 1)) == []
    assert told(alpha / 2, "NEUTRAL") == []


# -- summaries


def test_the_paragraph_of_a_report():
    def summary(*verdicts, terms=Terms()):
        (text,) = verdict_text.summary(report(study(LOSSES), evidence(verdicts, terms)))
        return text

    assert summary() == "One step: there is nothing that a verdict could be about."
    assert summary(good(), LOST, AGAIN, replace(LOST, step="x")).startswith(
        "Verdicts: 1 SUPPORTED better, 2 INVALID. 3 seeds, 3 arms in the family: LIM"
    )
    few = replace(UNFAIR, step="07-again")
    made = report(study(LOSSES), evidence([good(), few], aa=("07-again",)))
    assert verdict_text.summary(made)[0].startswith("Verdicts: 1 SUPPORTED better. ")
    assert summary(AGAIN).startswith(
        "Verdicts: none, every arm is an A/A. 3 seeds, 1 ar"
    )
    assert summary(good(), terms=Terms(stage=SCREEN)) == (
        "A screening: it ranks the arms and claims nothing about any of them."
    )


def test_the_line_of_a_verdict():
    made = report(study(LOSSES), evidence(ALL))
    none = "(not preregistered)"
    assert verdict_text.one_line(made) == [
        f"03-arm: SUPPORTED better {none}, -0.01230 [-0.01900, -0.00100], {CLAIMED}",
        "07-again: A/A, -0.01230 [-0.01900, -0.00100], another initialisation, no claim",
        f"11-open: UNRESOLVED {none}, -0.01230 [-0.01900, -0.00100], {SEEN}",
        f"06-lost: INVALID {none}, seed 2 failed; seed 5 too",
        f"05-odd: NON_DIAGNOSTIC {none}, dtype",
    ]


# -- tables


def kinds(table: Table) -> dict[str, str]:
    """{title: kind} of a table's columns."""
    return {column.title: column.kind for column in table.columns}


def test_the_answer():
    """A line per arm, and what is behind it in words."""
    made = report(study(LOSSES), evidence(ALL))
    found = answers.table(made)
    assert kinds(found) == {
        **{"Step": "code", "Verdict": "word", "Difference, nats/token": "number"},
        **{"Interval": "number", "Seeds": "number"},
    }
    numbered = ("-0.01230", "[-0.01900, -0.00100] 98 %")
    aa = ("-0.01230", "[-0.01900, -0.00100] 95 %")
    assert found.rows == (
        ("03-arm", "SUPPORTED better", *numbered, "3"),
        ("07-again", "A/A", *aa, "2"),
        ("11-open", "UNRESOLVED", *numbered, "1"),
        ("06-lost", "INVALID", "–", "–", "0"),
        ("05-odd", "NON_DIAGNOSTIC", "–", "–", "2"),
    )
    told = dict(answers.sentences(made).rows)
    assert told["03-arm"].endswith(f"SUPPORTED better; {CLAIMED}; {ODD}.")
    assert told["07-again"].endswith("A/A; another initialisation, no claim.")
    assert told["11-open"].endswith(f"UNRESOLVED; {SEEN}.")
    assert told["06-lost"] == "INVALID; seed 2 failed; seed 5 too."


def test_the_table_behind_the_verdicts():
    found = verdict_section.details_table(evidence(ALL))
    titles = ["90 % interval", "p (paired t)", "Holm p", "Sign-flip p"]
    titles += ["NEUTRAL p", "SD"]
    titles += ["r", "BCa 95 % (description)"]
    assert kinds(found) == {
        **{"Step": "code"},
        **dict.fromkeys(titles, "number"),
        **{"Runs": "ref"},
    }
    first, tests = ("[-0.01700, -0.00900]", "0.0012"), ("0.031", "0.9", "0.00310")
    few, none = "(no interval: n < 4)", ("–",) * 8
    holm = "0.0046"
    assert found.rows == (
        ("03-arm", *first, holm, *tests, f"+0.99 {few}", "–", "R2"),
        ("07-again", *first, "–", *tests, "–", "–", "R3"),
        ("11-open", *first, holm, *tests, f"-0.50 {few}", "[-1.00000, +2.00000]", "R4"),
        ("06-lost", *none, "R5"),
        ("05-odd", *none, "R6"),
    )
    lost = verdict_section.details_table(evidence([LOST]))
    assert list(kinds(lost)) == ["Step", "Runs"], "empty columns"


def test_the_table_of_seeds():
    (found,) = verdict_section.seeds_tables(evidence(ALL))
    seeds = dict.fromkeys(("Seed 2", "Seed 5", "Seed 9"), "number")
    assert kinds(found) == {"Step": "code", **seeds, "Runs": "ref"}
    assert list(kinds(found)) == ["Step", *seeds, "Runs"]
    assert found.rows == (
        ("03-arm", "-0.01000", "-0.02000*", "-0.01230", "R2"),
        ("07-again", "+0.50000", "–", "+0.25000", "R3"),
        ("11-open", "+0.00100", "–", "–", "R4"),
        ("06-lost", "–", "–", "–", "R5"),
        ("05-odd", "+0.10000", "+0.30000", "–", "R6"),
    )


@pytest.mark.parametrize(
    "count, widths", [(0, [0]), (8, [8]), (9, [5, 4]), (12, [6, 6]), (17, [6, 6, 5])]
)
def test_no_more_seeds_abreast_than_a_page_takes(count, widths):
    seeds = tuple(range(3, 3 + count))
    tables = verdict_section.seeds_tables(evidence([good()], seeds=seeds))
    assert [len(table.columns) - 2 for table in tables] == widths
    titles = [column.title for table in tables for column in table.columns[1:-1]]
    assert titles == [f"Seed {seed}" for seed in seeds]


def test_a_step_without_runs_has_no_reference():
    """One that was announced and never ran."""
    found = evidence((LOST, UNFAIR), refs={"05-odd": "R9"})
    (seeds,) = verdict_section.seeds_tables(found)
    for table in (verdict_section.details_table(found), seeds):
        assert [row[-1] for row in table.rows] == ["", "R9"]
    assert [row[-1] for row in verdict_section.ranking_table(found).rows] == ["R9", ""]


def test_what_stands_around_the_tables():
    """In its order; a wild A/A arm is not to be overlooked."""
    found = evidence((good(), AGAIN), seeds=(2, 5, 9))
    section = verdict_section.section(report(study(LOSSES), found))
    types = [type(block) for block in section.blocks]
    behind = [Table, Text, Table, Text, Table]
    assert types == [Text, Notice, Picture, *behind]
    told = [block.text for block in section.blocks if isinstance(block, Text)]
    assert told[1:] == [
        "The numbers behind the verdicts:",
        "Differences seed by seed; * marks an outlier, which is kept:",
    ]
    assert verdict_text.terms(found) == (
        "Metric: validation loss in nats/token, the last evaluation. Control: 04-control. "
        "Better is lower. Smallest effect of interest: 0.00200 nats/token. Level: 0.05, "
        "Holm over 1."
    )
    assert section.blocks[1].title == "A/A" and told[0].startswith("3 seeds, 1")
    fast = evidence((good(),), SPEED)
    blocks = verdict_section.section(report(study(LOSSES), fast)).blocks
    assert [type(block) for block in blocks] == [Text, Picture, *behind]
    assert "Better is higher. Smallest effect of interest: 50 tokens/s. Level" in (
        verdict_text.terms(fast)
    )


@pytest.mark.parametrize("stage", [CONFIRM, "one"])
def test_the_terms_of_a_confirmation(stage):
    terms = Terms(smallest=None, stage=stage, screened=frozenset({7, 8, 3}), alpha=0.1)
    terms = replace(terms, last_evals=2)
    text = verdict_text.terms(evidence((good(), LOST), terms))
    assert "mean of the last 2 evaluations. Control" in text
    assert "Smallest effect of interest: none named. Level: 0.1, Holm over 2." in text
    used = " Confirmation on fresh seeds; 3, 7-8 chose the arms and are not used."
    assert text.endswith("Holm over 2." + used * (stage == CONFIRM))


# -- the ranking of a screening

RANKED = (
    verdict("09-second", "UNRESOLVED", {5: 0.125, 2: -0.375}, measured={}),
    verdict("03-tie", "NON_DIAGNOSTIC", {5: -0.125, 2: -0.125}, reasons=("n = 2",)),
    verdict("07-lost", "INVALID", {5: -9.0}, reasons=("seed 2 failed", "more")),
    verdict("08-again", "A/A", {5: -9.0, 2: -9.0}, measured={}),
    verdict("02-best", "SUPPORTED", {9: -0.25}, direction="better", measured={}),
    verdict("06-worst", "SUPPORTED", {9: 0.2}, direction="worse", measured={}),
    verdict("04-none", "NON_DIAGNOSTIC", {}),
)
ORDER = ["02-best", "09-second", "03-tie", "06-worst", "07-lost", "04-none"]


def test_the_order_of_a_ranking():
    """By the mean; ties as they stand in the study; what is lost comes last."""
    screening = Terms(stage=SCREEN)
    assert [v.step for v in ranking(evidence(RANKED, screening))] == ORDER
    back = [v.step for v in ranking(evidence(RANKED, replace(SPEED, stage=SCREEN)))]
    assert back == ["06-worst", "09-second", "03-tie", "02-best", "07-lost", "04-none"]
    swapped = (RANKED[1], RANKED[0], *RANKED[2:])
    again = [v.step for v in ranking(evidence(swapped, screening))]
    assert again[:3] == ["02-best", "03-tie", "09-second"]


def test_the_table_of_a_ranking():
    found = evidence(RANKED, Terms(stage=SCREEN))
    section = verdict_section.section(report(study(LOSSES), found))
    assert kinds(section.blocks[1]) == {
        **{"Rank": "number", "Step": "code", "Mean difference": "number"},
        **{"By seed": "text", "Lost": "text", "Runs": "ref"},
    }
    assert section.title == "Ranking" and section.blocks[0].text.startswith(
        "A screenin"
    )
    assert len(section.blocks) == 2 and section.blocks[1].rows == (
        ("1", "02-best", "-0.25000", "9: -0.25000", "", "R6"),
        ("2", "09-second", "-0.12500", "5: +0.12500, 2: -0.37500", "", "R2"),
        ("3", "03-tie", "-0.12500", "5: -0.12500, 2: -0.12500", "", "R3"),
        ("4", "06-worst", "+0.20000", "9: +0.20000", "", "R7"),
        ("–", "07-lost", "–", "5: -9.00000", "seed 2 failed; more", "R4"),
        ("6", "04-none", "–", "", "", "R8"),
    )


@dataclass(frozen=True)
class Settings:
    """What of StudySettings a promotion reads."""

    promote: int
    stage: str = SCREEN
    confirming: tuple[int, ...] = (101, 102)
    named_arms: tuple[str, ...] = ()

    @property
    def seed_list(self) -> tuple[int, ...]:
        return self.confirming if self.stage == CONFIRM else (2, 5, 9)


def promote(made: Report, settings: Settings, place: Path) -> dict:
    """The record of a promotion in `place`."""
    return promotion.promote(SimpleNamespace(settings=settings, study_dir=place), made)


def screened(lost=(), extra=()):
    """The report of a screening of RANKED on seeds 9, 2 and 5."""
    losses = {9: [3.1], 2: [3.2], 5: [3.3]}
    made = study({"04-control": losses, "03-tie": losses}, lost, extra)
    return report(made, evidence(RANKED, Terms(stage=SCREEN)))


@pytest.mark.parametrize("count, last", [(1, 1), (2, 2), (3, 3), (5, 5), (9, 5)])
def test_who_is_promoted(tmp_path, count, last):
    """The first of the ranking, never a lost one; and what chose them is kept."""
    record = promote(screened(), Settings(count), tmp_path)
    sound = [step for step in ORDER if step != "07-lost"]
    assert record["promoted"] == sound[:last]
    assert [arm["step"] for arm in record["ranking"]] == ORDER
    assert record["seeds"] == [2, 5, 9] and record["control"] == "04-control"
    by = {arm["step"]: arm for arm in record["ranking"]}
    assert by["09-second"]["difference"] == -0.125
    assert by["09-second"]["differences"] == {"5": 0.125, "2": -0.375}
    assert by["07-lost"]["lost"] == ["seed 2 failed", "more"]
    assert (by["03-tie"]["lost"], by["04-none"]["difference"]) == ([], None)
    assert by["03-tie"]["runs"] == [f"03-tie/seed-{k}/00000000" for k in (2, 5, 9)]
    assert by["02-best"]["runs"] == []
    assert (record["study"], record["metric"], record["last_evals"]) == (
        *("demo", "val_loss"),
        1,
    )
    assert (
        record["sha256"]
        == json.loads((tmp_path / "promotion.json").read_text())["sha256"]
    )


@pytest.mark.parametrize(
    "state, waits",
    [("missing", 1), ("new", 1), ("running", 1), ("interrupted", 1), ("damaged", 1)]
    + [("failed", 0), ("diverged", 0)],
)
def test_a_screening_waits_for_what_can_still_run(tmp_path, state, waits):
    made = screened([Open("03-tie", 7, state, "", None)])
    if waits:
        with pytest.raises(PlanError, match="1 cell of the screening did not run yet"):
            promote(made, Settings(1), tmp_path)
    else:
        assert promote(made, Settings(1), tmp_path)["promoted"] == ["02-best"]


def test_a_promotion_comes_before_the_fresh_seeds(tmp_path):
    """Whether or not their runs count; and only in a screening, of what is sound."""
    begun = screened(extra=[run("03-tie", 102, [3.0]), run("03-tie", 100, [3.0])])
    with pytest.raises(PlanError, match="^seeds 102 of CONFIG_CONFIRM_SEEDS ran alre"):
        promote(begun, Settings(1), tmp_path)
    with pytest.raises(PlanError, match="only a screening promotes"):
        promote(screened(), Settings(1, "one"), tmp_path)
    lost = report(study(LOSSES), evidence(RANKED[2:3], Terms(stage=SCREEN)))
    with pytest.raises(PlanError, match="no arm of the screening finished all its"):
        promote(lost, Settings(1), tmp_path)


# -- the plot


def test_what_the_forest_shows():
    """Seeds, mean, Holm's interval (thin), the 90 % one (thick), claim by mark and
    colour; the arms from above in their order.
    """
    worse = replace(good(), step="09-w", outcome="LIMITED", direction="worse")
    wild = verdict("10-nan", "INVALID", {2: math.nan})
    aa = replace(AGAIN, measured=replace(MEASURED, interval=(0.001, 0.004)))
    found = evidence([good(), wild, worse, aa, UNFAIR])
    (axes,) = forest.figure(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("03-arm\nSUPPORTED better", "09-w\nLIMITED worse"),
        *("07-again\nA/A", "05-odd\nNON_DIAGNOSTIC"),
    ]
    lines = [
        (tuple(line.get_xdata()), tuple(line.get_ydata()), line.get_linewidth())
        for line in axes.lines
    ]
    assert [line[0] for line in lines[:3]] == [(-0.002,) * 2, (0.002,) * 2, (0.0, 0.0)]
    assert lines[3:] == [
        (MEASURED.interval, (0, 0), 1.1),
        (MEASURED.narrow, (0, 0), 3.0),
        (MEASURED.interval, (1, 1), 1.1),
        (MEASURED.narrow, (1, 1), 3.0),
        ((0.001, 0.004), (2, 2), 1.1),
        (MEASURED.narrow, (2, 2), 3.0),
    ]
    seeds, means = axes.collections[::2], axes.collections[1::2]
    assert [[x for x, _ in each.get_offsets()] for each in seeds] == [
        pytest.approx(list(v.differences.values())) for v in (good(), worse, aa, UNFAIR)
    ]
    middles = [tuple(each.get_offsets()[0]) for each in means]
    assert middles == [
        *(pytest.approx((-0.0141, 0)), pytest.approx((-0.0141, 1))),
        *(pytest.approx((0.375, 2)), pytest.approx((0.2, 3))),
    ]
    tones = [to_hex(each.get_edgecolor()[0]) for each in means]
    assert tones == ["#0072b2", "#d55e00", "#57606a", "#57606a"]
    for each, mark in zip(means, "Dsvo"):
        style = MarkerStyle(mark)
        shape = style.get_path().transformed(style.get_transform())
        assert each.get_paths()[0].vertices.tolist() == shape.vertices.tolist()
    faces = [to_hex(each.get_facecolor()[0]) for each in means]
    assert faces == ["#0072b2", "#d55e00", "#ffffff", "#ffffff"]
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((0.001, 0.003))
    assert (band.get_y(), band.get_height()) == (1.55, 0.9), "beside no other arm"
    low, high = sorted(axes.get_ylim())
    assert axes.yaxis_inverted() and (low, high) == (-0.6, 3.6)
    assert axes.get_title(loc="left").endswith(
        "Arm minus control: better is to the left"
    )
    (axes,) = forest.figure(evidence([good()], SPEED)).axes
    assert "better is to the right" in axes.get_title(loc="left")
    assert axes.get_xlabel() == "tokens_per_s, tokens/s" and not axes.patches
    assert forest.picture(evidence([wild, LOST])) is None


def test_metrics_and_their_direction():
    """Losses, times and memory are better when lower, speeds and scores when higher."""
    lower = {name for name, metric in METRICS.items() if metric.lower_is_better}
    assert lower == {*METRICS} - {"tokens_per_s"}
    assert named("eval:t/acc").lower_is_better is False
    assert named("eval:t/loss").lower_is_better is True
    assert named("eval:t/acc:lower").lower_is_better is True
    assert named("eval:t/odd:higher").lower_is_better is False
    timed = {name for name, metric in METRICS.items() if metric.timed}
    assert timed == {"tokens_per_s", "step_time", "train_time"}


def test_what_holds_where_nothing_is_said():
    """The defaults of docs/evidence.md."""
    assert Terms() == Terms(METRICS["val_loss"], 1, 0.002, 0.05, "one", frozenset(), ())
    assert Rule() == Rule(alpha=0.05, smallest=0.002, lower_is_better=True)
    found = evidence((), Terms(SPEED.metric, smallest=50.0, alpha=0.01))
    assert found.rule == Rule(alpha=0.01, smallest=50.0, lower_is_better=False)
