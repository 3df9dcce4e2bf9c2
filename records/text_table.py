"""Tables of plain text: cells padded to the width of their column."""

from typing import Container, Sequence


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
