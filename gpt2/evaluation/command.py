"""`make eval`: evaluate finished runs and put what came of it on their records."""

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2.data.tokenization.tokenizers import TokenizerError
from gpt2.evaluation import recall
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.text import evaluate_text, read, resolve_stride, sha256
from gpt2.generation.generate import GenerateError, Trained, load, require_directory
from gpt2.training.checkpoint import CheckpointError
from gpt2.settings.recall import RecallSettings
from gpt2.training.device import DeviceError
from kconf import config_py
from kconf.bind import build
from kconf.syntax import ConfigError
from records import evaluations, history, pointer, provenance
from records import read as records
from records.cell import read_status
from records.durations import duration
from records.extras import installing
from records.layout import CellDir, RecordError
from records.offline import OfflineError, silence
from records.plurals import plural
from records.progress_line import Counted

LOWER, HIGHER, DONE = "lower", "higher", "done"
# What a user can cause and mend.
EXPECTED = (
    EvaluationError,
    GenerateError,
    CheckpointError,
    ConfigError,
    RecordError,
    DeviceError,
    TokenizerError,
    ArithmeticError,
    OSError,
)
Say = Callable[[str], object]


@dataclass(frozen=True)
class Wanted:
    """What to evaluate a run on, and how.

    stride: of the text, None for half the context; limit: documents of a task,
    None for all; shots: examples before a question, None for the task's own.
    """

    text: Path | None = None
    tasks: tuple[str, ...] = ()
    stride: int | None = None
    batch: int = 8
    limit: int | None = None
    shots: int | None = None
    seed: int = 1
    kind: str = "cpu"


class Evaluator:
    """Evaluates runs; texts are read and tasks found once, before the first."""

    def __init__(self, wanted: Wanted, say: Say):
        """Raises EvaluationError for a text or a task that is not there, and where
        tasks are asked for and lm-eval is not installed.
        """
        self.wanted = wanted
        self.text_sha256 = sha256(read(wanted.text)) if wanted.text else None
        self.recall = {n: p for n in wanted.tasks if (p := recall.pairs_of(n))}
        if self.recall and wanted.shots is not None:
            names = ", ".join(self.recall)
            raise EvaluationError(f"SHOTS={wanted.shots}: {names} takes no examples")
        self.tasks = None
        if others := tuple(n for n in wanted.tasks if n not in self.recall):
            offline = _offline()
            self.tasks = _harness()
            self.asked = self.tasks.find(others, say, offline)

    def missing(self, cell: CellDir) -> bool:
        """Whether a finished run lacks a row that this evaluation would write."""
        done, wanted = evaluations.read(cell), self.expected(cell)
        weights = records.summary(cell.summary).get("model_sha256")
        return any(
            name not in done
            or done[name]["model_sha256"] != weights
            or any(done[name][key] != value for key, value in part.items())
            for name, part in wanted.items()
        )

    def expected(self, cell: CellDir) -> dict[str, dict[str, Any]]:
        """name -> what its row holds whatever the result."""
        rows: dict[str, dict[str, Any]] = {}
        if self.wanted.text:
            context = config_py.read(cell.config_py).values["GPT2_BLOCK_SIZE"]
            stride = resolve_stride(self.wanted.stride, context)
            rows[self.wanted.text.name] = {
                "kind": "text",
                "sha256": self.text_sha256,
                "settings": {"context": context, "stride": stride},
            }
        corpus = self._recall_corpus(cell) if self.recall else None
        for name in self.recall:
            rows[name] = {"kind": "task", "settings": self._recall_settings(corpus)}
        for asked in self.asked if self.tasks else ():
            rows[asked.name] = {
                "kind": "task",
                "settings": self._task_settings(asked.source),
            }
        return rows

    def _task_settings(self, source: str) -> dict[str, Any]:
        wanted = self.wanted
        how = {"limit": wanted.limit, "shots": wanted.shots, "seed": wanted.seed}
        return {"task": source, **how}

    def _recall_corpus(self, cell: CellDir) -> RecallSettings:
        """That the run was trained on. Raises EvaluationError without one."""
        values = history.completed(config_py.read(cell.config_py).values)
        if not values["DATASET_RECALL"]:
            raise EvaluationError(
                f"{cell.path}: {', '.join(self.recall)} is for runs that trained on "
                "CONFIG_DATASET_RECALL=y"
            )
        return build(RecallSettings, values)

    def _recall_settings(self, corpus: RecallSettings) -> dict[str, Any]:
        return self._task_settings(recall.source(corpus)) | {"limit": self._rows}

    @property
    def _rows(self) -> int:
        """Rows of a recall task."""
        return recall.ROWS if self.wanted.limit is None else self.wanted.limit

    def evaluate(self, directory: Path) -> Iterator[dict[str, Any]]:
        """Rows of the run in `directory`, each written as soon as it is there.

        Raises what EXPECTED lists.
        """
        trained, cell = load(directory, self.wanted.kind), CellDir(directory)
        weights = records.summary(cell.summary).get("model_sha256")
        for measure in (self._text, self._recall, self._tasks):
            began = time.time()
            for row in measure(trained, cell):
                whole = {
                    **row,
                    "model_sha256": weights,
                    "device": self.wanted.kind,
                    "batch": self.wanted.batch,
                    "versions": self._versions(),
                    "seconds": time.time() - began,
                    "time": time.time(),
                }
                evaluations.append(cell, whole)
                yield whole

    def _versions(self) -> dict[str, str]:
        found = {"python": platform.python_version(), **provenance.package_versions()}
        return {**found, "lm_eval": self.tasks.VERSION} if self.tasks else found

    def _text(self, trained: Trained, cell: CellDir) -> Iterator[dict[str, Any]]:
        path, wanted = self.wanted.text, self.wanted
        if path is None:
            return
        progress = Counted(path.name, 0, scale=1, unit="tokens")
        found = evaluate_text(trained, path, wanted.stride, wanted.batch, progress)
        progress.close()
        yield {
            "name": path.name,
            "kind": "text",
            "sha256": found.sha256,
            "settings": {"context": found.context, "stride": found.stride},
            "metrics": found.metrics,
            "better": dict.fromkeys(found.metrics, LOWER),
            "counts": {"tokens": found.tokens, "bytes": found.bytes},
        }

    def _recall(self, trained: Trained, cell: CellDir) -> Iterator[dict[str, Any]]:
        if not self.recall:
            return
        corpus, wanted = self._recall_corpus(cell), self.wanted
        for name, pairs in self.recall.items():
            rows = recall.evaluation_rows(corpus, pairs, wanted.seed, self._rows)
            scored = recall.score_rows(trained, rows, wanted.batch)
            yield {
                "name": name,
                "kind": "task",
                "sha256": scored.sha256,
                "settings": self._recall_settings(corpus),
                "metrics": scored.metrics,
                "better": {"acc": HIGHER, "loss": LOWER},
                "counts": {"requests": scored.answers, "truncated": 0},
            }

    def _tasks(self, trained: Trained, cell: CellDir) -> Iterator[dict[str, Any]]:
        if self.tasks is None:
            return
        wanted = self.wanted
        progress = Counted("tasks", 0, scale=1, unit="requests")
        adapter = self.tasks.Adapter(trained, wanted.batch, wanted.seed, progress)
        for found in self.tasks.answer(adapter, self.asked, wanted.limit, wanted.shots):
            yield {
                "name": found.name,
                "kind": "task",
                "sha256": found.sha256,
                "settings": self._task_settings(found.source),
                "metrics": found.metrics,
                "better": found.better,
                "counts": {"requests": found.requests, "truncated": found.truncated},
            }
        progress.close()


def _offline() -> str | None:
    """The variable that keeps the harness off the network, None where none does.

    Each of its libraries reads one of its own when it is imported, and so all are set.
    """
    try:
        return silence()
    except OfflineError as error:
        raise EvaluationError(str(error)) from None


def _harness() -> Any:
    """gpt2.evaluation.tasks, which needs the extra `eval`."""
    try:
        from gpt2.evaluation import tasks
    except ModuleNotFoundError as error:
        raise EvaluationError(
            f"TASKS= needs lm-evaluation-harness ({error.name} is missing): "
            f"{installing('eval')}"
        ) from error
    return tasks


UNITS = {"loss": ("nats/token",)}
"""Of a metric whose name does not say its unit."""


def told(row: dict[str, Any]) -> str:
    """A row in a line: held.txt: loss 3.1234 nats/token, perplexity … (12 tokens, …)."""
    numbers = ", ".join(
        " ".join([name, f"{value:.6g}", *UNITS.get(name, ())])
        for name, value in row["metrics"].items()
    )
    counts = ", ".join(f"{count:,} {noun}" for noun, count in row["counts"].items())
    how = ", ".join(f"{k} {v}" for k, v in row["settings"].items() if k != "task")
    return f"{row['name']}: {numbers} ({counts}; {how})"


def evaluate_run(wanted: Wanted, directory: Path, say: Say = print) -> int:
    """Evaluate one run, where a reused one lies; 0. Raises what EXPECTED lists."""
    require_directory(directory)
    directory = pointer.follow(CellDir(directory)).dir.path
    for row in Evaluator(wanted, say).evaluate(directory):
        say(told(row))
    say(f"{CellDir(directory).evaluations}")
    return 0


def evaluate_study(wanted: Wanted, study: Path, say: Say = print) -> int:
    """Evaluate every finished run of `study` that lacks these rows; one that another
    study trained, where it lies: that is where a report reads its rows.

    A run that cannot be evaluated does not stop the others; 1 when there was one.
    Neither does one whose records are damaged. Raises EvaluationError where no run
    has finished.
    """
    found = _cells(study)
    evaluator = Evaluator(wanted, say)
    finished, left, failed = {}, [], 0
    for path in found:
        try:
            there = pointer.follow(CellDir(path)).dir
            if read_status(there).state == DONE:
                finished[path] = there
                left += [path] if evaluator.missing(there) else []
        except EXPECTED as error:
            finished.pop(path, None)
            failed += 1
            say(f"{path.relative_to(study).as_posix()}: error: {error}")
    if not finished:
        raise EvaluationError(
            f"STUDY={study}: none of {plural(len(found), 'run')} is finished (OUTPUT_DIR/STUDY)"
        )
    say(
        f"{study}: {plural(len(left), 'run')} to evaluate, {len(finished) - len(left)} are "
        f"evaluated already, {len(found) - len(finished)} not finished"
    )
    began = time.monotonic()
    for number, path in enumerate(left, start=1):
        name, there = path.relative_to(study).as_posix(), finished[path].path
        name += "" if there == path else f" (reused from {there})"
        try:
            for row in evaluator.evaluate(there):
                say(f"{name}: {told(row)}")
        except EXPECTED as error:
            failed += 1
            say(f"{name}: error: {error}")
        rest = (len(left) - number) * (time.monotonic() - began) / number
        say(f"{number} of {plural(len(left), 'run')}, {duration(rest)} left")
    return 1 if failed else 0


def _cells(study: Path) -> list[Path]:
    """Every cell's own directory."""
    names = ("config.py", pointer.NAME)
    own = {path.parent for name in names for path in study.glob(f"*/seed-*/*/{name}")}
    return sorted(own)
