"""Reads runs.jsonl: the runs as their directories gave them, or one line why not."""

from pathlib import Path
from typing import Any, Mapping

from matrix.results.metrics import named
from matrix.results.recorded import PATHS
from matrix.results.received import CONFIG, MOST_RUNS, MOST_VALUES, TITLE, HandedOn
from matrix.results.received import Refused, documents_of, numbered, object_in, refuse
from matrix.results.received import require_apart, require_finished, require_kinds
from matrix.results.received import require_place
from matrix.results.run import DAMAGED, ReportError, Run, natural
from matrix.results.runs_jsonl import EVALS, PARTS, SCHEMA, TEXT, number_of
from matrix.results.selection import EQUALITY, GAIN, WORSE, Looks, Selection, Terms
from matrix.results.study import Received, of_runs
from records import fields, sealed_record
from records.kinds import (
    Unfit,
    abbreviated,
    choice,
    digest,
    flag,
    integer,
    listed,
    mapped,
)
from records.kinds import matching, name, nullable, number, sound, text
from records.kinds import fields as object_of

SEED = integer(0)
NEEDED = ("cell_hash", "config_hash", "code_hash", "dataset_sha256", "data_dir")
NEEDED += ("steps", "final_step", "final_loss")
FORMER = matching(
    r"(?!\.)[^/\x00-\x1f]{1,200}/seed-[0-9]+/[0-9a-f]{8}-[0-9]+",
    "STEP/seed-K/HASH8-N",
)
FILE = matching(r"[a-z0-9][a-z0-9-]{0,80}\.json", "the name of a sealed record")


def _none(value: Any) -> None:
    raise Unfit("is no column of evaluations")


def _recorded(word: Any) -> None:
    known = type(word) is str and word in PATHS and word != "code_files"
    if not known or PATHS[word].startswith("config."):
        raise Unfit(
            "is no value that this version knows: update this checkout", str(word)[:80]
        )


COLUMNS = {
    "step": fields.COUNT,
    "tokens": nullable(fields.COUNT),
    "time": nullable(fields.SECONDS),
    "loss": fields.LOSS,
    "curve_loss": nullable(fields.LOSS),
    "perplexity": nullable(fields.PERPLEXITY),
    "bits_per_byte": nullable(fields.LOSS),
}
PART_KINDS = {
    "values": mapped(sound, _recorded),
    "config": CONFIG,
    "code_files": mapped(digest),
    "software": mapped(
        listed(name), matching("torch|python|device|driver|environment", "what ran")
    ),
    "evals": object_of({}, {word: listed(COLUMNS[word]) for word in EVALS}, _none),
}
OPERATIONAL = listed(name)
LOOKS = object_of(
    {
        "at": listed(integer(1)),
        "seeds": listed(SEED),
        "pursue": choice(GAIN, EQUALITY, WORSE),
    }
)
SELECTION = object_of(
    {
        "steps": listed(name),
        "seeds": listed(SEED),
        "hashes": nullable(listed(matching("[0-9a-f]{8}", "8 hexadecimal digits"))),
        "helps": mapped(text),
        "excluded": listed(listed(text)),
        "metric": name,
        "last_evals": integer(1, 10**6),
        "smallest": nullable(number(1e-300)),
        "alpha": number(1e-9, 0.5),
        "stage": matching("|".join(fields.STAGES), "a stage"),
        "looks": nullable(LOOKS),
    },
    {"trial": listed(text)},
)
HEAD = object_of(
    {
        "schema": integer(1),
        "study": TITLE,
        "selection": SELECTION,
        "records": mapped(object_of({}), FILE),
        "replaced": listed(FORMER),
        "without": listed(name),
        "same": object_of({**PART_KINDS, "operational": OPERATIONAL}),
    }
)
SESSION = object_of(
    {
        "host": nullable(name),
        "devices": listed(name),
        "start": fields.MOMENT,
        "end": fields.MOMENT,
    }
)
FOLLOWS = {TEXT: "no error of the text, and claims are about this text"}
"""What follows from what the file is without; of the others there are no plots."""
LINE = object_of(
    {
        "step": name,
        "seed": SEED,
        "hash": name,
        "run_dir": name,
        "state": name,
        "error": text,
        "reused": flag,
        "began": fields.MOMENT,
        "time": fields.MOMENT,
    },
    {
        **PART_KINDS,
        "operational": OPERATIONAL,
        "sessions": listed(SESSION),
        "evaluations": mapped(sound),
    },
)


def read(path: Path) -> HandedOn:
    """The study of the file. Raises ReportError."""
    about: dict[str, Any] | None = None
    runs: list[Run] = []
    places: list[int] = []
    size = 0
    for line, data in numbered(path):
        try:
            found = object_in(data)
            sound(found)
            found = number_of(found)
            if about is None:
                about = _about(found)
                continue
            if len(runs) == MOST_RUNS:
                raise Refused(f"holds more than {MOST_RUNS:,} runs")
            run = _run(found, about["same"])
            size += len(run.documents.get("config", ())) + len(run.evals)
            size += len(found.get("code_files", ())) + len(found.get("sessions", ()))
            if size > MOST_VALUES:
                raise Refused(f"holds more than {MOST_VALUES:,} values")
        except Refused as error:
            raise error.at(path, line) from None
        except Unfit as error:
            raise Refused(str(error)).at(path, line) from None
        runs.append(run)
        places.append(line)
    if about is None:
        refuse(path, "is empty")
    require_apart(path, places, runs)
    runs.sort(key=lambda run: (natural(run.step), run.seed, run.hash8))
    try:
        selection = _selection(about["selection"])
    except ValueError as error:
        raise ReportError(f"{path}: line 1: metric {error}") from None
    study = of_runs(about["study"], runs, selection, _received(path, about))
    return HandedOn(study, selection, about["records"], tuple(about["replaced"]))


def _about(found: Mapping[str, Any]) -> dict[str, Any]:
    """The first line. Raises Refused and Unfit."""
    schema = found.get("schema")
    if type(schema) is not int or schema < 1:
        raise Refused(f"has no schema version (schema={abbreviated(schema)})")
    if schema > SCHEMA:
        why = "update this checkout"
        raise Refused(f"has schema {schema}, this code reads up to {SCHEMA}: {why}")
    HEAD(found)
    if any(len(pair) != 2 for pair in found["selection"]["excluded"]):
        raise Refused("selection.excluded holds what is no pair")
    for file, record in found["records"].items():
        if record.get(sealed_record.SEAL) != sealed_record.digest(record):
            raise Refused(f"{file} was edited since it was written: its seal is broken")
    return dict(found)


def _received(path: Path, about: Mapping[str, Any]) -> Received:
    lacking = [
        f"It holds no {each}: {FOLLOWS.get(each, 'no plots of those')}."
        for each in about["without"]
    ]
    lacking.append("It holds no entropies of the dataset.")
    return Received(path.name, tuple(lacking), True)


def _selection(found: Mapping[str, Any]) -> Selection:
    """Raises ValueError for a metric that is none."""
    hashes = found["hashes"]
    return Selection(
        steps=tuple(found["steps"]),
        seeds=tuple(found["seeds"]),
        hashes=None if hashes is None else frozenset(hashes),
        helps=found["helps"],
        excluded=tuple((each, why) for each, why in found["excluded"]),
        terms=Terms(
            metric=named(found["metric"]),
            last_evals=found["last_evals"],
            smallest=found["smallest"],
            alpha=found["alpha"],
            stage=found["stage"],
            looks=None if found["looks"] is None else _looks(found["looks"]),
        ),
        trial=tuple(found.get("trial", ())),
    )


def _looks(found: Mapping[str, Any]) -> Looks:
    return Looks(tuple(found["at"]), tuple(found["seeds"]), found["pursue"])


def _run(found: Mapping[str, Any], same: Mapping[str, Any]) -> Run:
    """The run of a line. Raises Refused and Unfit."""
    LINE(found)
    damaged = found["state"] == DAMAGED
    documents, evals = ({}, ()) if damaged else _documents(found, same)
    run = Run(
        step=found["step"],
        seed=found["seed"],
        hash8=found["hash"],
        run_dir=found["run_dir"],
        state=found["state"],
        why=found["error"],
        began=found["began"],
        time=found["time"],
        documents=documents,
        evals=evals,
        reused=found["reused"],
    )
    require_place(run)
    require_finished(run, NEEDED)
    return run


def _documents(
    found: Mapping[str, Any], same: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """A run's documents and its evaluations."""
    own = {part: found.get(part, {}) for part in PARTS}
    whole = {part: {**same[part], **own[part]} for part in PARTS}
    made = documents_of(whole["values"])
    require_kinds(made)
    if whole["code_files"]:
        made.setdefault("run", {})["code_files"] = whole["code_files"]
    evaluations = found.get("evaluations", {})
    for word, row in evaluations.items():
        try:
            fields.EVALUATION(row)
        except Unfit as unfit:
            raise unfit.within(word) from None
    config = whole["config"]
    if config.get("SEED", found["seed"]) != found["seed"]:
        raise Refused(f"seed is {found['seed']}, and CONFIG_SEED {config['SEED']}")
    made |= {
        "config": config,
        "operational": frozenset(found.get("operational", same["operational"])),
        "attempts": {word: tuple(each) for word, each in whole["software"].items()},
        "sessions": tuple(
            {**each, "devices": frozenset(each["devices"])}
            for each in found.get("sessions", ())
        ),
        "evaluations": evaluations,
    }
    return made, _evals(whole["evals"], own["evals"])


def _evals(
    columns: Mapping[str, list[Any]], own: Mapping[str, Any]
) -> tuple[dict[str, Any], ...]:
    """The columns as rows, without what a row does not record."""
    count = len(own.get("loss", ()))
    if any(len(column) != count for column in columns.values()) and count:
        raise Refused("evals holds columns of different lengths")
    if not count:
        return ()
    if "step" not in columns:
        raise Refused("evals.step is absent")
    rows = zip(*columns.values())
    made = [
        dict(pair for pair in zip(columns, row) if pair[1] is not None) for row in rows
    ]
    steps = columns["step"]
    if any(later <= step for step, later in zip(steps, steps[1:])):
        raise Refused("evals.step does not rise")
    return tuple(made)
