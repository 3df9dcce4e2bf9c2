"""What the evaluated text adds to a verdict's error, in words."""

from matrix import units
from matrix.evidence.text_claims import CLAIMS
from matrix.evidence.verdict import Verdict
from matrix.evidence.weigh import Evidence

ON_THIS_TEXT = "on this text"


def phrase(evidence: Evidence, verdict: Verdict) -> str:
    """ON_THIS_TEXT behind a claim that seeds and text do not carry together, else ""."""
    found = evidence.text.get(verdict.step)
    if found is None or verdict.outcome not in CLAIMS or found.carried:
        return ""
    return ON_THIS_TEXT


def without(evidence: Evidence) -> list[str]:
    """A sentence per cause for the steps that no error of the text is known of."""
    causes: dict[str, list[str]] = {}
    for step, found in evidence.text.items():
        if found.error is None:
            causes.setdefault(found.why, []).append(step)
    return [
        f"Standard error of the text: {why} ({', '.join(steps)}). What is claimed of "
        f"{'them' if len(steps) > 1 else 'it'} is claimed {ON_THIS_TEXT}."
        for why, steps in causes.items()
    ]


def of_seeds(evidence: Evidence, verdict: Verdict) -> str:
    """The standard error of the seeds; "" where none of the text is known."""
    return _error(evidence, verdict, "seed_error")


def of_text(evidence: Evidence, verdict: Verdict) -> str:
    """The standard error of the evaluated text."""
    return _error(evidence, verdict, "text_error")


def of_both(evidence: Evidence, verdict: Verdict) -> str:
    """The standard error of seeds and text together."""
    return _error(evidence, verdict, "both")


def _error(evidence: Evidence, verdict: Verdict, source: str) -> str:
    found = evidence.text.get(verdict.step)
    if found is None or found.error is None:
        return ""
    return units.spread(vars(found.error)[source])


def line(evidence: Evidence, verdict: Verdict) -> str:
    """Both standard errors, and whether the verdict holds with them; "" for a metric
    that no text has a share in.
    """
    found = evidence.text.get(verdict.step)
    if found is None:
        return ""
    here = phrase(evidence, verdict)
    about = f": the claim is {here}" if here else ""
    error = found.error
    if error is None:
        return f"standard error of the text: {found.why}{about}"
    if not about and found.carried:
        about = ": the claim holds with both errors"
    return (
        f"standard errors {units.spread(error.seed_error)} of seeds, "
        f"{units.spread(error.text_error)} of text "
        f"({units.plural(error.units, error.unit)}, {error.tokens:,} tokens), "
        f"{units.spread(error.both)} of both (p {found.p:.2g}){about}"
    )
