"""Rows of numbers as columns: a million of them in some megabytes.

A row of metrics.jsonl is a dict of a dozen numbers, a kilobyte of objects; as
columns it is eight bytes a number. A Series gives the rows back as dicts, one at a
time.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Mapping, overload

from records.jsonl import Row

ABSENT, NULL, THERE = range(3)
WHOLE, REAL = "q", "d"  # 64 bits each


class Series(Sequence[Row]):
    """Rows of one kind in the order of their steps; of two of a step the last counts.

    `types` are the fields that are kept, each WHOLE or REAL, `step` among them; what
    else a row holds is no column and is dropped. `settle` after the last `add`.
    """

    def __init__(self, kind: str, types: Mapping[str, str]):
        self.kind = kind
        self._values = {name: array(code) for name, code in types.items()}
        self._states: dict[str, bytearray] = {}  # of columns that lack a value
        self._ordered, self._last = True, -1

    def add(self, row: Row) -> None:
        """Append a row, checked by records/fields.py."""
        for name, values in self._values.items():
            value = row.get(name)
            if value is None or name in self._states:
                here = THERE if value is not None else NULL if name in row else ABSENT
                if name not in self._states:
                    self._states[name] = bytearray([THERE]) * len(values)
                self._states[name].append(here)
            values.append(value or 0)
        step = row["step"]
        self._ordered &= step > self._last
        self._last = step

    def settle(self, counts: Callable[[int], bool] = lambda step: True) -> "Series":
        """Sort by step, keep the last row of each, and only steps that count."""
        steps = self._values["step"]
        if self._ordered and (not steps or counts(steps[-1])):  # as they were written
            return self
        order = sorted(range(len(steps)), key=steps.__getitem__)  # stable
        kept = array(WHOLE)
        for place, here in enumerate(order, start=1):
            last = place == len(order) or steps[order[place]] != steps[here]
            if last and counts(steps[here]):
                kept.append(here)
        for name, values in self._values.items():
            self._values[name] = array(values.typecode, map(values.__getitem__, kept))
        for name, states in self._states.items():
            self._states[name] = bytearray(map(states.__getitem__, kept))
        return self

    def column(self, name: str) -> Iterator[Any]:
        """A field of every row, None where it is null or absent."""
        states = self._states.get(name)
        if states is None:
            yield from self._values[name]
        else:
            for value, state in zip(self._values[name], states):
                yield value if state == THERE else None

    def __len__(self) -> int:
        return len(self._values["step"])

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        row: Row = {"kind": self.kind}
        for name, values in self._values.items():
            state = self._states[name][place] if name in self._states else THERE
            if state != ABSENT:
                row[name] = values[place] if state == THERE else None
        return row
