"""The tables of a record of `make bench`."""

from typing import Any

PARTS = ("attention", "recurrence", "training")
GIB = 2**30
TRAINING = ("", "ms", "tokens/s", "MFU", "x anchor", "of its FLOPs", "peak GiB")
TRAINING += ("first train loss", "last")


def markdown(content: dict[str, Any]) -> str:
    """The whole record; ratios are to the anchor in the same rounds."""
    device, partial = content["device"]["name"], unfinished(content)
    lines = [f"# Bench: {device}, {content['date']}", ""]
    if partial:
        lines += [f"**Partial**: {', '.join(partial)} did not come to an end.", ""]
    lines.append(f"torch {content['torch']}, Triton {content['triton']}.")
    for part in PARTS:
        rows = [row for row in content["rows"] if row["part"] == part]
        if rows:
            calls = [call for call in content["calls"] if call["part"] == part]
            table = training(rows) if part == "training" else attention(rows)
            lines += ["", f"## {part.capitalize()}", "", *_commands(calls), "", *table]
    return "\n".join(lines) + "\n"


def unfinished(content: dict[str, Any]) -> list[str]:
    """The parts of a record whose last call did not come to its end."""
    last = {call["part"]: call["complete"] for call in content["calls"]}
    return [part for part, complete in last.items() if not complete]


def shown(row: dict[str, Any]) -> str:
    """A row as it comes, for the terminal."""
    more = ""
    if row.get("peak_bytes"):
        more = f", peak {row['peak_bytes'] / GIB:.2f} GiB"
    ratio = f"{row['ratio']:.3f} ± {row['error']:.3f} x {row['anchor']}"
    return f"{row['group']}: {row['name']}: {row['ms']:.3f} ms, {ratio}{more}"


def attention(rows: list[dict[str, Any]]) -> list[str]:
    """A line per contender, a column per shape: ms · ratio; below, what a ragged T
    costs: time per visible pair of positions over that of the aligned T beside it.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    cells = {(row["group"], row["name"]): row for row in rows}
    table = [_line("", *groups), "|---" * (len(groups) + 1) + "|"]
    for name in names:
        found = [cells.get((group, name)) for group in groups]
        words = [f"{r['ms']:.3f} · {r['ratio']:.2f}" if r else "–" for r in found]
        table.append(_line(name, *words))
    ragged = {row["group"]: row["beside"] for row in rows if row.get("beside")}
    if not ragged:
        return table
    heads = [f"{group} ÷ {aligned}" for group, aligned in ragged.items()]
    table += ["", "Time per visible pair of positions, ragged T over aligned:", ""]
    table += [_line("", *heads), "|---" * (len(heads) + 1) + "|"]
    for name in names:
        pairs = [
            (cells.get((g, name)), cells.get((a, name))) for g, a in ragged.items()
        ]
        words = [
            f"{_per_pair(r) / _per_pair(a):.3f}" if r and a else "–" for r, a in pairs
        ]
        table.append(_line(name, *words))
    return table


def training(rows: list[dict[str, Any]]) -> list[str]:
    """A line per step and context; then peak memory by context. `of its FLOPs`: the
    step's time over the anchor's, divided by the ratio of their FLOPs with
    attention counted causally.
    """
    table = [_line(*TRAINING), "|---" + "|---:" * (len(TRAINING) - 1) + "|"]
    table += [_line(*_training(row)) for row in rows]
    contexts = sorted({row["context"] for row in rows})
    if len(contexts) < 2:
        return table
    table += ["", f"Peak GiB at {rows[0]['tokens']:,} tokens per batch, by T:", ""]
    table += [_line("", *map(str, contexts)), "|---" + "|---:" * len(contexts) + "|"]
    peaks = {(row["name"], row["context"]): row["peak_bytes"] for row in rows}
    for name in dict.fromkeys(row["name"] for row in rows):
        table.append(_line(name, *(_gib(peaks.get((name, T))) for T in contexts)))
    return table


def _training(row: dict[str, Any]) -> list[str]:
    share = row["of_flops"]
    return [
        f"{row['name']}, {row['group']}",
        f"{row['ms']:.2f}",
        f"{row['tokens'] / row['ms'] * 1e3:,.0f}",
        f"{row['mfu']:.1%}" if row["mfu"] else "–",
        f"{row['ratio']:.3f}",
        f"{row['ratio'] / share:.3f}" if share else "–",
        _gib(row["peak_bytes"]),
        f"{row['first_loss']:.4f}",
        f"{row['last_loss']:.4f}",
    ]


def _per_pair(row: dict[str, Any]) -> float:
    shape = row["shape"]
    return row["ms"] / (shape["B"] * shape["H"] * shape["T"] * (shape["T"] + 1))


def _gib(peak: int | None) -> str:
    return f"{peak / GIB:.2f}" if peak else "–"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _commands(calls: list[dict[str, Any]]) -> list[str]:
    return [
        f"- `{call['command']}`{'' if call['complete'] else ' (not finished)'}"
        f": {call['about']}"
        for call in calls
    ]
