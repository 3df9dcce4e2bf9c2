"""Why a cell is to be run: its state, or what changed since its last run.

A cell that was never started may have a sibling under the same step and seed
with another hash. The newest sibling says what changed: configuration, code,
dataset or thread count, the four parts of an identity. Configurations are compared by
what their values mean (records/history.py), not by their hashes: a run may be older
than a symbol.
"""

from dataclasses import dataclass
from typing import Any, Mapping

from kconf import config_py
from kconf.bind import format_value
from matrix.results import whole_run
from records import history, read
from records.layout import CellDir, RecordError


@dataclass(frozen=True)
class Subject:
    """The planned cell, as far as a reason needs it."""

    dir: CellDir
    values: Mapping[str, Any]
    operational: frozenset[str]
    identity: Mapping[str, Any]
    code_files: Mapping[str, str]


def explain_new(subject: Subject) -> str:
    """ "never ran", or what differs from the newest other run of step and seed."""
    siblings, damaged = _siblings(subject.dir)
    note = f" (not compared, {'; '.join(damaged)})" if damaged else ""
    if not siblings:
        return "never ran" + note
    run, before = max(siblings, key=lambda pair: pair[0]["provenance"]["time"])
    parts = changed_parts(run, before, subject) or ["recorded under another hash"]
    return "; ".join(parts) + note


def changed_parts(
    run: Mapping[str, Any], before: config_py.Config, subject: Subject
) -> list[str]:
    """What differs between a run and the planned cell, old → new: configuration,
    code, dataset, threads; empty for the same cell.
    """
    old = run["cell"]["identity"]
    parts = changed_symbols(before, subject)
    rules = old.get("code_rule", 1), subject.identity["code_rule"]
    if rules[0] != rules[1]:
        parts.append(f"code of another rule: {rules[0]} → {rules[1]}")
    elif old["code"] != subject.identity["code"]:
        files = changed_files(run.get("code_files", {}), subject.code_files)
        parts.append("code changed: " + _few(files))
    if old["dataset"] != subject.identity["dataset"]:
        parts.append(
            f"dataset changed: {old['dataset'][:8]} → {subject.identity['dataset'][:8]}"
        )
    if old.get("threads") != subject.identity["threads"]:
        parts.append(
            f"threads changed: {old.get('threads')} → {subject.identity['threads']}"
        )
    return parts


def changed_symbols(old: config_py.Config, subject: Subject) -> list[str]:
    """ "CONFIG_X old → new" for each identity symbol that differs."""
    skipped = subject.operational | set(old.operational)
    before, after = map(history.completed, (old.values, subject.values))
    return [
        f"CONFIG_{symbol} {_show(before, symbol)} → {_show(after, symbol)}"
        for symbol in history.differing(old.values, subject.values)
        if symbol not in skipped
    ]


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Paths that were edited, added (+) or removed (-) between two code hashes."""
    marks = []
    for path in sorted(set(old) | set(new)):
        if path not in old:
            marks.append(f"+{path}")
        elif path not in new:
            marks.append(f"-{path}")
        elif old[path] != new[path]:
            marks.append(path)
    return marks


def _siblings(
    cell: CellDir,
) -> tuple[list[tuple[dict[str, Any], config_py.Config]], list[str]]:
    """(run.json, config.py) of the other hashes; what is wrong with the damaged."""
    found, damaged = [], []
    for path in sorted(cell.path.parent.glob("*/run.json")):
        other = CellDir(path.parent)
        if other.path.name == cell.path.name:
            continue
        try:
            found.append((read.run(path), whole_run.config(other)))
        except RecordError as error:
            damaged.append(f"damaged: {error}")
    return found, damaged


def _few(items: list[str], most: int = 6) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _show(values: Mapping[str, Any], symbol: str) -> str:
    return format_value(values[symbol]) if symbol in values else "(absent)"
