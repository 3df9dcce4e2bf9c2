"""The record of `make bench`: one file per GPU and day, filled row by row.

A row is one contender beside the anchor of its group, with the milliseconds of
both in every round. Rounds of one call are compared with each other only, so a
row stands for itself: its ratio to the anchor, and that ratio's standard error.
A bench that is killed leaves a record that is not complete and says so.
"""

import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2.measure.table import markdown
from records import atomic
from records.fields import COUNT, MOMENT, RATE
from records.kinds import Unfit, fields, flag, listed, name, nullable, number, text
from records.layout import RecordError, read_json

SCHEMA = 2
TIME = number(1e-9, 1e12)
"""Milliseconds, and ratios of them."""
NAMES = {"part": name, "group": name, "name": name, "anchor": name}
MEASURED = {"ms": TIME, "ratio": TIME, "error": number(0, 1e12)}
ROUNDS = {"ms_rounds": listed(TIME), "anchor_rounds": listed(TIME)}
ROW = fields(
    {**NAMES, **MEASURED, **ROUNDS},
    {
        "call": COUNT,
        "context": COUNT,
        "tokens": COUNT,
        "peak_bytes": nullable(COUNT),
        "of_flops": nullable(RATE),
        "mfu": nullable(RATE),
        "first_loss": number(),
        "last_loss": number(),
        "shape": fields(dict.fromkeys("BTHD", COUNT)),
        "beside": nullable(name),
    },
)
CALL = fields(
    {"command": text, "part": name, "began": MOMENT, "complete": flag}, {"about": text}
)
BENCH = fields(
    {
        "date": name,
        "device": fields({"kind": name, "name": name}),
        "torch": name,
        "triton": nullable(name),
        "commit": nullable(name),
        "calls": listed(CALL),
        "rows": listed(ROW),
    }
)
# Of a GPU's name: vendors, families, and what the memory is.
DROPPED = r"nvidia|amd|radeon|geforce|instinct|tesla|pro|generation|graphics"
MEMORY = r"\d+gb|hbm\w*|sxm\d*"


def slug(name: str) -> str:
    """A GPU's name for a file: h200, h100, h100-nvl, w7900, rtx-4090; any CPU: cpu."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    kept = [w for w in words if w and not re.fullmatch(f"{DROPPED}|{MEMORY}", w)]
    return "-".join(kept) or "unnamed"


def fresh(folder: Path, device: dict[str, Any], date: str) -> Path:
    """SLUG-DATE.json, or with -2, -3 … the first that does not exist."""
    stem = "cpu" if device["kind"] == "cpu" else slug(device["name"])
    names = (f"{stem}-{date}{'' if n == 1 else f'-{n}'}" for n in range(1, 1000))
    for name in names:
        taken = (folder / f"{name}{suffix}" for suffix in (".json", ".md"))
        if not any(path.exists() for path in taken):
            return folder / f"{name}.json"
    raise RecordError(folder / f"{stem}-{date}.json", "no free name is left")


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    """What a row measures; the same in two records."""
    return row["part"], row["group"], row["name"]


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with ms (median), ratio of the medians, and the ratio's standard
    error: 1.2533 sigma / sqrt(n) of a median, sigma by the rounds' absolute deviations.
    """
    ours, anchor = row["ms_rounds"], row["anchor_rounds"]
    ratios = [a / b for a, b in zip(ours, anchor, strict=True)]
    middle = statistics.median(ratios)
    sigma = 1.4826 * statistics.median(abs(r - middle) for r in ratios)
    ms, anchor_ms = statistics.median(ours), statistics.median(anchor)
    error = 1.2533 * sigma / math.sqrt(len(ratios))
    return row | {"ms": ms, "ratio": ms / anchor_ms, "error": error}


@dataclass
class Record:
    """A record and where it lies; every change is on the disk when made."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, facts: dict[str, Any], date: str) -> "Record":
        """A new one in folder; facts: device, torch, triton, commit."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"schema": SCHEMA, "date": date, **facts, "calls": [], "rows": []}
        return cls(fresh(folder, facts["device"], date), content)

    @classmethod
    def resume(cls, path: Path, facts: dict[str, Any]) -> "Record":
        """One that exists, of the same device and software.

        Raises RecordError where they differ: its rows would not be comparable.
        """
        content = load(path)
        for name in ("device", "torch", "triton"):
            if content[name] != facts[name]:
                why = f"was measured with {name} {content[name]}, this is {facts[name]}"
                raise RecordError(path, f"{why}: begin a new record")
        return cls(path, content)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """As they were measured."""
        return self.content["rows"]

    def done(self, part: str) -> set[tuple[str, str]]:
        """(group, name) of a part's rows."""
        return {key(row)[1:] for row in self.rows if row["part"] == part}

    def call(self, command: str, part: str, about: dict[str, Any]) -> None:
        """A part begins; about: what its table says of it."""
        began = {"command": command, "part": part, "began": time.time(), **about}
        commit = self.content["commit"]
        self.content["calls"].append({**began, "commit": commit, "complete": False})
        self.save()

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row of the part that began last; returned with its ratio."""
        row = judged({"part": self.content["calls"][-1]["part"], **row})
        row["call"] = len(self.content["calls"]) - 1
        self.rows.append(row)
        self.save()
        return row

    def complete(self) -> None:
        """The part that began last has all its rows."""
        self.content["calls"][-1]["complete"] = True
        self.save()

    def save(self) -> None:
        """The JSON, a line per row, and its Markdown."""
        head = {k: v for k, v in self.content.items() if k != "rows"}
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in self.rows)
        atomic.write_text(self.path, f'{text},\n "rows": [\n{rows}\n]}}\n')
        atomic.write_text(self.path.with_suffix(".md"), markdown(self.content))


def load(path: Path) -> dict[str, Any]:
    """A record's content. Raises RecordError for another schema, for a field that is
    not what its kind says and for a file that is not there.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise RecordError(path, "is not there") from None
    if content.get("schema") != SCHEMA or "calls" not in content:
        why = f"schema {content.get('schema')}, not {SCHEMA}: no record of make bench"
        raise RecordError(path, why)
    try:
        BENCH(content)
    except Unfit as unfit:
        raise RecordError(path, str(unfit)) from None
    return content


def records(
    folder: Path, say: Callable[[str], object]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Those of make bench in a folder, oldest first; `say` names the damaged ones."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_json(path)
            if content.get("schema") != SCHEMA or not content.get("calls"):
                continue  # of another command
            content = load(path)
        except (FileNotFoundError, RecordError) as error:
            say(f"left out, {error}")
            continue
        found.append((content["calls"][0]["began"], path.name, path, content))
    for *_, path, content in sorted(found, key=lambda entry: entry[:2]):
        yield path, content
