"""Where a stream can be taken up: one line for each block that was read.

A line says how many pieces of each split lie before a position. The shards say
how many are safe; a build goes on at the last position that is not behind them
and skips the pieces between. Lines may be lost or torn by a kill: then more is
read again, nothing is lost or packed twice.
"""

import json
from pathlib import Path
from typing import Any, Mapping

STREAM = "stream.json"
"""Beside dataset.json: the commit that every run reads, None for a folder."""
NAME = "positions.jsonl"


class Journal:
    """The positions of one build, in the folder it lies in."""

    def __init__(self, folder: Path):
        self._path = folder / NAME

    def add(self, position: Any, seen: Mapping[str, int]) -> None:
        """A position and the number of pieces of each split before it."""
        line = json.dumps({"position": position, "seen": dict(seen)})
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    def last(self, finished: Mapping[str, int]) -> tuple[Any, dict[str, int]]:
        """(position, pieces before it) where no finished piece is passed over.

        (None, zeros) is the start of the stream.
        """
        best = None, dict.fromkeys(finished, 0)
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return best
        for line in lines:
            try:
                entry = json.loads(line)
                position, seen = entry["position"], entry["seen"]
            except (ValueError, TypeError, KeyError):
                continue
            behind = all(seen[split] <= count for split, count in finished.items())
            if behind and sum(seen.values()) >= sum(best[1].values()):
                best = position, seen
        return best
