"""What the rows of attempts.jsonl add up to."""

from collections.abc import Iterable

from records.jsonl import Row


def spent(rows: Iterable[Row]) -> float:
    """Seconds that the attempts with a recorded end took.

    An end row says so itself, by a clock that nobody sets. Rows of older versions
    have no `seconds`; there the difference of the two times counts.
    """
    starts, total = {}, 0.0
    for row in rows:
        if row["event"] == "start":
            starts[row["attempt"]] = row["time"]
        elif "seconds" in row:
            total += row["seconds"]
        elif row["attempt"] in starts:
            total += max(row["time"] - starts[row["attempt"]], 0.0)  # set back
    return total
