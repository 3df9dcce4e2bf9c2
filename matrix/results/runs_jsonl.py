"""runs.jsonl: a study in one file, from which its report can be made again.

The first line is about the study, every other one about a run directory. What all
runs have alike stands in the first line alone (`same`), so that eighteen arms of
eight seeds with a hundred evaluations each take less than 2 MB. docs/records.md
has the fields; the JSON is strict, a number that is none is {"float": "nan"}.
"""

import json
import math
import re
from pathlib import PurePosixPath
from typing import Any, Iterable, Mapping, Sequence

from matrix import units
from matrix.results.evaluated_text import EvaluatedText
from matrix.results.metrics import VAL_LOSS
from matrix.results.recorded import PATHS
from matrix.results.run import DAMAGED, Run
from matrix.results.runs_csv import counting
from matrix.results.selection import Selection
from matrix.results.study import Study

SCHEMA = 1
EVALS = ("step", "tokens", "time", "loss", "curve_loss", "perplexity", "bits_per_byte")
"""The columns of `evals`, a value per evaluation."""
PARTS = ("values", "config", "code_files", "software", "evals")
"""Objects of a run's line whose fields may stand in `same`."""
OWN = ("loss",)
"""Columns that every line holds itself: they bound what a file can hold."""
EVALUATION = ("schema", "attempt", "name", "kind", "sha256", "settings", "metrics")
EVALUATION += ("better", "model_sha256")
WITHHELD = re.compile(
    r"\w+_(DIR|PATH)|BASELINE|LOCAL_(SOURCES|FILES)|(TRACKER|WANDB|SLURM)(_\w+)?"
)
"""Operational symbols that name places, accounts and queues of a machine."""
ATTENTION, SPARSITY = "attention statistics", "pruned share over training"
TRAINING = "training loss, learning rate and gradient norm over training"
TEXT = "losses of each document or window of the last evaluation"
TERMS = ("last_evals", "smallest", "alpha", "stage")


def text(
    study: Study,
    selection: Selection,
    records: Mapping[str, Mapping[str, Any]],
    replaced: Sequence[str],
) -> str:
    """The file: a line on the study, and one on every run directory.

    records: the sealed records beside the runs, by their file names; replaced: the
    places of former runs, STEP/seed-K/HASH8-N.
    """
    word, used = counting(study), {run.run_dir for run in study.counted.values()}
    last_evals = selection.terms.last_evals
    made, hosts = [], _hosts(study.runs)
    for run in study.runs:
        counted = run.run_dir in used
        loss = VAL_LOSS.of(run, last_evals) if counted else None
        head = {"counted": word(run), "loss": loss, "reused": run.reused}
        made.append(_run(run, head, hosts))
    whole = [line for line in made if "values" in line]
    same: dict[str, Any] = {
        part: _alike(line[part] for line in whole) for part in PARTS
    }
    for line in whole:
        for part in PARTS:
            line[part] = {k: v for k, v in line[part].items() if k not in same[part]}
    usual = whole[0]["operational"] if whole else []
    for line in whole:
        if line["operational"] == usual:
            del line["operational"]
    same["operational"] = usual
    about = {
        "schema": SCHEMA,
        "study": study.name,
        "selection": selected(selection),
        "records": records,
        "replaced": [*replaced],
        "without": _without(study.runs),
        "same": same,
    }
    return "".join(_json(line) + "\n" for line in (about, *made))


def selected(selection: Selection) -> dict[str, Any]:
    """What was meant and by what terms it was judged; what promotions and
    preregistrations add to the terms stands in their own records.
    """
    terms, hashes = selection.terms, selection.hashes
    return {
        "steps": [*selection.steps],
        "seeds": [*selection.seeds],
        "hashes": None if hashes is None else sorted(name[:8] for name in hashes),
        "helps": dict(selection.helps),
        "excluded": [[*pair] for pair in selection.excluded],
        "metric": terms.metric.name,
        **{word: vars(terms)[word] for word in TERMS},
        "looks": None if terms.looks is None else {**vars(terms.looks)},
        "trial": [*selection.trial],
    }


def _hosts(runs: Sequence[Run]) -> dict[Any, str | None]:
    """Another name for every host, which tells them apart and names no machine."""
    found = units.distinct(each["host"] for run in runs for each in run.sessions)
    known = [host for host in found if host is not None]
    return {None: None} | {host: f"host {n}" for n, host in enumerate(known, start=1)}


def _run(
    run: Run, head: Mapping[str, Any], hosts: Mapping[Any, str | None]
) -> dict[str, Any]:
    line = {
        "step": run.step,
        "seed": run.seed,
        "hash": run.hash8,
        "run_dir": run.run_dir,
        "state": run.state,
        "error": run.why,
        **head,
        "began": run.began,
        "time": run.time,
    }
    if run.state == DAMAGED:
        return line
    config = {
        symbol: value
        for symbol, value in run.config.items()
        if symbol not in run.operational or not WITHHELD.fullmatch(symbol)
    }
    return {
        **line,
        "values": _values(run),
        "config": config,
        "operational": sorted(symbol for symbol in run.operational if symbol in config),
        "code_files": dict(run.value("code_files") or {}),
        "software": {word: [*each] for word, each in run.software.items()},
        "sessions": [
            {**each, "host": hosts[each["host"]], "devices": sorted(each["devices"])}
            for each in run.sessions
        ],
        "evals": _columns(run.evals),
        "evaluations": {
            name: {word: row[word] for word in EVALUATION if word in row}
            for name, row in run.evaluations.items()
        },
    }


def _values(run: Run) -> dict[str, Any]:
    """What the records hold by name; symbols and files of code have their own part."""
    found = {
        name: run.value(name)
        for name, path in PATHS.items()
        if name != "code_files" and not path.startswith("config.")
    }
    found = {name: value for name, value in found.items() if value is not None}
    if "git" in found:  # up to a MiB of what was not committed
        found["git"] = {k: v for k, v in found["git"].items() if k != "diff"}
    if "data_dir" in found:
        found["data_dir"] = PurePosixPath(found["data_dir"]).name or "unknown"
    return found


def _columns(evals: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The evaluations column by column, None where one does not record it."""
    found = {name: [row.get(name) for row in evals] for name in EVALS}
    return {
        name: column
        for name, column in found.items()
        if any(value is not None for value in column)
    }


def _alike(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields that are in all of them with one value of one type."""
    parts = list(parts)
    if not parts:
        return {}
    told = [{k: _json(v) for k, v in part.items()} for part in parts]
    return {
        name: value
        for name, value in parts[0].items()
        if name not in OWN
        and all(name in each and each[name] == told[0][name] for each in told[1:])
    }


def _without(runs: Sequence[Run]) -> list[str]:
    """What the run directories hold and the report draws, and this file does not."""
    held = (
        (ATTENTION, any(run.attention for run in runs)),
        (SPARSITY, any(run.sparsity for run in runs)),
        (TRAINING, any(run.training for run in runs)),
        (TEXT, any(isinstance(run.evaluated_text, EvaluatedText) for run in runs)),
    )
    return [name for name, there in held if there]


def _json(value: Any) -> str:
    """Strict JSON without blanks."""
    return json.dumps(
        _plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def number_of(value: Any) -> Any:
    """A value of the file with its numbers that are none as floats again."""
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {key: number_of(item) for key, item in value.items()}
    return [number_of(item) for item in value] if isinstance(value, list) else value
