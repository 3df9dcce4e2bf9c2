"""The published study: its page is what its runs.csv carries, and no more."""

from pathlib import Path

import pytest

from matrix.evidence.gather_file import gather_file
from matrix.report.markdown import markdown
from matrix.report.plots import common
from matrix.report.sections import document_of

PAGE = Path(__file__).resolve().parents[3] / "results/published"
PAGE /= "gpt2-attention-ablation+h200"

# By scipy alone, on the column final_loss: mean difference, SD, p of the paired t-test,
# Holm over the four, sign flips, seeds that are worse
BY_HAND = {
    "01-a-a": (0.00215, 0.02337, 0.83096, 0.83096, 0.78125, 5),
    "02-output-gate": (-0.07336, 0.02405, 0.00068, 0.0027, 0.03125, 0),
    "03-ra": (0.01380, 0.01264, 0.04409, 0.1131, 0.03125, 6),
    "04-mla": (0.01055, 0.00921, 0.03771, 0.1131, 0.03125, 6),
}


@pytest.fixture(scope="module")
def report():
    return gather_file(PAGE / "runs.csv")


@pytest.mark.parametrize("step", BY_HAND)
def test_the_numbers_by_hand(report, step):
    verdict = report.evidence.of(step)
    found, d = verdict.measured, verdict.differences
    told = (found.difference, found.sd, found.p, found.adjusted, found.flip)
    assert told == pytest.approx(BY_HAND[step][:5], abs=5e-5)
    assert sum(x > 0 for x in d.values()) == BY_HAND[step][5] and len(d) == 6


def test_what_it_may_claim(report):
    """Worse in six of six seeds is no result here: Holm holds four steps."""
    assert {v.step: v.label for v in report.evidence.verdicts} == {
        "01-a-a": "UNRESOLVED",
        "02-output-gate": "SUPPORTED better (configurations not checked)",
        "03-ra": "UNRESOLVED",
        "04-mla": "UNRESOLVED",
    }


def test_the_page_is_the_report(report, monkeypatch):
    """Another wording of reports is written there by the command of its README."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
    document, pictures = document_of(report)
    assert (PAGE / "report.md").read_text() == markdown(document)
    assert all((PAGE / picture.file).exists() for picture in pictures)
    command = "scripts/make_report.py results/published/gpt2-attention-ablation+h200"
    assert command in (PAGE / "README.md").read_text()
