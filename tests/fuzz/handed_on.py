"""Random corruptions of runs.jsonl and runs.csv: python -m tests.fuzz.handed_on --seed S.

Each puts something odd into a file of a study and asks for its report. It is refused in
one line that names the file, or there is a report, in words and in both formats; never a
traceback.
"""

import argparse
import csv
import io
import json
import random
import sys
import tempfile
import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator
from unittest.mock import patch

from matrix.evidence.gather_file import gather_file
from matrix.report.html import html
from matrix.report.markdown import markdown
from matrix.report.plots import common
from matrix.report.sections import document_of
from matrix.report.write import render_terminal, write
from matrix.results.run import ReportError
from tests.fuzz.records import FIGURES, ODD, Failure, places, put
from tests.matrix.synthetic import START, Cell

CELLS = ("", "nan", "-inf", "1e999", "9" * 40, "True", "yes", "'=1", "=1+1", "../..")
CELLS += ("\ud800", "a\nb", "<i>|`x`", "\x00", "-1", "0", "٣", "x" * 100_000)


def planted(root: Path) -> Path:
    """A study of two steps and four seeds, with a failed run and one left out."""
    for seed in range(1, 5):
        loss, more = 3.3 + seed / 700, dict(finished=START + seed)
        Cell("00-base", seed, (5.5, 3.9, loss), control=True, **more).finish(root)
        more |= dict(changes=("MLP_DIM",), values={"MLP_DIM": 96})
        Cell("01-wide", seed, (5.5, 3.8, loss - 0.01 * seed), **more).finish(root)
    Cell("01-wide", 1, (5.5, 3.8), salt="old", finished=START).finish(root)
    Cell("02-lost", 2, (5.5,)).fail(root, "out of memory")
    return root / "demo"


@contextmanager
def undrawn() -> Iterator[None]:
    """Plots are not what is tested here."""
    with ExitStack() as stack:
        for name in FIGURES:
            stack.enter_context(patch(f"matrix.report.plots.{name}", lambda *_: None))
        stack.enter_context(patch.object(common, "png_bytes", lambda _: b""))
        stack.enter_context(patch.object(common, "svg_text", lambda *_: "<svg/>"))
        yield


class Fuzz:
    """The files of a finished study, corrupted one at a time."""

    def __init__(self, root: Path, seed: int):
        self.rng = random.Random(seed)
        paths = write(planted(root))
        self.texts = {path.name: path.read_text() for path in (paths.csv, paths.jsonl)}
        self.place = root
        self.refused = self.reported = 0
        self.done = ""

    def once(self) -> None:
        """One corruption, and a report or a refusal."""
        name = self.rng.choice(list(self.texts))
        edit = self._value if name.endswith("jsonl") else self._cell
        data = self.rng.choice((edit, edit, edit, self._bytes, self._lines))(name)
        path = self.place / name
        path.write_bytes(data)
        try:
            report = gather_file(path)
        except ReportError as error:
            self.refused += 1
            words = str(error)
            if "\n" in words and "no finished run" not in words:
                raise Failure(f"{self.done}: more than a line: {words}") from None
            if not words.startswith(str(path)):
                raise Failure(f"{self.done}: does not name the file: {words}") from None
            return
        document, _ = document_of(report)
        for text in (markdown(document), html(document), render_terminal(report)):
            text.encode()
        self.reported += 1

    def _value(self, name: str) -> bytes:
        lines = self.texts[name].splitlines()
        number = self.rng.choice((0, self.rng.randrange(len(lines))))
        value = json.loads(lines[number])
        at = self.rng.choice(places(value))
        new = self.rng.choice((*ODD, ..., {"float": "nan"}, {"float": 1}, [1, 2]))
        put(value, at, new)
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        lines[number] = json.dumps(value)
        sys.set_int_max_str_digits(limit)
        self.done = f"{name} line {number + 1}: {at} is {str(type(new))}"
        return ("\n".join(lines) + "\n").encode()

    def _cell(self, name: str) -> bytes:
        rows = list(csv.reader(io.StringIO(self.texts[name])))
        row = self.rng.randrange(len(rows))
        column = self.rng.randrange(len(rows[0]))
        rows[row][column] = self.rng.choice(CELLS)
        self.done = f"{name} row {row} {rows[0][column]}: {rows[row][column][:40]!r}"
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        return out.getvalue().encode("utf-8", "surrogatepass")

    def _bytes(self, name: str) -> bytes:
        data = bytearray(self.texts[name].encode())
        at = self.rng.randrange(len(data))
        how = self.rng.choice(("flip", "cut", "insert", "zeros"))
        if how == "flip":
            data[at] ^= 1 << self.rng.randrange(8)
        elif how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = self.rng.randbytes(5)
        else:
            data[at:] = bytes(len(data) - at)
        self.done = f"{name}: {how} at {at}"
        return bytes(data)

    def _lines(self, name: str) -> bytes:
        lines = self.texts[name].splitlines()
        at = self.rng.randrange(len(lines))
        how = self.rng.choice(("gone", "twice", "moved"))
        line = lines.pop(at)
        if how != "gone":
            lines.insert(self.rng.randrange(len(lines) + 1), line)
        if how == "twice":
            lines.insert(at, line)
        self.done = f"{name}: line {at + 1} {how}"
        return ("\n".join(lines) + "\n").encode()


def main() -> int:
    """Corrupt, ask, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    failed = 0
    with undrawn(), tempfile.TemporaryDirectory() as scratch:
        fuzz = Fuzz(Path(scratch), options.seed)
        for number in range(options.count):
            try:
                fuzz.once()
            except Exception:  # each is a finding, and all of them are wanted
                failed += 1
                print(f"{number}: {fuzz.done}\n{traceback.format_exc()[-1500:]}")
    print(
        f"seed {options.seed}: {fuzz.refused} refused, {fuzz.reported} reported, "
        f"{failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
