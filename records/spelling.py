"""What somebody may have meant who mistyped a name."""

from typing import Iterable

SHORTEST = 3
"""Characters below which every name is near every other one."""


def closest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that one slip of the keyboard turns into `name`, the nearest first.

    A slip is a character too many, too few, another one, or two neighbours in each
    other's place; from 8 characters on there may be two, from 16 on three.
    """
    if len(name) < SHORTEST:
        return []
    slips = 1 + min(len(name) // 8, 2)
    near = [(distance(name, each, slips), each) for each in dict.fromkeys(known)]
    found = sorted((d, each) for d, each in near if d is not None and d <= slips)
    return [each for _, each in found[:most]]


def distance(a: str, b: str, most: int) -> int | None:
    """The slips from a to b, None where their lengths alone differ by more than `most`.

    The restricted Damerau-Levenshtein distance, row by row of its table.
    """
    if abs(len(a) - len(b)) > most:
        return None
    before, row = [], list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, start=1):
            best = min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
