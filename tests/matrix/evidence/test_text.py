"""Claims that the seeds carry, and the text does or does not."""

import math
from dataclasses import replace

import numpy as np
import pytest

from matrix.evidence.gather import gather
from matrix.evidence.text_claims import on_text
from matrix.report import text_error
from matrix.report.verdict_text import explain, one_line
from matrix.results.metrics import named
from matrix.results.run import ReportError
from matrix.results.metrics import METRICS
from matrix.results.selection import Selection, Terms
from records import unit_losses
from records.unit_losses import UnitLosses
from tests.matrix.imagined import run
from tests.matrix.synthetic import Cell

SEEDS = range(1, 7)
TOKENS = [300 + 7 * (u % 40) for u in range(120)]
N = sum(TOKENS)


def losses(seed: int, shift_U=0.0, salt: int = 0, noise: float = 2e-4) -> UnitLosses:
    """A seed's losses by document: hard and easy ones, and a shift in nats/token."""
    own = np.random.default_rng(100 * seed + salt).normal(scale=noise)
    hard_U = np.random.default_rng(5).normal(scale=0.4, size=len(TOKENS))
    each_U = 3.3 + 0.001 * seed + own + hard_U + shift_U
    return UnitLosses("document", TOKENS, list(each_U * TOKENS))


def finish(output, step: str, found: UnitLosses, seed: int, **change) -> None:
    loss = float(np.float32(found.nats).astype(float).sum() / N)
    Cell(step, seed, (5.5, 3.4, loss), documents=found, **change).finish(output)


def shift(kind: str) -> np.ndarray:
    """-0.002 nats/token of the text: of every document, or of four of them alone;
    or none, by documents that differ so much.
    """
    if kind == "everywhere":
        return np.full(len(TOKENS), -0.002)
    if kind == "few":
        shift_U = np.zeros(len(TOKENS))
        shift_U[[3, 50, 80, 99]] = -0.002 * N / sum(TOKENS[u] for u in (3, 50, 80, 99))
        return shift_U
    found = np.random.default_rng(3).normal(scale=float(kind), size=len(TOKENS))
    return found - (found * TOKENS).sum() / N


@pytest.fixture
def study(tmp_path):
    """report = study("few"): a control and an arm that is better by that much."""

    def make(kind, terms=Terms(), **change):
        for seed in SEEDS:
            finish(tmp_path, "00-base", losses(seed), seed)
            finish(tmp_path, "01-arm", losses(seed, shift(kind), 1), seed, **change)
        return gather(tmp_path / "demo", Selection(terms=terms))

    return make


def said(report) -> tuple[str, str, str]:
    """The verdict's label, the phrase, and the line of both errors."""
    (verdict,) = report.evidence.verdicts
    here = text_error.phrase(report.evidence, verdict)
    return verdict.label, here, text_error.line(report.evidence, verdict)


def test_an_effect_of_few_documents_is_one_on_this_text(study):
    """It holds in every seed, and another text need not have such documents."""
    report = study("few")
    label, here, line = said(report)
    assert (label, here) == ("SUPPORTED better", "on this text")
    assert "of text (120 documents" in line and "the claim is on this text" in line
    error = report.evidence.text["01-arm"].error
    assert error.text_error > 5 * error.seed_error
    assert error.difference == pytest.approx(
        report.evidence.of("01-arm").measured.difference, abs=1e-6
    )
    (told,) = one_line(report)
    assert "SUPPORTED better (not preregistered), -0.0" in told
    assert "], on this text" in told
    assert line in " ".join(explain(report, ["01-arm"])[0].split())


def test_an_effect_of_every_document_is_not_tied_to_this_text(study):
    report = study("everywhere")
    label, here, line = said(report)
    assert (label, here) == ("SUPPORTED better", "")
    assert line.endswith("the claim holds with both errors")
    assert "on this text" not in one_line(report)[0]
    assert report.evidence.text["01-arm"].p < 0.05


def test_the_level_is_holms(study, tmp_path):
    """A p between α/m and α carries no claim beyond this text."""
    first = study("everywhere").evidence
    found, verdict = first.text["01-arm"], first.of("01-arm")
    report = gather(tmp_path / "demo")
    control, arm = report.rows
    for level, carried in ((found.p * 1.01, True), (found.p * 0.99, False)):
        held = replace(verdict, measured=replace(verdict.measured, level=level))
        (told,) = on_text(control, [arm], Terms(), [held]).values()
        assert told.carried == carried


@pytest.mark.parametrize("kind, here", [("0.001", ""), ("0.03", "on this text")])
def test_no_difference_within_the_smallest_on_this_text_or_beyond(study, kind, here):
    """Documents that differ by much cancel out on this text, within ± 0.0035."""
    report = study(kind, Terms(smallest=0.0035))
    assert said(report)[:2] == ("NEUTRAL", here)


def test_runs_without_losses_say_so(tmp_path):
    for seed in SEEDS:
        found = losses(seed)
        finish(tmp_path, "00-base", found, seed)
        older = losses(seed, shift("everywhere"), 1)
        loss = sum(older.nats) / N
        Cell("01-arm", seed, (5.5, 3.4, loss)).finish(tmp_path)
    report = gather(tmp_path / "demo")
    label, here, line = said(report)
    assert (label, here) == ("SUPPORTED better", "on this text")
    assert line.startswith("standard error of the text: not recorded: the claim")
    assert text_error.without(report.evidence) == [
        "Standard error of the text: not recorded (01-arm). What is claimed of it is "
        "claimed on this text."
    ]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "another"])
def test_a_damaged_file_costs_the_error_of_the_text_alone(study, tmp_path, damage):
    before = study("everywhere")
    path = next(tmp_path.glob("demo/01-arm/seed-3/*/last_evaluation.bin"))
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif damage == "cut":
        path.write_bytes(content[:100])
    elif damage == "gone":
        path.unlink()
    else:
        found = losses(3, shift("everywhere"), 1).nats
        found[7], found[47] = found[47], found[7]  # of equal tokens: the same sum
        unit_losses.write(path, UnitLosses("document", TOKENS, found))
    report = gather(tmp_path / "demo")
    assert report.evidence.verdicts == before.evidence.verdicts
    label, here, line = said(report)
    assert (label, here) == ("SUPPORTED better", "on this text")
    assert "last_evaluation.bin" in line


def test_bits_per_byte_are_those_of_a_judged_pair(study, tmp_path):
    """A run outside the pairs need not have recorded its text."""
    study("everywhere")
    Cell("01-arm", 0, (5.5, 3.4, 3.3)).finish(tmp_path)
    terms = Terms(METRICS["bits_per_byte"], smallest=None)
    report = gather(tmp_path / "demo", Selection(terms=terms))
    assert report.evidence.text["01-arm"].error is not None


def test_other_documents_are_not_compared(study):
    report = study("everywhere", text="0dd0" * 16)
    assert "the arms read other texts" in said(report)[2]


def test_a_speed_has_no_text(study, tmp_path):
    study("everywhere")
    found = {}
    for name in ("tokens_per_s", "val_loss", "bits_per_byte", "eval:quiz/acc"):
        terms = Terms(metric=named(name), smallest=None)
        found[name] = gather(tmp_path / "demo", Selection(terms=terms)).evidence.text
    assert found["tokens_per_s"] == {}
    assert found["eval:quiz/acc"]["01-arm"].why == "not recorded for eval:quiz/acc"
    nats, bits = (found[n]["01-arm"].error for n in ("val_loss", "bits_per_byte"))
    # two bytes a token
    assert bits.both == pytest.approx(nats.both / (2 * math.log(2)))
    assert bits.difference == pytest.approx(nats.difference / (2 * math.log(2)))
    assert found["val_loss"]["01-arm"].p == pytest.approx(
        found["bits_per_byte"]["01-arm"].p
    )


def test_a_report_says_that_the_split_has_more_text(tmp_path):
    """Below 2M tokens, and only where there are more."""
    for most, told in ((N, False), (3_000_000, True), (N + 9, True)):
        output = tmp_path / str(most)
        for seed in SEEDS:
            finish(output, "00-base", losses(seed), seed, most_tokens=most)
        notes = gather(output / "demo").notes
        line = f"the last evaluation read {N:,} tokens of the {most:,} that"
        assert [note.startswith(line) for note in notes] == [True] * told
        wanted = f"; {min(most, 2_000_000):,} make"
        assert all(wanted in note for note in notes)


def test_evaluations_of_two_texts_are_not_averaged(study):
    longer = {"GPT2_FINAL_EVAL_WINDOWS": 2048}
    with pytest.raises(ReportError, match="another text than those before it"):
        study("everywhere", Terms(last_evals=2), values=longer)


def test_a_curve_stays_on_one_text():
    made = run("04-control", 2, [3.0, 2.5])
    evals = [*made.evals[:-1], {**made.evals[-1], "curve_loss": 2.75}]
    found = replace(made, evals=evals)
    assert [loss for _, loss in found.curve("tokens")][-2:] == [3.0, 2.75]
    assert found.last("loss", 1) == 2.5
