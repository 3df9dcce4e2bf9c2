"""What a report that was made from one file cannot say."""

from matrix.evidence.gather import Report
from matrix.report.document import Notice, Section


def section(report: Report) -> Section | None:
    """The file and what it lacks; None of run directories."""
    received = report.study.received
    if received is None:
        return None
    return Section(
        "Where these numbers come from",
        (
            Notice(
                f"Read from {received.file}, not from the run directories",
                received.lacking,
            ),
        ),
    )
