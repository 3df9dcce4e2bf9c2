"""What is printed around a verdict, word by word: terminal, tables, ranking, plot."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from matrix.evidence import promotion, stats
from matrix.evidence.gather import Report
from matrix.evidence.preregistration import Registration
from matrix.evidence.verdict import RULE, Rule
from matrix.evidence.weigh import ranking
from matrix.plan.checks import PlanError
from matrix.report import registration_text, verdict_section, verdict_text
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


@pytest.fixture
def asked(monkeypatch):
    """What power and seeds are asked for, in place of asking."""
    calls = []

    def visible(*arguments):
        calls.append(("visible", *arguments))
        return 0.0044

    def needed(*arguments):
        calls.append(("needed", *arguments))
        return 9

    monkeypatch.setattr(stats, "visible", visible)
    monkeypatch.setattr(stats, "seeds_needed", needed)
    return calls


# -- numbers


def test_how_a_number_is_written():
    loss, speed = evidence(ALL), evidence(ALL, SPEED)
    assert verdict_text.difference(loss, 0.0123456) == "+0.01235"
    assert (
        verdict_text.difference(loss, -2.0) == "-2.00000"
        and verdict_text.difference(loss, None) == "–"
    )
    assert (
        verdict_text.difference(speed, 1234.56) == "+1235"
        and verdict_text.difference(speed, None) == "–"
    )
    assert verdict_text.difference(speed, -0.123456) == "-0.1235"
    assert (
        verdict_text.magnitude(loss, 0.002),
        verdict_text.magnitude(loss, -1.0),
    ) == (
        "0.00200",
        "-1.00000",
    )
    assert verdict_text.magnitude(speed, 50.0) == "50"
    assert verdict_text.interval(loss, (-1.0, 2.0)) == "[-1.00000, +2.00000]"
    assert (verdict_text.p_value(0.00123), verdict_text.p_value(0.5)) == (
        "0.0012",
        "0.5",
    )
    assert (
        verdict_text.correlation(good()) == "+0.99"
        and verdict_text.correlation(OPEN) == "-0.50"
    )
    assert verdict_text.correlation(LOST) == "–"
    assert (
        verdict_text.by_seed(loss, good()) == "2: -0.01000, 5: -0.02000*, 9: -0.01230"
    )
    assert verdict_text.outlier_note(replace(good(), outliers=(2, 9))) == (
        "outlier: seed 2, 9 does not fit the others; it is kept, look at its run"
    )


def test_why_a_verdict_is_no_claim():
    loss = evidence(ALL)
    assert verdict_text.cause(loss, good()) == ""
    assert verdict_text.cause(loss, AGAIN) == "the control again: noise floor, no claim"
    assert verdict_text.cause(loss, LOST) == "seed 2 failed; seed 5 too"
    assert verdict_text.cause(loss, OPEN) == (
        "could have seen 0.00520 (80 % power); 0.00200 takes 11 seeds"
    )
    endless = verdict("a", "UNRESOLVED", D, measured={"needed": None})
    assert verdict_text.cause(loss, endless) == (
        "could have seen 0.00520 (80 % power); 0.00200 takes over 10,000 seeds"
    )
    none = evidence(ALL, Terms(smallest=None))
    assert verdict_text.cause(none, OPEN) == (
        "could have seen 0.00520 (80 % power); no smallest effect of interest was named"
    )
    quiet = verdict("a", "UNRESOLVED", D, reasons=("x",))
    assert verdict_text.cause(loss, quiet) == "x"


def test_a_verdict_with_its_numbers(asked):
    found = evidence((good(bca=(-0.02, -0.005)), LOST), seeds=(2, 9))
    arm, lost, about = verdict_text.explain(
        report(study(LOSSES), found), ["03-arm", "06-lost"]
    )
    assert arm.split("\n") == [
        "03-arm against 04-control: SUPPORTED better (not preregistered)",
        "  difference -0.01230, 98 % interval [-0.01900, -0.00700], "
        "90 % [-0.01700, -0.00900]",
        "  p 0.0012 (paired t, 2 degrees of freedom), Holm 0.0046, sign flip 0.031, "
        "SD 0.00310, r +0.99",
        "  BCa bootstrap 95 % (description) [-0.02000, -0.00500]",
        "  by seed 2: -0.01000, 5: -0.02000*, 9: -0.01230",
        "  outlier: seed 5 does not fit the others; it is kept, look at its run",
        "  runs 04-control/seed-2/00000000 04-control/seed-9/00000000",
        "  runs 03-arm/seed-2/00000000 03-arm/seed-9/00000000",
    ]
    assert lost.split("\n") == [
        "06-lost against 04-control: INVALID (not preregistered)",
        "  seed 2 failed; seed 5 too",
        "  runs 04-control/seed-2/00000000 04-control/seed-9/00000000",
    ]
    assert about.split("\n") == [
        "val_loss in nats/token, the last evaluation",
        "2 seeds, 2 arms in the family: nothing can be said.",
    ]
    empty = study({"04-control": {}, "03-arm": {2: [3.0]}})
    arm, _ = verdict_text.explain(report(empty, evidence([OPEN])), ["11-open"])
    assert arm.split("\n")[-1] == "  runs –"


# -- what n and m allow


@pytest.mark.parametrize(
    "n, alpha, most, flip",
    [
        (3, 0.05, "LIMITED at most", None),
        (5, 0.05, "LIMITED at most", None),
        (6, 0.05, "SUPPORTED is possible", 0.05),
        (7, 0.01, "LIMITED at most", None),
        (8, 0.01, "SUPPORTED is possible", 0.01),
    ],
)
def test_what_n_and_m_allow(asked, n, alpha, most, flip):
    """At the median deviation, for the first of m arms; α/m for t, α for the flips."""
    sizes = (0.004, 0.001, 0.002)
    found = [verdict(f"{k}", "UNRESOLVED", D, measured={"sd": k}) for k in sizes]
    terms = Terms(smallest=0.003, alpha=alpha)
    seeds = tuple(range(2, 2 + 2 * n, 2))
    text = verdict_text.what_is_possible(evidence([*found, LOST], terms, seeds=seeds))
    level = alpha / 4
    assert asked == [
        ("visible", n, 0.002, level, flip),
        ("needed", 0.002, 0.003, level, alpha),
    ]
    assert text == (
        f"{n} seeds, 4 arms in the family: {most}. At the median SD of the differences, "
        "0.00200, the first true one is seen with 80 % power from 0.00440 on; 0.00300 "
        "would take 9 seeds."
    )


def test_what_is_left_out_of_what_is_allowed(asked, monkeypatch):
    six = (2, 4, 6, 8, 10, 12)
    one = evidence([OPEN], Terms(smallest=None), seeds=six)
    assert verdict_text.what_is_possible(one).endswith("from 0.00440 on.")
    assert verdict_text.what_is_possible(evidence([LOST], seeds=six)) == (
        "6 seeds, 1 arm in the family: SUPPORTED is possible."
    )
    assert verdict_text.what_is_possible(evidence([AGAIN], seeds=(5,))) == (
        "1 seed, 1 arm in the family: nothing can be said."
    )
    monkeypatch.setattr(stats, "seeds_needed", lambda *a: 4)
    assert verdict_text.what_is_possible(evidence([OPEN], seeds=six)).endswith(
        "would take 6 seeds."
    )
    monkeypatch.setattr(stats, "seeds_needed", lambda *a: None)
    text = verdict_text.what_is_possible(evidence([OPEN], seeds=six))
    assert text.endswith("would take over 10,000 seeds.")


# -- the noise floor


def test_the_floor_is_the_hull_of_the_aa_arms_and_zero():
    def floor(*spans):
        found = [
            verdict(f"{k}", "A/A", D, measured={"interval": ends})
            for k, ends in enumerate(spans)
        ]
        return evidence([good(), *found]).floor

    assert floor((-0.2, 0.1)) == (-0.2, 0.1)
    assert floor((-0.2, 0.1), (-0.1, 0.3)) == (-0.2, 0.3)
    assert (floor((0.1, 0.2)), floor((-0.2, -0.1))) == ((0.0, 0.2), (-0.2, 0.0))
    assert floor() is None
    lost = verdict("x", "INVALID", D)
    assert evidence([good(), lost], aa=("x",)).floor is None


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_edge_of_a_wild_aa_arm(alpha):
    def told(p, outcome="A/A"):
        return verdict_text.floor_warning(
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


def test_the_paragraph_of_a_report(asked):
    def summary(*verdicts, terms=Terms()):
        (text,) = verdict_text.summary(report(study(LOSSES), evidence(verdicts, terms)))
        return text

    assert summary() == "One step: there is nothing that a verdict could be about."
    assert summary(good(), LOST, AGAIN, replace(LOST, step="x")).startswith(
        "Verdicts: 1 SUPPORTED better, 2 INVALID. 3 seeds, 3 arms in the family: LIM"
    )
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
        f"03-arm: SUPPORTED better {none}, -0.01230 [-0.01900, -0.00700]",
        "07-again: A/A, -0.01230 [-0.01900, -0.00700], the control again: noise floor, "
        "no claim",
        f"11-open: UNRESOLVED {none}, -0.01230 [-0.01900, -0.00700], could have seen "
        "0.00520 (80 % power); 0.00200 takes 11 seeds",
        f"06-lost: INVALID {none}, seed 2 failed; seed 5 too",
        f"05-odd: NON_DIAGNOSTIC {none}, dtype",
    ]


# -- tables


def kinds(table: Table) -> dict[str, str]:
    """{title: kind} of a table's columns."""
    return {column.title: column.kind for column in table.columns}


def test_the_table_of_verdicts():
    found = verdict_section.verdict_table(evidence(ALL))
    assert kinds(found) == {
        **{"Step": "code", "Verdict": "text", "Seeds": "number"},
        **{"Difference": "number", "Interval": "number", "Level": "number"},
        **{"90 % interval": "number", "p": "number", "Holm p": "number"},
        **{"Sign-flip p": "number", "r": "number", "Remarks": "text", "Runs": "ref"},
    }
    span, narrow = "[-0.01900, -0.00700]", "[-0.01700, -0.00900]"
    head, tail = ("-0.01230", span), (narrow, "0.0012")
    seen = "could have seen 0.00520 (80 % power); 0.00200 takes 11 seeds"
    odd = "outlier: seed 5 does not fit the others; it is kept, look at its run"
    bca = "BCa 95 %, description: [-1.00000, +2.00000]"
    aa = "the control again: noise floor, no claim"
    none, flips = ("–",) * 7, ("0.0046", "0.031")
    assert found.rows == (
        ("03-arm", "SUPPORTED better", "3", *head, "98 %", *tail, *flips)
        + ("+0.99", odd, "R2"),
        ("07-again", "A/A", "2", *head, "95 %", *tail, "–", "0.031", "–", aa, "R3"),
        ("11-open", "UNRESOLVED", "1", *head, "98 %", *tail, *flips)
        + ("-0.50", f"{seen}; {bca}", "R4"),
        ("06-lost", "INVALID", "0", *none, "–", "seed 2 failed; seed 5 too", "R5"),
        ("05-odd", "NON_DIAGNOSTIC", "2", *none, "–", "dtype", "R6"),
    )


def test_the_table_of_seeds():
    found = verdict_section.seeds_table(evidence(ALL))
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


def test_a_step_without_runs_has_no_reference():
    """One that was announced and never ran."""
    found = evidence((LOST, UNFAIR), refs={"05-odd": "R9"})
    for table in (verdict_section.verdict_table, verdict_section.seeds_table):
        assert [row[-1] for row in table(found).rows] == ["", "R9"]
    assert [row[-1] for row in verdict_section.ranking_table(found).rows] == ["R9", ""]


def test_what_stands_around_the_tables(asked):
    """In its order; deviations and a wild A/A arm are not to be overlooked."""
    found = evidence((good(), AGAIN), seeds=(2, 5, 9))
    section = verdict_section.section(report(study(LOSSES), found))
    types = [type(block) for block in section.blocks]
    assert types == [Text, Text, Text, Table, Notice, Picture, Text, Table, Text]
    told = [block.text for block in section.blocks if isinstance(block, Text)]
    assert told[0] == registration_text.NOT_REGISTERED and told[3:] == [
        "Differences seed by seed; * marks an outlier, which is kept:",
        RULE,
    ]
    assert told[1] == (
        "Metric: val_loss in nats/token, the last evaluation. Control: 04-control. "
        "Better is lower. Smallest effect of interest: 0.00200 nats/token. Level: 0.05, "
        "Holm over 1."
    )
    assert section.blocks[4].title == "Noise floor" and told[2].startswith("3 seeds, 1")
    registered = Registration(Path("p.json"), "5e", (), ("x",))
    made = report(study(LOSSES), evidence((good(),), SPEED), registered)
    blocks = verdict_section.section(made).blocks
    assert [type(block) for block in blocks] == [
        *(Notice, Text, Text, Table, Picture, Text, Table, Text)
    ]
    assert blocks[0].title == "Deviations from what was announced"
    assert blocks[0].lines[1:] == ("deviation: x",)
    assert "Better is higher. Smallest effect of interest: 50 tokens/s. Level" in (
        blocks[1].text
    )


@pytest.mark.parametrize("stage", [CONFIRM, "one"])
def test_the_terms_of_a_confirmation(asked, stage):
    terms = Terms(smallest=None, stage=stage, screened=frozenset({7, 8, 3}), alpha=0.1)
    terms = replace(terms, last_evals=2)
    made = report(study(LOSSES), evidence((good(), LOST), terms))
    text = verdict_section.section(made).blocks[1].text
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
    assert (band.get_x(), band.get_width()) == (0.0, 0.004)
    low, high = sorted(axes.get_ylim())
    assert axes.yaxis_inverted() and (low, high) == (-0.6, 3.6)
    assert axes.get_title(loc="left").endswith("04-control: better is to the left")
    (axes,) = forest.figure(evidence([good()], SPEED)).axes
    assert "better is to the right" in axes.get_title(loc="left")
    assert axes.get_xlabel() == "tokens_per_s, tokens/s" and not axes.patches
    assert forest.figure(evidence([wild, LOST])) is None


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
