"""Tables of plain text: cells padded to the width of their column."""

import textwrap
from typing import Container, Sequence

WIDTH = 100
"""Columns of a terminal that every table fits."""
WORDS, NAME = 32, 12
"""Columns that the text at the end of a row and the name at its beginning keep."""


def padded(
    rows: Sequence[Sequence[str]], right: Container[int] = (), least: int = 0
) -> list[list[str]]:
    """The rows with every cell as wide as the widest of its column.

    `right` are the columns, counted from 0, whose cells stand at the right; none is
    narrower than `least`. Raises ValueError for rows of different lengths.
    """
    widths = [max(least, *map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ]
        for row in rows
    ]


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """The rows as lines: two blanks between the columns, none at the end."""
    return ["  ".join(row).rstrip() for row in padded(rows, right)]


def fitted(
    rows: Sequence[Sequence[str]],
    right: Container[int] = (),
    width: int = WIDTH,
    words: bool = False,
) -> list[str]:
    """The rows as `aligned` gives them, in `width` columns.

    A name in the first column loses its middle where it is too long; with `words` the
    last column is text, which goes on in further lines; a path in it stays whole.
    """
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(columns) - 1
    room = width - sum(2 + each for each in columns[1:])
    if words and room < columns[0]:
        kept = columns[last] + room - columns[0]
        columns[last] = min(columns[last], max(WORDS, kept))
        room = width - sum(2 + each for each in columns[1:])
    made = []
    for name, *cells in rows:
        first = [shortened(name, max(NAME, room)), *cells]
        wrapped = [""]
        if words and last:
            wrapper = textwrap.TextWrapper(
                max(1, columns[last]), break_on_hyphens=False, break_long_words=False
            )
            wrapped = wrapper.wrap(cells[-1]) or [""]
            first[-1] = wrapped[0]
        made.append(first)
        made += [[*[""] * last, more] for more in wrapped[1:]]
    return aligned(made, right)


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and its end when it is longer than `most`."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return text[: most - 1 - half] + "…" + text[-half:]
