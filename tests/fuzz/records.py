"""Random corruptions of a finished study: python -m tests.fuzz.records --seed S --count N.

Each puts something odd where a record of one run belongs, and asks the plan, the
report, the table of `make watch`, verdicts, a comparison, an estimate and a mirror
for their words. None may end in a traceback or wait; the numbers of all other runs
are those of the study without that run (or, where nothing of it is read or nothing
is wrong with it, those of the whole study), and a run that is left out is named with
its file and, where a field was changed, with that field.
"""

import argparse
import io
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Iterator
from unittest.mock import patch

from rich.console import Console

from gpt2.settings.run import run_settings
from kconf.strict import Tree
from matrix import run
from matrix.published.selection import Query
from matrix.published.sources import fetch
from matrix.report import compare
from matrix.report import write as report
from matrix.report.plots import common
from matrix.results.run import ReportError
from matrix.results.runs_csv import csv_text
from matrix.watch import Watch

JSON = ("run.json", "summary.json", "lease")
ROWS = ("metrics.jsonl", "attempts.jsonl", "evaluations.jsonl", "gpu.jsonl")
ROWS += ("heartbeat_rank0.jsonl",)
DEEP = 3000
ODD: tuple[Any, ...] = (
    None,
    True,
    "soon",
    "banana",
    "",
    "\ud800",
    "$\\frac$",
    "<script>alert(1)</script>|`x`\n# y",
    "../../../../tmp/x",
    "\x1b[31m",
    -5,
    0,
    10**30,
    10**4000,
    1e308,
    -1e-300,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"a": {"b": None}},
)


@dataclass(frozen=True)
class Corruption:
    """What was done, to which file (None: to the directory) and field of it."""

    what: str
    file: str | None = None
    field: str = ""


class Failure(AssertionError):
    """Something that must not follow from a corruption."""


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """The paths of everything in a value of JSON, itself left out."""
    found = []
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            found += [(*at, key), *places(item, (*at, key))]
    return found


def put(value: Any, at: tuple, new: Any) -> None:
    """Replace what is at a place; `...` removes it."""
    for key in at[:-1]:
        value = value[key]
    if new is ...:
        del value[at[-1]]
    else:
        value[at[-1]] = new


def nested(text: str, rng: random.Random) -> str:
    """JSON with one of its values nested without end."""
    at = rng.choice([k for k, char in enumerate(text) if char == ":"])
    return f"{text[: at + 1]}{'[' * DEEP}{']' * DEEP},{text[at + 1 :]}"


class Fuzz:
    """A finished study below `root`, whose runs are corrupted one at a time."""

    def __init__(self, root: Path, seed: int, study: str = "toy"):
        self.root, self.rng = root, random.Random(seed)
        self.study = root / "results" / study
        self.kept = Path(tempfile.mkdtemp(prefix="kablate-fuzz-"))
        shutil.copytree(self.study, self.kept / self.study.name, symlinks=True)
        self.runs = sorted(
            path.relative_to(self.study)
            for path in self.study.glob("*/seed-*/*")
            if path.is_dir()
        )
        self.whole = self.numbers()
        self.without = {name: self._without(name) for name in self.runs}
        self.harmless = self.changed = self.left_out = 0

    def _without(self, name: Path) -> dict[str, Any]:
        aside = self.kept / "aside"
        (self.study / name).rename(aside)
        numbers = self.numbers()
        aside.rename(self.study / name)
        return numbers

    def command(self, *argv: str) -> str:
        """What a command of the runner prints; its status is one that means something."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            status = run.main(argv, {}, self.root, sys.executable, run_settings)
        if status not in (0, 1, 2):
            raise Failure(f"{argv} ended with {status}")
        return out.getvalue()

    def numbers(self) -> dict[str, Any]:
        """Every number of every run and of every step, and the report's words."""
        made: list[report.ReportPaths] = []
        write = report.write

        def kept(*arguments: Any, **more: Any) -> report.ReportPaths:
            made.append(write(*arguments, **more))
            return made[-1]

        with patch.object(report, "write", kept):
            words = self.command("report")
        if not made:
            raise Failure(f"no report: {words}")
        found = made[0].report
        lines = csv_text(found.study, found.selection.terms.last_evals).splitlines()
        return {
            "runs": {line.split(",")[3]: line for line in lines if ",done," in line},
            "rows": {
                row.step: (row.losses, row.differences, row.bits) for row in found.rows
            },
            "verdicts": {
                verdict.step: (verdict.outcome, verdict.differences, verdict.measured)
                for verdict in found.evidence.verdicts
            },
            "words": words + made[0].markdown.read_text() + made[0].html.read_text(),
        }

    def once(self) -> Corruption:
        """One corruption, everything asked, and everything put back."""
        name = self.rng.choice(self.runs)
        place = self.study / name
        self.done = done = self.corrupt(place)
        try:
            self.ask(name, done)
        finally:
            shutil.rmtree(self.study)
            shutil.copytree(self.kept / self.study.name, self.study, symlinks=True)
        return done

    def ask(self, name: Path, done: Corruption) -> None:
        """What reads records, on the study as it is now: plan, report and the table of
        `make watch`, and one of the others.
        """
        plan = self.command("plan")
        found = self.numbers()
        said = {"plan": plan, "report": found["words"]}
        out = Console(file=io.StringIO(), width=2000)
        out.print(Watch(self.study).table())
        said["watch"] = out.file.getvalue()
        who = self.rng.choice(("verdict", "estimate", "compare", "fetch"))
        if who == "compare":
            said[who] = compare.compare(self.study, self.kept / self.study.name)
            with suppress(ReportError):
                compare.compare(self.study / name, self.study / self.runs[0])
        elif who == "fetch":
            fetch(Query("local", study=str(self.study)))
        else:
            words = self.command(who)
            said |= {who: words} if who == "verdict" else {}
        self.judge(name, done, found, said)

    def judge(
        self, name: Path, done: Corruption, found: dict, said: dict[str, str]
    ) -> None:
        """The numbers of the others, and the name of the damaged."""

        def same(wanted: dict[str, Any]) -> bool:
            parts = ("runs", "rows", "verdicts")
            return all(found[part] == wanted[part] for part in parts)

        others = {k: line for k, line in found["runs"].items() if k != str(name)}
        wanted = self.without[name]["runs"]
        if {k: others.get(k) for k in wanted} != wanted:
            raise Failure(f"{done}: the numbers of other runs changed")
        if same(self.whole):
            self.harmless += 1
        elif str(name) in found["runs"]:  # another number of the same kind
            self.changed += 1
        elif not same(self.without[name]):
            raise Failure(f"{done}: neither the whole study nor that without {name}")
        else:
            self.left_out += 1
            for who, words in said.items():
                for part in (done.file, done.field):
                    if part and part not in words.replace("\\_", "_"):
                        raise Failure(f"{done}: {who} does not name {part}:\n{words}")

    def corrupt(self, place: Path) -> Corruption:
        """Do something to the run in `place`."""
        kinds = (self._value, self._value, self._value, self._bytes, self._kind)
        return self.rng.choice((*kinds, self._directory))(place)

    def _file(self, place: Path, names: tuple[str, ...]) -> Path:
        return self.rng.choice([place / n for n in names if (place / n).exists()])

    def _value(self, place: Path) -> Corruption:
        """Another value in a field, at any depth, or none."""
        path = self._file(place, (*JSON, *ROWS))
        lines = path.read_text().splitlines()
        if path.name in JSON:
            lines = ["".join(lines)]
        number = self.rng.randrange(len(lines))
        value = json.loads(lines[number])
        at = self.rng.choice(places(value))
        if self.rng.random() < 0.05:
            lines[number] = nested(lines[number], self.rng)
            path.write_text("\n".join(lines) + "\n")
            return Corruption("nested", path.name)
        new = self.rng.choice((*ODD, ...))
        put(value, at, new)
        old = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        lines[number] = json.dumps(value)
        sys.set_int_max_str_digits(old)
        path.write_text("\n".join(lines) + "\n")
        word = next((str(k) for k in reversed(at) if isinstance(k, str)), "")
        huge = new == 10**4000 and type(new) is int
        shown = "10**4000" if huge else repr(new)
        return Corruption(f"{at} is {shown}", path.name, word)

    def _bytes(self, place: Path) -> Corruption:
        """Other bytes."""
        path = self._file(place, (*JSON, *ROWS, "config.py"))
        data = bytearray(path.read_bytes())
        at = self.rng.randrange(len(data))
        how = self.rng.choice(("flip", "cut", "insert", "empty", "zeros", "long"))
        if how == "flip":
            data[at] ^= 1 << self.rng.randrange(8)
        elif how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = self.rng.randbytes(5)
        elif how == "empty":
            data.clear()
        elif how == "zeros":
            data[at:] = bytes(len(data) - at)
        path.write_bytes(data)
        if how == "long":
            os.truncate(path, 1 << 36)  # sparse
        return Corruption(f"{how} at {at}", path.name)

    def _kind(self, place: Path) -> Corruption:
        """Something that is no file where a file belongs."""
        path = self._file(place, (*JSON, *ROWS, "config.py"))
        other = self.study / self.rng.choice(self.runs) / path.name
        content = other.read_bytes() if other.exists() else b""
        path.unlink()
        how = self.rng.choice(
            ("directory", "pipe", "dangling", "loop", "gone", "other", "device")
        )
        if how == "directory":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "dangling":
            path.symlink_to("nowhere")
        elif how == "loop":
            path.symlink_to(path.name)
        elif how == "other":
            path.write_bytes(content)
        elif how == "device":
            path.symlink_to("/dev/zero")
        return Corruption(how, None if how == "gone" else path.name)

    def _directory(self, place: Path) -> Corruption:
        """A directory of another name, a second one, or none."""
        how = self.rng.choice(("bytes", "twice", "seed", "step", "file", "empty"))
        if how == "bytes":
            odd = os.fsdecode(b"\xff<b>$\\frac$\n" + os.fsencode(place.parts[-3]))
            target = self.study / odd / place.parts[-2] / place.name
        elif how == "twice":
            target = place.with_name("0" * 8)
        elif how == "seed":
            target = place.parent.with_name("seed-99") / place.name
        elif how == "step":
            target = self.study / "$\\frac$ `<i>`|" / place.parts[-2] / place.name
        else:
            shutil.rmtree(place)
            if how == "file":
                place.write_text("no directory")
            else:
                place.mkdir()
            return Corruption(f"directory {how}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(place, target, symlinks=True)
        return Corruption(f"directory {how}")


CRASHES = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError)
CRASHES += (RuntimeError, StopIteration, TypeError, ValueError)
"""What a reader that does not look ends in."""
DRAWN = 25
"""Of so many reports one is drawn."""
FIGURES = (
    "learning_curves.figure",
    "final_losses.figure",
    "forest.figure",
    "loss_against_cost.figure",
    "attention_statistics.figure",
    "sparse_choices.figure",
    "speed_memory.figure",
    "sparsity.figure",
    "learning_rates.figure",
    "training_curves.figure",
)


@contextmanager
def quick() -> Iterator[None]:
    """Parse Kconfig once and draw seldom, coarsely: neither is what is tested here."""
    reports, write = itertools.count(), report.write

    def drawn(*arguments: Any, **more: Any) -> report.ReportPaths:
        if next(reports) % DRAWN == 0:
            return write(*arguments, **more)
        with ExitStack() as stack:
            for name in FIGURES:
                stack.enter_context(
                    patch(f"matrix.report.plots.{name}", lambda *_: None)
                )
            stack.enter_context(patch.object(common, "png_bytes", lambda _: b""))
            stack.enter_context(patch.object(common, "svg_text", lambda *_: "<svg/>"))
            return write(*arguments, **more)

    with (
        patch("matrix.plan.cells.Tree", cache(Tree)),
        patch.object(common, "DPI", 12),
        patch.object(report, "write", drawn),
    ):
        yield


def main() -> int:
    """Train a study, corrupt it, say what came of it."""
    from tests.fuzz.study import trained

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--root", type=Path, help="where a study was trained before")
    options = parser.parse_args()
    began = time.monotonic()
    root = options.root or trained(Path(tempfile.mkdtemp(prefix="kablate-fuzz-")))
    print(f"a study is trained in {root}: {time.monotonic() - began:.0f} s", flush=True)
    began, failed = time.monotonic(), 0
    with quick():
        fuzz = Fuzz(root, options.seed)
        for number in range(options.count):
            try:
                fuzz.once()
            except Failure as failure:
                failed += 1
                print(f"{number}: {failure}"[:2000], flush=True)
            except CRASHES:
                failed += 1
                print(f"{number}: {fuzz.done}\n{traceback.format_exc()}", flush=True)
            if number % 50 == 49:
                print(f"{number + 1} in {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"seed {options.seed}: {options.count} corruptions in "
        f"{time.monotonic() - began:.0f} s: {fuzz.left_out} left out and named, "
        f"{fuzz.harmless} changed nothing that is read, {fuzz.changed} are another "
        f"number of the same kind, {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
