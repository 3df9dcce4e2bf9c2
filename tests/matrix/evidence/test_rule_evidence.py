"""From runs to contrasts: what is paired, lost, in the family; registers; equal time."""

import json
import math
from dataclasses import replace

import pytest

from matrix.evidence import preregistration, stats
from matrix.evidence.gather import gather
from matrix.evidence.weigh import disagreement, reused, weigh
from matrix.report import equal_time
from matrix.results.config_differences import only_salted, unexplained
from matrix.results.metrics import METRICS, named
from matrix.results.rows import make_rows
from matrix.results.selection import CONFIRM, ONE, SCREEN, Selection, Terms
from matrix.results.study import Open
from records import sealed_record
from tests.matrix.imagined import evidence, run, study, verdict
from tests.matrix.synthetic import Cell

SALTED = {"run": {"cell": {"changes": ["INIT_SALT"]}}, "config": {"INIT_SALT": "aa"}}
D = {9: -0.01, 2: -0.02, 5: -0.0123, 30: -0.014}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Power is the matter of test_rule.py."""
    monkeypatch.setattr(stats, "visible", lambda *a: 0.0)
    monkeypatch.setattr(stats, "seeds_needed", lambda *a: 2)


def arms(**shifts: float) -> dict:
    """{step: {seed: losses}}: the control and the arms d3 ("03-arm"), shifted."""
    base = {seed: [3 + 0.01 * seed**0.5] for seed in D}
    made = {"04-control": base}
    for name, shift in shifts.items():
        step = f"{name[1:].zfill(2)}-arm"
        made[step] = {k: [base[k][-1] + d + shift] for k, d in D.items()}
    return made


def judged(made, terms=Terms()):
    return weigh(made, make_rows(made, Selection(terms=terms)), terms)


# -- pairs and the metric


def test_pairs_are_by_seed():
    """Whatever order the runs were read in; the numbers of the control are its own."""
    made = study(arms(d3=0.0))
    found = judged(made)
    one = found.of("03-arm")
    assert one.differences == pytest.approx(dict(sorted(D.items())))
    assert list(one.differences) == [2, 5, 9, 30] == list(found.seeds)
    assert (found.control, found.family, found.aa) == ("04-control", ("03-arm",), ())
    assert found.refs == {"04-control": "R1", "03-arm": "R2"}
    assert found.of("04-control") is None and one.label == "LIMITED better"
    assert found.about == "validation loss in nats/token, the last evaluation"
    again = judged(made, Terms(last_evals=2))
    assert (
        again.about == "validation loss in nats/token, mean of the last 2 evaluations"
    )
    assert again.terms.last_evals == 2
    assert again.of("03-arm").differences[9] == pytest.approx(D[9] / 2)


@pytest.mark.parametrize("name", METRICS)
def test_the_number_of_a_metric(name):
    """Each from its own record; a lower one is better, but for speed."""
    places = {"tokens_per_s": "tokens_per_s", "step_time": "average_step_time"}
    places |= {"train_time": "train_time", "peak_memory": "peak_memory_bytes"}
    factor = {"bits_per_byte": 0.5, "perplexity": 10.0}.get(name, 1.0)
    table = arms(d3=0.0)
    made = study(table)
    if name in places:
        counted = {
            (step, seed): replace(each, documents=documents)
            for (step, seed), each in made.counted.items()
            for x in [table[step][seed][-1]]
            for numbers in [{place: 7.0 + n for n, place in enumerate(places.values())}]
            for summary in [each.documents["summary"] | numbers | {places[name]: x}]
            for documents in [{**each.documents, "summary": summary}]
        }
        made = replace(made, counted=counted)
    found = judged(made, Terms(METRICS[name], smallest=None)).of("03-arm")
    expected = {seed: factor * d for seed, d in D.items()}
    assert found.differences == pytest.approx(expected)
    assert found.direction == ("worse" if name == "tokens_per_s" else "better")


def test_the_metric_of_an_evaluation():
    metric = named("eval:a text/acc")
    rows = {"a text": {"metrics": {"acc": 0.5}, "sha256": "5e", "settings": {}}}
    every = {"evaluations": rows}
    made = study(arms(d3=0.0), every=every)
    found = judged(made, Terms(metric, smallest=None)).of("03-arm")
    assert (
        set(found.differences.values()) == {0.0} and found.outcome == "NON_DIAGNOSTIC"
    )
    lacking = study(arms(d3=0.0))
    reasons = judged(lacking, Terms(metric, smallest=None)).of("03-arm").reasons
    assert reasons == tuple(
        f"{step} seed 2, 5, 9, 30 records no eval:a text/acc (make eval)"
        for step in ("03-arm", "04-control")
    )
    other = {"evaluations": {"a text": {**rows["a text"], "better": {"acc": "lower"}}}}
    made = study(arms(d3=0.0), every=other)
    reasons = judged(made, Terms(metric, smallest=None)).of("03-arm").reasons
    assert reasons[0] == (
        "eval:a text/acc was taken for higher is better, 04-control/seed-2/00000000 "
        "records that lower is"
    )
    assert len(reasons) == 8


def test_a_summary_that_lacks_the_metric():
    made = study(arms(d3=0.0), every={"summary": {"train_time": 4.0}})
    terms = Terms(METRICS["tokens_per_s"], smallest=None)
    assert judged(made, terms).of("03-arm").reasons == (
        "03-arm seed 2, 5, 9, 30 records no tokens_per_s",
        "04-control seed 2, 5, 9, 30 records no tokens_per_s",
    )


# -- lost runs


def test_lost_cells_are_named_with_their_cause():
    """Only those of the arm and the control, only where no run counts."""
    table = arms(d3=0.0, d8=0.0)
    del table["03-arm"][9], table["04-control"][5], table["08-arm"][30]
    lost = [
        Open("03-arm", 9, "failed", "out of memory", "03-arm/seed-9/ab"),
        Open("03-arm", 7, "missing", "never ran", None),
        Open("03-arm", 8, "missing", "never ran", None),
        Open("03-arm", 2, "failed", "a newer one", "03-arm/seed-2/cd"),
        Open("04-control", 5, "running", "", "04-control/seed-5/ef"),
        Open("08-arm", 30, "diverged", "nan", None),
    ]
    found = judged(study(table, lost))
    control = "04-control seed 5 running (04-control/seed-5/ef)"
    assert found.of("03-arm").reasons == (
        "03-arm seed 9 failed: out of memory (03-arm/seed-9/ab)",
        "03-arm seed 7-8 missing: never ran",
        control,
    )
    assert found.of("08-arm").reasons == (
        "08-arm seed 30 diverged: nan",
        control,
        "diverged in seed 30; control in none (p 1)",
        "difference -0.01500 over 2 pairs of survivors, no evidence",
    )
    assert found.family == ("03-arm", "08-arm")
    assert found.of("03-arm").differences == pytest.approx({2: D[2], 30: D[30]})


@pytest.mark.parametrize("sign", [1, -1])
def test_the_edge_of_a_disagreement(sign):
    """10⁻⁹ of the last evaluation's loss; another step is always one."""
    for share, same in [(0.99e-9, True), (1.01e-9, False)]:
        final = {"step": 12, "loss": 4.0 * (1 + sign * share)}
        one = run("03-arm", 5, [7.0, 4.0], summary={"final_eval": final})
        assert (disagreement(one) == []) is same
    for step in (11, 13):
        final = {"step": step, "loss": 4.0}
        one = run("03-arm", 5, [4.0], summary={"final_eval": final})
        assert disagreement(one) == [
            f"03-arm/seed-5/00000000: summary.json ends at step {step} with validation loss 4.0, "
            "metrics.jsonl at step 12 with 4.0"
        ]


def test_a_disagreement_is_invalid_on_either_side():
    final = {"step": 12, "loss": 9.0}
    table = arms(d3=0.0, d8=0.0)
    arm = study(table, **{"03_arm": {"summary": {"final_eval": final}}})
    assert judged(arm).of("03-arm").outcome == "INVALID"
    assert judged(arm).of("08-arm").outcome == "LIMITED"
    control = study(table, **{"04_control": {"summary": {"final_eval": final}}})
    assert [v.outcome for v in judged(control).verdicts] == ["INVALID"] * 2


# -- the family and the A/A arms


def test_who_is_in_the_family():
    """Arms with runs, announced ones, and what once ran here; A/A arms never."""
    made = study(
        arms(d3=0.0, d7=0.1),
        extra=[
            run("11-old", 2, [3.0]),
            run("12-salt", 2, [3.0], **SALTED),
            run("13-both", 2, [3.0], **SALTED),
            run("13-both", 5, [3.0]),
        ],
        **{"07_arm": SALTED},
    )
    terms = Terms(family=("09-told", "03-arm"))
    found = judged(made, terms)
    assert found.aa == ("07-arm",)
    assert found.family == ("03-arm", "09-told", "11-old", "13-both")
    assert found.of("09-told").reasons == ("announced, never ran",)
    why = ("ran in this directory, not in the current plan",)
    assert found.of("11-old").reasons == found.of("13-both").reasons == why
    assert found.of("12-salt") is None
    one = found.of("03-arm").measured
    assert one.adjusted == pytest.approx(4 * one.p)
    confirmed = judged(made, replace(terms, stage=CONFIRM))
    assert confirmed.family == ("03-arm", "09-told"), "after a screening those alone"
    told = replace(terms, family=("11-old",))
    assert judged(made, told).of("11-old").reasons == ("announced, never ran",)


def test_what_makes_an_aa_arm():
    """Every pair differs in the salt and nothing else; without pairs, by its word."""
    table = arms(d3=0.0)

    def only(made):
        return only_salted(*make_rows(made))

    assert only(study(table, **{"03_arm": SALTED}))
    assert not only(study(table))
    more = {"config": {"INIT_SALT": "aa", "GPT2_LAYERS": 3}}
    assert not only(study(table, **{"03_arm": more}))
    one = study(table, **{"03_arm": SALTED})
    plain = run("03-arm", 5, [3.0])
    mixed = replace(one, counted={**one.counted, ("03-arm", 5): plain})
    assert not only(mixed), "in all seeds"
    apart = study({**table, "03-arm": {7: [3.0]}}, **{"03_arm": SALTED})
    assert only(apart)
    both = {"run": {"cell": {"changes": ["INIT_SALT", "MLP_DIM"]}}}
    assert not only(study({**table, "03-arm": {7: [3.0]}}, **{"03_arm": both}))
    nothing = {"run": {"cell": {"changes": None}}}
    assert not only(study({**table, "03-arm": {7: [3.0]}}, **{"03_arm": nothing}))
    assert not only(study({**table, "03-arm": {}}))


def test_differences_that_no_step_accounts_for():
    """By symbol and value, with the seeds; SEED and operational ones never."""
    table = arms(d3=0.0)
    rate = {"config": {"RATE": "3e-4", "JOBS": 1}, "operational": ("JOBS",)}
    hot = {"config": {"RATE": "1e-2", "JOBS": 2}, "operational": ()}

    def told(control, arm, made=table):
        found = study(made, **{"04_control": control, "03_arm": arm})
        return unexplained(make_rows(found))

    line = (
        "03-arm differs from its control in CONFIG_RATE, which is not a line of the "
        'step: "3e-4" in 04-control, "1e-2" in 03-arm (seeds 2, 5, 9, 30)'
    )
    assert told(rate, hot) == [line]
    changes = {"run": {"cell": {"changes": ["RATE"]}}}
    assert told(rate, hot | changes) == told(rate | changes, hot) == []
    assert told({}, rate) == [
        line.replace('"3e-4"', "(inactive)").replace("1e-2", "3e-4")
    ]
    some = {**table, "03-arm": {9: [3.0]}}
    assert told(rate, hot, some) == [line.replace("seeds 2, 5, 9, 30", "seed 9")]
    silent = {"run": {"cell": {"changes": None}}}
    assert told(rate, hot | silent) == [
        "4 runs of older code do not record what their step changes: whether a step "
        "and its control differ in anything else was not checked"
    ]


def test_runs_of_one_step_that_differ():
    made = study(arms(d3=0.0), every={"config": {"RATE": "1"}})
    counted = dict(made.counted)
    for key in (("03-arm", 30), ("03-arm", 2), ("04-control", 30), ("04-control", 2)):
        counted[key] = run(*key, [3.0], config={"RATE": "2"})
    assert unexplained(make_rows(replace(made, counted=counted))) == [
        f'{step}: its runs differ in CONFIG_RATE: "2" in seeds 2, 30; "1" in seeds 5, 9'
        for step in ("04-control", "03-arm")
    ]


# -- screening seeds


@pytest.mark.parametrize("stage", [ONE, CONFIRM, SCREEN])
def test_seeds_that_chose_the_arms(stage):
    """By the promotion, or by what the run remembers; a screening may use them."""
    runs = [run("03-arm", seed, [3.0]) for seed in (9, 2, 5)]
    runs.append(run("03-arm", 30, [3.0], run={"cell": {"stage": SCREEN}}))
    runs.append(run("03-arm", 40, [3.0], run={"cell": {"stage": CONFIRM}}))
    terms = Terms(stage=stage, screened=frozenset({2, 9, 77}))
    line = (
        "screening seeds re-used: 2, 9, 30; a verdict takes fresh seeds "
        "(CONFIG_CONFIRM_SEEDS)"
    )
    assert reused(runs, terms) == ([] if stage == SCREEN else [line])
    assert reused(runs[2:3], terms) == []


@pytest.mark.parametrize("side", ["03_arm", "04_control"])
def test_screened_runs_on_either_side(side):
    made = study(arms(d3=0.0), **{side: {"run": {"cell": {"stage": SCREEN}}}})
    (reason,) = judged(made).of("03-arm").reasons
    assert reason.startswith("screening seeds re-used: 2, 5, 9, 30;")


# -- the preregistration

CODE, DATA = "c" * 64, "d" * 64
RECORD = {
    "metric": "val_loss",
    "last_evals": 1,
    "smallest": 0.002,
    "alpha": 0.05,
    "control": "04-control",
    "arms": ["03-arm", "11-arm"],
    "aa": ["07-again"],
    "seeds": [2, 5, 9],
    "codes": {"03-arm": CODE, "04-control": CODE, "11-arm": CODE},
    "dataset": DATA,
    "cells": {
        "03-arm/seed-9": "1" * 64,
        "04-control/seed-9": "2" * 64,
        "11-arm/seed-2": "3" * 64,
    },
    "time": 1009.0,
}


def found():
    """The evidence of RECORD's study."""
    steps = {"03-arm": "NEUTRAL", "07-again": "A/A", "11-arm": "NEUTRAL"}
    return evidence([verdict(step, word, {}) for step, word in steps.items()])


def cell(step, seed, hash_, began=2000.0, code=CODE, data=DATA):
    identity = {"hash": hash_, "identity": {"code": code, "dataset": data}}
    return replace(run(step, seed, [3.0], run={"cell": identity}), began=began)


def deviations(tmp_path, record=RECORD, now=None, runs=(), name="preregistration.json"):
    sealed_record.write(tmp_path / "demo" / name, record)
    found_ = preregistration.compare(tmp_path / "demo", now or found(), runs)
    assert found_.seal == json.loads((tmp_path / "demo" / name).read_text())["sha256"]
    assert found_.arms == tuple(record["arms"])
    return found_.deviations


def test_a_study_as_it_was_registered(tmp_path):
    runs = [cell("03-arm", 9, "1" * 64, 1009.0), cell("04-control", 9, "2" * 64)]
    runs.append(cell("07-again", 9, "another that was not registered"))
    assert deviations(tmp_path, runs=runs) == ()


@pytest.mark.parametrize(
    "change, line",
    [
        ({"metric": "perplexity"}, "metric: registered perplexity, now val_loss"),
        ({"last_evals": 2}, "last_evals: registered 2, now 1"),
        ({"smallest": 0.003}, "smallest: registered 0.003, now 0.002"),
        ({"smallest": None}, "smallest: registered None, now 0.002"),
        ({"alpha": 0.01}, "alpha: registered 0.01, now 0.05"),
        ({"control": "05-x"}, "control: registered 05-x, now 04-control"),
        ({"arms": ["11-arm"]}, "arms not registered: 03-arm"),
        (
            {"arms": ["03-arm", "08-x", "11-arm", "09-y"]},
            "arms registered and not there: 08-x, 09-y",
        ),
        ({"aa": []}, "A/A arms not registered: 07-again"),
        ({"aa": ["07-again", "x"]}, "A/A arms registered and not there: x"),
        ({"seeds": [9]}, "seeds not registered: 2, 5"),
        ({"seeds": [9, 5, 2, 7]}, "seeds registered and not there: 7"),
    ],
)
def test_a_deviation_of_the_terms(tmp_path, change, line):
    """One thing differs, one line says so."""
    assert deviations(tmp_path, {**RECORD, **change}) == (line,)


@pytest.mark.parametrize(
    "made, line",
    [
        ({"code": "e" * 64}, f"code: registered {'c' * 12}, in runs {'e' * 12}"),
        ({"data": "e" * 64}, f"dataset: registered {'d' * 12}, in runs {'e' * 12}"),
        ({"hash_": "9" * 64}, "not the registered cells: 03-arm/seed-9/00000000"),
        ({"began": 1008.9}, "started before the registration: 03-arm/seed-9/00000000"),
    ],
)
def test_a_deviation_of_the_runs(tmp_path, made, line):
    arm = cell(**{"step": "03-arm", "seed": 9, "hash_": "1" * 64, **made})
    others = [cell("04-control", 9, "2" * 64), cell("11-arm", 2, "3" * 64)]
    assert deviations(tmp_path, runs=[*others, arm]) == (line,)


def test_the_code_of_each_step_is_registered(tmp_path):
    """Each has its own; older registrations hold one for all."""
    other = "e" * 64
    runs = [cell("04-control", 9, "2" * 64), cell("03-arm", 9, "1" * 64, code=other)]
    told = f"code: registered {'c' * 12}, in runs {'e' * 12}"
    own = {**RECORD, "codes": {**RECORD["codes"], "03-arm": other}}
    assert deviations(tmp_path / "own", own, runs=runs) == ()
    assert deviations(tmp_path / "all", runs=runs) == (told,)
    former = {name: each for name, each in RECORD.items() if name != "codes"}
    former["code"] = CODE
    assert deviations(tmp_path / "former", former, runs=runs) == (told,)
    assert deviations(tmp_path / "same", former, runs=runs[:1]) == ()


def test_what_was_replaced_and_other_stages(tmp_path):
    path = tmp_path / ".replaced/demo/03-arm/seed-9/0123abcd-1"
    path.mkdir(parents=True)
    (line,) = deviations(tmp_path)
    where = path.relative_to(tmp_path)
    assert line == f"replaced by another run of the cell: {where}"
    for stage in (CONFIRM, SCREEN):
        terms = Terms(stage=stage)
        now = evidence(found().verdicts, terms)
        assert preregistration.compare(tmp_path / "demo", now, []) is None
        assert preregistration.announced(tmp_path / "demo", stage) == ()
    assert preregistration.announced(tmp_path / "demo", ONE) == ("03-arm", "11-arm")
    name = "preregistration-confirm.json"
    sealed_record.write(tmp_path / "demo" / name, {**RECORD, "arms": ["03-arm"]})
    now = evidence(found().verdicts, Terms(stage=CONFIRM))
    confirmed = preregistration.compare(tmp_path / "demo", now, [])
    assert confirmed.path.name == name and confirmed.arms == ("03-arm",)
    assert confirmed.deviations[0] == "arms not registered: 11-arm"
    assert preregistration.announced(tmp_path / "demo", CONFIRM) == ("03-arm",)


def test_an_edited_registration_announces_nobody(tmp_path):
    path = tmp_path / "demo/preregistration.json"
    sealed_record.write(path, RECORD)
    path.write_text(path.read_text().replace("0.002", "0.02"))
    broken = preregistration.compare(tmp_path / "demo", found(), [])
    assert (broken.seal, broken.arms, broken.path) == (None, (), path)
    assert preregistration.announced(tmp_path / "demo", ONE) == ()
    assert len(broken.deviations) == 1 and "seal is broken" in broken.deviations[0]


def test_what_a_report_adds_to_the_terms(tmp_path):
    """The registered arms, and after a screening the promoted; its seeds are used."""
    for step in ("04-control", "03-arm"):
        for seed in (9, 2):
            Cell(step, seed, (5.0, 3.0 + seed), control=step[:2] == "04").finish(
                tmp_path
            )
    place = tmp_path / "demo"
    sealed_record.write(
        place / "preregistration.json", {**RECORD, "arms": ["03-arm", "x"]}
    )
    promotion = {"control": "04-control", "promoted": ["x", "y"], "seeds": [9, 7]}
    for stage, family in ((ONE, ("03-arm", "x")), (CONFIRM, ("x", "y"))):
        terms = gather(place, Selection(terms=Terms(stage=stage))).evidence.terms
        assert terms.family == (family if stage == ONE else ())
        assert terms.screened == frozenset()
    sealed_record.write(place / "promotion.json", promotion)
    for stage, family in ((ONE, ("03-arm", "x")), (CONFIRM, ("x", "y"))):
        terms = gather(place, Selection(terms=Terms(stage=stage))).evidence.terms
        assert (terms.family, terms.screened) == (family, {9, 7})
    sealed_record.write(
        place / "preregistration-confirm.json", {**RECORD, "arms": ["y", "z"]}
    )
    terms = gather(place, Selection(terms=Terms(stage=CONFIRM))).evidence.terms
    assert terms.family == ("y", "z", "x")


# -- equal time


def timed(step, seed, points, budget="tokens"):
    """A run evaluated at these (seconds, loss)."""
    made = run(step, seed, [0.0], summary={"facts": {"budget": budget}})
    evals = tuple(
        {"step": 3 * n, "loss": loss, **({} if at is None else {"time": at})}
        for n, (at, loss) in enumerate(points)
    )
    return replace(made, evals=evals)


FAST = [(0.0, 6.0), (10.0, 4.0), (30.0, 3.0)]
SLOW = [(0.0, 6.0), (20.0, 5.0), (60.0, 2.0)]


def test_the_loss_at_a_time():
    """On the line between two evaluations; theirs at their own times."""
    fast = timed("a", 5, FAST)
    for seconds, loss in [*FAST, (5.0, 5.0), (15.0, 3.75), (29.0, 3.05)]:
        assert equal_time.loss_at(fast, seconds) == pytest.approx(loss)
    assert equal_time.loss_at(fast, math.nextafter(30.0, 99)) is None
    assert equal_time.loss_at(fast, math.nextafter(0.0, -1)) is None
    twice = timed("a", 5, [(0.0, 6.0), (10.0, 4.0), (10.0, 3.0), (20.0, 2.0)])
    assert equal_time.loss_at(twice, 10.0) == 4.0, "the end of the first that holds it"
    still = timed("a", 5, [(10.0, 4.0), (10.0, 3.0)])
    assert equal_time.loss_at(still, 10.0) == 3.0
    gaps = timed("a", 5, [(0.0, 6.0), (None, 9.0), (10.0, 4.0)])
    assert equal_time.loss_at(gaps, 5.0) == 5.0
    assert equal_time.loss_at(timed("a", 5, FAST[:1]), 0.0) is None


def test_a_pair_at_the_time_of_the_first_to_finish():
    fast, slow = timed("a", 5, FAST), timed("b", 5, SLOW)
    assert equal_time.pair(slow, fast) == (30.0, pytest.approx(4.25 - 3.0))
    assert equal_time.pair(fast, slow) == (30.0, pytest.approx(3.0 - 4.25))
    assert equal_time.pair(fast, timed("b", 5, [(0.0, 6.0), (None, 5.0)])) is None
    assert equal_time.pair(timed("b", 5, [(0.0, 6.0), (None, 5.0)]), fast) is None
    late = timed("b", 5, [(31.0, 6.0), (60.0, 5.0)])
    assert equal_time.pair(late, fast) is None and equal_time.pair(fast, late) is None


def test_the_table_of_equal_time():
    """Over the pairs that both have, by seed; of token budgets alone."""

    def table(budget="tokens", points=SLOW, other=None):
        made = study(
            {"04-control": {9: [3.0], 2: [3.0]}, "03-arm": {9: [2.0], 7: [2.0]}}
        )
        counted = {
            ("04-control", 9): timed("04-control", 9, FAST),
            ("04-control", 2): timed("04-control", 2, [(0.0, 1.0), (1.0, 1.0)]),
            ("03-arm", 9): timed("03-arm", 9, points, budget),
            ("03-arm", 7): timed("03-arm", 7, FAST, other or budget),
        }
        return equal_time.table(make_rows(replace(made, counted=counted)))

    found = table()
    assert [column.title for column in found.columns] == [
        *("Step", "Training time", "Difference then", "Difference at the end"),
        *("Pairs", "Runs"),
    ]
    assert found.rows == (("03-arm", "30s", "+1.25000", "-1.00000", "1", "R2"),)
    assert table("time") is None and table(other="time") is None
    assert table(points=[(0.0, 6.0), (None, 2.0)]) is None
