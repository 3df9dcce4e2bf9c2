"""Tasks of lm-evaluation-harness: found, asked, and turned into rows.

A task is the name of one that lies in gpt2/evaluation/tasks/, a path of a YAML
file in lm-eval's format, or a name that lm-eval knows. The data files of a YAML
lie beside it and are read from the disk; lm-eval's own tasks come from the hub.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.harness import Adapter
from gpt2.evaluation.taskcode import functions
from records.spelling import closest

SHIPPED = Path(__file__).resolve().parent / "tasks"
YAML = (".yaml", ".yml")
VERSION = lm_eval.__version__


@dataclass(frozen=True)
class Asked:
    """A task as it was found; `source` is the sha256 of its files, or lm-eval's
    version where the task is one of its own.
    """

    task: Task
    source: str

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.task_name


@dataclass(frozen=True)
class Answers:
    """What came of a task: metric -> value and metric -> "higher" or "lower".

    sha256 is that of every request in order with its document; `better` lacks a
    metric of which the task does not say it.
    """

    name: str
    source: str
    sha256: str
    requests: int
    truncated: int
    metrics: dict[str, float]
    better: dict[str, str]


def find(
    names: Iterable[str],
    say: Callable[[str], object] = print,
    offline: str | None = None,
) -> list[Asked]:
    """The tasks of these names, lm-eval's groups and tags as their members.

    What a YAML file runs besides is said before it runs. offline: the variable that
    keeps lm-eval off the network, for the message. Raises EvaluationError for a
    name or a file that is no task.
    """
    found: list[Asked] = []
    manager = None
    for name in names:
        path = SHIPPED / f"{name}.yaml"
        if name.endswith(YAML):
            found.append(_local(Path(name), say))
        elif path.is_file():
            found.append(_local(path, say))
        else:
            manager = manager or TaskManager()
            found += _known(manager, name, offline)
    twice = {asked.name for asked in found if _count(found, asked.name) > 1}
    if twice:
        raise EvaluationError(f"TASKS names {', '.join(sorted(twice))} twice")
    return found


def _count(found: Sequence[Asked], name: str) -> int:
    return sum(asked.name == name for asked in found)


def _local(path: Path, say: Callable[[str], object]) -> Asked:
    """The task of a YAML file. Its data files are named as seen from it."""
    try:
        if run := ", ".join(functions(path)):
            say(f"TASKS={path} runs code as you: !function {run}")
        config = load_yaml(path)
        name = config.get("task")
        if not isinstance(name, str):
            raise EvaluationError(f"{path}: task is {name!r}, a task has a name there")
        files = _absolute(config, path.resolve().parent)
        digest = hashlib.sha256(path.read_bytes())
        for file in files:
            digest.update(file.read_bytes())
        return Asked(ConfigurableTask(config=config), digest.hexdigest())
    except OSError as error:
        raise EvaluationError(f"{error.filename or path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, ImportError, AttributeError) as error:
        raise EvaluationError(
            f"{path}: no task that lm-eval {VERSION} can read: {error!r}"
        ) from error


def _absolute(config: dict[str, Any], folder: Path) -> list[Path]:
    """Make the data files' paths absolute; the files, in order of their names."""
    data = config.get("dataset_kwargs", {}).get("data_files", {})
    if not isinstance(data, dict):
        data = {"test": data}
    lists = {k: [v] if isinstance(v, str) else list(v) for k, v in data.items()}
    places = {k: [(folder / name).resolve() for name in v] for k, v in lists.items()}
    if places:
        named = {k: [str(place) for place in v] for k, v in places.items()}
        config["dataset_kwargs"] = {**config["dataset_kwargs"], "data_files": named}
    return sorted(place for each in places.values() for place in each)


def _known(manager: TaskManager, name: str, offline: str | None) -> list[Asked]:
    """The tasks that lm-eval has under a name."""
    if name not in manager.all_tasks:
        shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
        close = closest(name, [*shipped, *manager.all_tasks], 4)
        raise EvaluationError(
            f"TASKS: {name} is no task: a .yaml file, {', '.join(shipped)}, or one of "
            f"lm-eval {VERSION}" + (f" (like {', '.join(close)})" if close else "")
        )
    try:
        loaded = manager.load([name])["tasks"]
    except (OSError, ValueError) as error:  # of the hub, and of its cache
        raise EvaluationError(
            f"TASKS: the data of {name} cannot be loaded: "
            + (f"{offline}, and it is in no cache: " if offline else "")
            + f"{error}. Without a network take a local task (docs/evaluation.md)"
        ) from error
    return [Asked(task, f"lm-eval {VERSION}") for task in loaded.values()]


def answer(
    adapter: Adapter,
    asked: Sequence[Asked],
    limit: int | None,
    shots: int | None,
) -> list[Answers]:
    """Ask the tasks: the first `limit` documents of each, `shots` examples before
    each question (None: as the task has it), chosen by the adapter's seed.
    """
    seed = adapter.seed
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    tasks = {each.name: each.task for each in asked}
    for task in tasks.values():
        if shots is not None:
            task.set_config(key="num_fewshot", value=shots)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    answers = []
    for each in asked:
        before = adapter.truncated
        made = evaluate(
            lm=adapter,
            task_dict={"tasks": {each.name: each.task}, "groups": {}},
            limit=limit,
            bootstrap_iters=0,
            log_samples=False,
        )
        answers.append(_answers(each, made, adapter.truncated - before))
    return answers


def _answers(asked: Asked, made: dict[str, Any], truncated: int) -> Answers:
    metrics, better = {}, {}
    higher = made["higher_is_better"][asked.name]
    for key, value in made["results"][asked.name].items():
        metric, comma, filtered = key.partition(",")
        if not comma or not isinstance(value, int | float):
            continue  # alias, sample counts, errors that were not estimated
        name = metric if filtered == "none" else key
        metrics[name] = float(value)
        if higher.get(metric) is not None:
            better[name] = "higher" if higher[metric] else "lower"
    return Answers(
        name=asked.name,
        source=asked.source,
        sha256=_asked_sha256(asked.task),
        requests=len(asked.task.instances),
        truncated=truncated,
        metrics=metrics,
        better=better,
    )


def _asked_sha256(task: Task) -> str:
    """sha256 of every request: its kind, its arguments and its document."""
    digest = hashlib.sha256()
    for instance in task.instances:
        what = [instance.request_type, instance.args, instance.doc]
        line = json.dumps(what, sort_keys=True, ensure_ascii=False, default=repr)
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
