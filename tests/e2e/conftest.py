"""A copy of this repository, a tiny corpus, a toy study, and the real `make`."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import pytest

from kconf.overrides import TABLE
from records.cell import CellRecord, read_cell

ROOT = Path(__file__).resolve().parents[2]

# Variables of an outer `make test` and of its caller that must not reach ours.
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "KCONFIG_CONFIG")
SWITCHES = ("V", "DRY_RUN", "STEP", "JSON", "PYTHON", "NO_COLOR", "FORCE_COLOR")

TOY = {
    "RA_MLA_ABLATION_MODE": "y",
    "STUDY": '"toy"',
    "SEEDS": '"1"',
    "GPT2_SIZE_CUSTOM": "y",
    "GPT2_LAYERS": "2",
    "GPT2_WIDTH": "64",
    "GPT2_HEADS": "4",
    "MLP_DIM": "128",
    "GPT2_BLOCK_SIZE": "16",
    "GPT2_VOCAB_SIZE": "257",
    "DATASET_LOCAL": "y",
    "LOCAL_PATH": '"corpus.txt"',
    "VAL_SPLIT_TAIL": "y",
    "LEARNING_RATE": '"1e-2"',
    "MIN_LEARNING_RATE": '"1e-3"',
    "GPT2_WARMUP_STEPS": "2",
    "GPT2_MAX_ITERS": "20",
    "BATCH_SIZE": "4",
    "GPT2_EVAL_INTERVAL": "10",
    "GPT2_EVAL_WINDOWS": "8",
    "LOG_INTERVAL": "1",
    "CHECKPOINT_INTERVAL": "5",
    "DEVICE_CPU": "y",
    "CPU_THREADS": "1",
    "JOBS": "2",
}
STEPS = {
    "00-control": "# Help: the base\n",
    "01-latent": "# Help: latents\nCONFIG_MLA=y\nCONFIG_MLA_LATENT=16\n",
}


@dataclass(frozen=True)
class Done:
    """How a command ended; `output` is both of its streams."""

    status: int
    output: str


class Checkout:
    """The copy, and what a person does in it."""

    def __init__(self, root: Path):
        self.root = root
        self.started: list[subprocess.Popen] = []
        listed = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True)
        for name in names.stdout.decode().split("\0")[:-1]:
            source, target = ROOT / name, root / name
            if not source.is_symlink() and not source.exists():
                continue  # deleted, not committed
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            else:
                target.write_bytes(source.read_bytes())
                target.chmod(source.stat().st_mode)

    def toy(self, steps: Mapping[str, str] = STEPS, **symbols: str) -> None:
        """Write the corpus, the study `toy` and load it; values as in a file."""
        words = "the cat and a dog saw one very long black bird over there".split()
        drawn = random.Random(0).choices(words, k=8000)
        (self.root / "corpus.txt").write_text(" ".join(drawn) + "\n")
        lines = [f"CONFIG_{n}={v}\n" for n, v in {**TOY, **symbols}.items()]
        base = self.root / "defconfigs" / "toy"
        base.write_text("# Help: a study for the tests\n" + "".join(lines))
        base.with_name("toy.d").mkdir(exist_ok=True)
        for name, text in steps.items():
            self.step(name).write_text(text)
        assert self.make("defconfig-toy").status == 0

    def step(self, name: str) -> Path:
        """The fragment of a step of the toy study."""
        return self.root / "defconfigs" / "toy.d" / f"{name}.config"

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the only occurrence of `old` in a file."""
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))

    def python(self, *arguments: str) -> Done:
        """A python command in the copy."""
        return self._finish(self._start([sys.executable, *arguments], {}))

    def make(self, *targets: str, **variables: str) -> Done:
        """make with variables in its environment, to its end."""
        return self._finish(self.start(*targets, **variables))

    def start(self, *targets: str, **variables: str) -> subprocess.Popen:
        """The same, only started; it leads a process group of its own."""
        return self._start(["make", f"PYTHON={sys.executable}", *targets], variables)

    def _start(self, argv: list[str], variables: dict) -> subprocess.Popen:
        dropped = {*TABLE, *OUTER, *SWITCHES}
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in dropped and not name.startswith("CONFIG_")
        }
        process = subprocess.Popen(
            argv,
            cwd=self.root,
            env={**kept, "OMP_NUM_THREADS": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def _finish(self, process: subprocess.Popen) -> Done:
        output, _ = process.communicate()
        return Done(process.returncode, output)

    def cells(self, output: str = "results") -> dict[str, CellRecord]:
        """{"STEP/seed-K": record} of every cell; two hashes of one are an error."""
        found: dict[str, CellRecord] = {}
        for path in sorted((self.root / output).glob("*/*/seed-*/????????")):
            name = "/".join(path.parts[-3:-1])
            assert name not in found, f"{name} has a second run, {path}"
            found[name] = read_cell(path)
        return found

    def trainers(self) -> list[int]:
        """Pids of the processes that train a cell of this copy."""
        mine = str(self.root)
        return [
            pid
            for pid, (_, argv) in processes().items()
            if "--run-dir" in argv
            and argv[argv.index("--run-dir") + 1].startswith(mine)
        ]

    def runner(self, make: subprocess.Popen) -> int | None:
        """Pid of the runner below a started make."""
        known = processes()
        for pid, (parent, argv) in known.items():
            if "scripts/run_test_matrix.py" not in argv:
                continue
            while parent != make.pid and parent in known:
                parent = known[parent][0]
            if parent == make.pid:
                return pid
        return None

    def end(self) -> None:
        """Kill the commands that still run, then what the copy still trains."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
        for pid in self.trainers():
            kill(pid)


def processes() -> dict[int, tuple[int, list[str]]]:
    """{pid: (parent, command line)} of every process that can be read."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            argv = (path / "cmdline").read_bytes().decode().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(path.name)] = (int(parent), argv)
    return found


def kill(pid: int) -> bool:
    """kill -9; False when it ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A fresh copy; its cells do not outlive the test."""
    copy = Checkout(tmp_path)
    yield copy
    copy.end()


@pytest.fixture
def kill_9() -> Callable[[int], bool]:
    """kill(pid): True when the process was there to be killed."""
    return kill


@pytest.fixture
def starts() -> Callable[[CellRecord], int]:
    """starts(record): how many attempts a cell had."""
    return lambda cell: sum(row["event"] == "start" for row in cell.attempts)


@pytest.fixture
def curve() -> Callable[[CellRecord], Any]:
    """curve(record): what must be equal bit for bit, clocks and attempts left out."""
    clocks = ("time", "tokens_per_s", "mfu", "attempt")

    def bits(cell: CellRecord) -> Any:
        rows = [*cell.train, *cell.evals]
        kept = [{k: v for k, v in row.items() if k not in clocks} for row in rows]
        return kept, cell.summary["model_sha256"]

    return bits


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """wait_until(condition, seconds): poll; fails when time is up."""

    def wait(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.02)

    return wait
