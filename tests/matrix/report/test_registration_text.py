"""Whether a study is what was announced, beside its verdicts."""

from dataclasses import replace
from pathlib import Path

import pytest

from matrix.evidence.preregistration import Registration
from matrix.report import registration_text, verdict_text
from matrix.results.selection import SCREEN, Terms
from tests.matrix.imagined import evidence, report, study, verdict

LOSSES = {"04-control": {9: [3.1], 2: [3.2]}, "03-arm": {9: [3.0], 2: [3.3]}}
D = {2: -0.01, 9: -0.0123}
GOOD = verdict("03-arm", "SUPPORTED", D, direction="better", measured={})
AGAIN = verdict("07-again", "A/A", D, measured={})
KEPT = Registration(Path("p.json"), "5e", ("a",), ())


@pytest.mark.parametrize(
    "registration, deviations, beside, lines",
    [
        (None, (), "not preregistered", [registration_text.NOT_REGISTERED]),
        (
            *(None, ("x", "y"), "not preregistered; 2 deviations"),
            [registration_text.NOT_REGISTERED, "deviation: x", "deviation: y"],
        ),
        (
            KEPT,
            (),
            "preregistered",
            ["Preregistered: p.json, sha256 5e; no deviation."],
        ),
        (
            *(replace(KEPT, deviations=("x",)), ("z", "x")),
            "preregistered; 2 deviations",
            ["Preregistered: p.json, sha256 5e; deviations:"]
            + ["deviation: x", "deviation: z"],
        ),
        (
            *(replace(KEPT, seal=None, deviations=("broken",)), ()),
            *("preregistration damaged; 1 deviation", ["deviation: broken"]),
        ),
    ],
    ids=["none", "unannounced", "kept", "both", "damaged"],
)
def test_what_stands_beside_a_verdict(registration, deviations, beside, lines):
    """In the terminal next to the word, and every deviation below the table."""
    found = evidence((GOOD, AGAIN))
    made = report(study(LOSSES), found, registration, deviations)
    assert registration_text.standing(made) == beside
    assert registration_text.lines(made) == lines
    first, second, *rest = verdict_text.one_line(made)
    assert first.startswith(f"03-arm: SUPPORTED better ({beside}), -0.01230 [-0.019")
    assert second.startswith("07-again: A/A, ")
    assert rest == [line for line in lines if line.startswith("deviation: ")]
    arm, _ = verdict_text.explain(made, ["03-arm"])
    assert arm.startswith(f"03-arm against 04-control: SUPPORTED better ({beside})\n")
    screening = replace(found, terms=Terms(stage=SCREEN))
    assert verdict_text.one_line(replace(made, evidence=screening)) == []
