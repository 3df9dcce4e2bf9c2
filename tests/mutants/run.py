"""make test-mutants: every mutant must be caught, by what it says.

The tracked files are copied once per worker; a worker changes one file, runs the
catcher, and changes it back. First the catchers run on the untouched copy: what
fails there catches nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from records import entry
from tests.mutants.catalogue import MUTANTS, table
from tests.mutants.mutant import Check, Mutant, Test, matches

ROOT = Path(__file__).resolve().parents[2]
SURVIVES = "survives"
PATIENCE = 180  # seconds for one catcher
# How pytest's report of a failed test begins when an assertion failed, and not
# something before it.
ASSERTION = ("assert", "AssertionError", "Failed: DID NOT RAISE")


@dataclass(frozen=True)
class Done:
    """How a command in a copy ended."""

    status: int
    stdout: str
    stderr: str


class Copy:
    """The tracked files as they stand in a directory of their own, and a process
    there that runs commands. Use it in a with statement.
    """

    def __init__(self, root: Path):
        self.root = root
        for name in _tracked():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place, follow_symlinks=False)

    def __enter__(self) -> "Copy":
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CONFIG_")}
        fixed = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.server"],
            cwd=self.root,
            env={**kept, **fixed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_) -> None:
        self.server.stdin.close()
        self.server.wait()

    def python(
        self, arguments: list[str], environment: dict[str, str] | None = None
    ) -> Done:
        """`python ARGUMENTS` in the copy, with this added to the environment."""
        output = self.root / ".output"
        asked = {
            "arguments": arguments,
            "environment": environment or {},
            "patience": PATIENCE,
            "output": str(output),
        }
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        if not answer:
            raise RuntimeError("tests.mutants.server ended; what it said stands above")
        status = int(answer)
        errors = output.with_name(output.name + ".err")
        return Done(status, output.read_text(), errors.read_text())


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [name for name in listed.stdout.split("\0") if name]


@dataclass
class Outcome:
    """problem: why the mutant counts as alive, None when it was caught."""

    mutant: Mutant
    problem: str | None
    seconds: float


def main(patterns: Sequence[str], workers: int) -> int:
    """0 when every chosen mutant was caught."""
    began = time.monotonic()
    chosen = [m for m in MUTANTS if matches(m.id, patterns)]
    if not chosen:
        print(f"no mutant is called {' '.join(patterns)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        places = [Path(folder) / str(number) for number in range(workers)]
        copies = [stack.enter_context(Copy(place)) for place in places]
        catchers = list({str(m.catcher): m.catcher for m in chosen}.values())
        unsound = list(filter(None, _share(copies, catchers, unsoundness)))
        for problem in unsound:
            print(f"without any mutant: {problem}", file=sys.stderr)
        if unsound:
            return 1
        seconds = time.monotonic() - began
        print(f"{len(catchers)} catchers are sound, {seconds:.0f} s", flush=True)
        outcomes = _share(copies, chosen, attempt)
    alive = [outcome for outcome in outcomes if outcome.problem]
    for outcome in alive:
        print(f"\n✗ {outcome.mutant.id}: {outcome.mutant.what}\n  {outcome.problem}")
    print(
        f"mutants: {len(chosen) - len(alive)} of {len(chosen)} caught, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if alive else 0


def _share(copies: list[Copy], jobs: Sequence, work: Callable) -> list:
    """work(copy, job) of every job on whichever copy is free; results in order."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def on_a_free_one(job):
        copy = free.get()
        try:
            return work(copy, job)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(on_a_free_one, jobs))


def unsoundness(copy: Copy, catcher: Check | Test) -> str | None:
    """None when the catcher finds nothing in the untouched source."""
    found = caught(copy, catcher)
    return None if found and found.startswith(SURVIVES) else f"{catcher}: {found}"


def attempt(copy: Copy, mutant: Mutant) -> Outcome:
    """Apply the mutant, run its catcher, restore; one line on the terminal."""
    began = time.monotonic()
    try:
        path, text = mutant.apply(copy.root)
    except ValueError as stale:
        return Outcome(mutant, str(stale), 0.0)
    try:
        problem = caught(copy, mutant.catcher)
    finally:
        path.write_text(text)
    seconds = time.monotonic() - began
    by = mutant.catcher
    shown = f"{by}: {by.promise}" if isinstance(by, Check) else str(by)
    mark = "✗" if problem else "✓"
    print(f"{mark} {mutant.id:<28} {seconds:5.1f} s  {shown}", flush=True)
    return Outcome(mutant, problem, seconds)


def caught(copy: Copy, catcher: Check | Test) -> str | None:
    """Run it; None when it notices as it should, else what happened instead."""
    if isinstance(catcher, Test):
        failures = _failures(copy, [catcher.node])
        if isinstance(failures, str):
            return failures
        if not failures:
            return f"{SURVIVES}: the test passes"
        other = [text for text in failures if not text.startswith(ASSERTION)]
        return f"fails, but not by an assertion: {other[0]}" if other else None
    verdicts = _verdicts(copy, catcher)
    if isinstance(verdicts, str):
        return verdicts
    broken = [v for v in verdicts if v["promise"]]
    if not broken:
        return f"{SURVIVES}: every promise is kept"
    for verdict in broken:
        if verdict["promise"] != catcher.promise or verdict["trace"]:
            return (
                f"step {verdict['step']} breaks {verdict['promise']}, not "
                f"{catcher.promise}: {verdict['found']}"
            )
    return None


def _verdicts(copy: Copy, catcher: Check) -> list[dict] | str:
    if not catcher.ranks:
        asked = [catcher.study, catcher.steps, dict(catcher.symbols)]
        done = copy.python(["-m", "tests.mutants.probe", json.dumps(asked)])
        return json.loads(done.stdout) if done.status == 0 else _crash(done)
    command = ["gpt2/train_ra_mla.py", "--dry-run", "--json"]
    command += ["--ra-mla-ablation-step", catcher.steps]
    symbols = {f"CONFIG_{name}": value for name, value in catcher.symbols}
    symbols["KCONFIG_CONFIG"] = str(copy.root / "no such file")
    done = copy.python(command, symbols)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return _crash(done)


def _failures(copy: Copy, nodes: list[str]) -> list[str] | str:
    """What each failing test says first; a text when pytest did not get there."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = copy.python([*command, f"--junitxml={report}", *nodes])
        if not report.exists():
            return _crash(done)
        cases = list(ElementTree.parse(report).iter("testcase"))
    errors = [e.get("message") for case in cases for e in case.iter("error")]
    if errors or not cases:
        return f"does not get as far as the test: {errors or done.stdout[-300:]}"
    return [f.get("message") for case in cases for f in case.iter("failure")]


def _crash(done: Done) -> str:
    said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["nothing"]
    return f"crashes with status {done.status}: {said[-1]}"


def command(arguments: list[str]) -> int:
    """`make test-mutants` and, with --list, `make list-mutants`."""
    patterns = os.environ.get("MUTANTS", "").split()
    if arguments == ["--list"]:
        print(table(patterns))
        return 0
    return main(patterns, int(os.environ.get("WORKERS") or os.cpu_count() or 1))


if __name__ == "__main__":
    entry.run(command)
