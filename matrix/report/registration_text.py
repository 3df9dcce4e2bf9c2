"""Whether a study is what was announced: the words that stand beside a verdict."""

from matrix import units
from matrix.evidence.gather import Report

NOT_REGISTERED = (
    "Not preregistered: that metric, arms and seeds were fixed before the first run "
    "is not on record (make prereg)."
)


def deviations(report: Report) -> tuple[str, ...]:
    """Those from the preregistration and those that the records show, each once."""
    registered = report.registration.deviations if report.registration else ()
    return tuple(units.distinct([*registered, *report.deviations]))


def standing(report: Report) -> str:
    """What stands beside every verdict: "not preregistered; 2 deviations"."""
    registration = report.registration
    text = "preregistered" if registration else "not preregistered"
    if registration is not None and registration.seal is None:
        text = "preregistration damaged"
    count = len(deviations(report))
    return f"{text}; {units.plural(count, 'deviation')}" if count else text


def lines(report: Report) -> list[str]:
    """What there is to say about the preregistration, then a line per deviation."""
    registration = report.registration
    against = [f"deviation: {line}" for line in deviations(report)]
    if registration is None:
        return [NOT_REGISTERED, *against]
    if registration.seal is None:
        return against
    head = f"Preregistered: {registration.path.name}, sha256 {registration.seal}"
    return [f"{head}; {'deviations:' if against else 'no deviation.'}", *against]
