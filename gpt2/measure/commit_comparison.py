"""Two commits' networks on one machine, in one call: equal bit for bit or not.

Each commit's tree is unpacked into a temporary folder and measured by a process that
imports from there alone (gpt2/measure/networks.py), with one thread, both at once.
Hashes of logits differ between instruction sets, so none of this can stand in a file;
what can is in tests/golden/.
"""

import fnmatch
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from records.durations import duration

PROGRAM = Path(__file__).with_name("networks.py")
FLOPS = ("flops_per_token", "flops_per_token_causal")
WIDEST = 24

Figures = dict[str, Any]


class ComparisonError(Exception):
    """The two cannot be compared; the text says why."""


@dataclass(frozen=True)
class Difference:
    """A figure of one network in which the commits differ. wanted: it was declared."""

    network: str
    figure: str
    old: Any
    new: Any
    wanted: bool


def compare(
    root: Path,
    old: str,
    new: str,
    expect_flops: tuple[str, ...],
    only: str,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> list[Difference]:
    """Every difference, the declared ones too; and as unwanted, with old = new, a
    network of expect_flops whose FLOPs are the same.

    Networks: each distinct network, optimizer and pruning of the old commit's
    configurations that the new one has as well and whose name STUDY/STEP fits the
    pattern `only`. environment: that of the measuring processes, less the symbols in
    it. say: takes lines of progress. Raises ComparisonError.
    """
    with tempfile.TemporaryDirectory() as folder:
        trees = [
            _Unpacked.of(root, commit, Path(folder) / str(number), environment)
            for number, commit in enumerate((old, new))
        ]
        listed, known = ({line["name"]: line for line in t.ask([])} for t in trees)
        first: dict[str, str] = {}
        for name, line in listed.items():
            if name not in known:
                say(f"{name}: not in {new}, left out")
            elif fnmatch.fnmatchcase(name, only):
                first.setdefault(line["training"], name)
        names = list(first.values())
        unknown = sorted(set(expect_flops) - set(names))
        if unknown or not names:
            raise ComparisonError(
                f"no network {unknown[0] if unknown else only!r} is compared; "
                f"the old commit has: {' '.join(listed)}"
            )
        say(f"{len(listed)} configurations, {len(names)} networks to compare")
        with ThreadPoolExecutor(2) as pool:
            tell = (lambda name: None, _progress(names, say))
            asked = [pool.submit(t.measured, names, f) for t, f in zip(trees, tell)]
            before, after = (future.result() for future in asked)
    return [
        difference
        for name in names
        for difference in differences(
            name, before[name], after[name], name in expect_flops
        )
    ]


def differences(
    network: str, old: Figures, new: Figures, other_flops: bool
) -> list[Difference]:
    """Where the figures of a network differ; other_flops: its FLOPs have to."""
    found = []
    for figure in dict.fromkeys([*old, *new]):
        a, b = old.get(figure), new.get(figure)
        declared = other_flops and figure in FLOPS
        if a != b or declared:
            found.append(Difference(network, figure, a, b, declared and a != b))
    return found


def table(found: list[Difference]) -> str:
    """The differences, one a line; the first value of a series that differs."""
    lines = []
    for one in found:
        old, new, where = one.old, one.new, ""
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            place = next(i for i, (a, b) in enumerate(zip(old, new)) if a != b)
            old, new, where = old[place], new[place], f"[{place}]"
        note = " (declared)" if one.wanted else ""
        if one.old == one.new:
            note = " (declared to differ)"
        lines.append(
            f"{one.network:48} {one.figure + where:24} "
            f"{str(old)[:WIDEST]} -> {str(new)[:WIDEST]}{note}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Unpacked:
    """The tree of a commit in a folder of its own, and what measures it there."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, root: Path, commit: str, folder: Path, environment: Mapping) -> Self:
        """Of a commit of the repository at root; raises ComparisonError."""
        folder.mkdir()
        git = ["git", "-C", str(root)]
        name = [
            *git,
            "rev-parse",
            "--verify",
            "--end-of-options",
            f"{commit}^{{commit}}",
        ]
        known = subprocess.run(name, capture_output=True, encoding="utf-8")
        if known.returncode:
            raise ComparisonError(f"{commit!r} is no commit: {known.stderr.strip()}")
        tar = [*git, "archive", "--format=tar", known.stdout.strip()]
        packed = subprocess.run(tar, capture_output=True, check=True)
        words = ["tar", "-x", "-C", str(folder)]
        subprocess.run(words, input=packed.stdout, check=True)
        own = {
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(folder),
        }
        foreign = ("CONFIG_", "PYTHONPATH")
        kept = {k: v for k, v in environment.items() if not k.startswith(foreign)}
        return cls(folder, {**kept, **own})

    def ask(self, names: list[str]) -> Iterator[Figures]:
        """What the measuring process answers, line by line."""
        command = [sys.executable, "-P", str(PROGRAM), str(self.folder), *names]
        with (self.folder / "log").open(
            "w+", encoding="utf-8", errors="replace"
        ) as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            for line in process.stdout:
                yield json.loads(line)
            if process.wait():
                log.seek(0)
                tail = "".join(log.readlines()[-20:])
                raise ComparisonError(f"{' '.join(command[:4])} … failed:\n{tail}")

    def measured(
        self, names: list[str], tell: Callable[[str], None]
    ) -> dict[str, Figures]:
        """{name: its figures}, in one process. Raises ComparisonError."""
        found = {}
        for line in self.ask(names):
            name = line.pop("name")
            found[name] = line
            tell(name)
        if set(found) != set(names):
            missing = sorted(set(names) - set(found))
            raise ComparisonError(f"no answer for {' '.join(missing)}")
        return found


def _progress(names: list[str], say: Callable[[str], None]) -> Callable[[str], None]:
    began, count = time.monotonic(), iter(range(1, len(names) + 1))
    return lambda name: say(
        f"{next(count)} of {len(names)}  {name}  {duration(time.monotonic() - began)}"
    )
