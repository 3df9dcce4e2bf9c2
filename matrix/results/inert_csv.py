"""CSV whose cells a spreadsheet shows and never computes.

Names in a report come from files that somebody else may have written. A spreadsheet
takes a cell that begins with = + - @ for a formula, and formulas start programs and
send what stands beside them; an apostrophe in front makes it text.
"""

import csv
import io
import re
import unicodedata
from typing import Any, Iterable

SIGNS = "=+-@\N{MINUS SIGN}"
BLANK = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Categories of what may stand before a sign: blanks, control, zero width."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
APART = re.compile(r"([;\t\n])")
"""Where a spreadsheet may begin another cell, quoted or not."""


def text(rows: Iterable[Iterable[Any]]) -> str:
    """The rows as CSV with commas, every cell inert."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([inert(value) for value in row] for row in rows)
    return out.getvalue()


def inert(value: Any) -> Any:
    """A cell that no spreadsheet computes; numbers stay as they are.

    Text that begins with a sign (in any width, after blanks too), with a tab or a
    line's end, or that goes on so where a spreadsheet may split it, gets an apostrophe
    there; a number written as text does not. A carriage return becomes a line's end.
    """
    if value is None or isinstance(value, int | float):
        return value
    told = re.sub("\r\n?", "\n", str(value))
    parts = [f"'{part}" if _formula(part) else part for part in APART.split(told)]
    whole = "".join(parts)
    return f"'{whole}" if whole[:1] in ("\t", "\n") else whole


def original(cell: str) -> str:
    """The text that `inert` made the cell of; of several the shortest.

    inert(original(cell)) is the cell again where `inert` wrote it.
    """
    whole = cell[1:] if cell[:2] in ("'\t", "'\n") else cell
    parts = (
        part[1:] if part[:1] == "'" and _formula(part[1:]) else part
        for part in APART.split(whole)
    )
    return "".join(parts)


def _formula(part: str) -> bool:
    seen = [c for c in part if unicodedata.category(c) not in BLANK]
    first = unicodedata.normalize("NFKC", seen[0])[:1] if seen else " "
    return first in SIGNS and NUMBER.fullmatch(part.strip()) is None
