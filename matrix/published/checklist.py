"""What must hold before numbers are published, checked on the runs themselves.

Works on runs from any source, so that what stands in W&B is held to the same list as
the run directories it came from.
"""

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Sequence

from matrix import units
from matrix.published.commit import not_public, unreachable
from matrix.published.facts import unrecorded, value_of, values_of
from matrix.published.run import PublishedError, PublishedRun
from matrix.results import publication
from matrix.results.copies import same_runs
from matrix.results.fairness import shown

SEED = "CONFIG_SEED"
BUDGET = (
    "budget",
    "final/stopped_by",
    "tokens_per_step",
    "max_iters",
    "max_time",
)
TOKENS = ("final/tokens", "final/steps")
BATCH = ("effective_batch",)
HARDWARE = ("device", "device_kind", "driver", "ranks", "threads")
PROCESSOR = ("processor",)
COMPILE = ("compile_model",)
DATASET = ("dataset_sha256",)
PROTOCOL = (
    "CONFIG_GPT2_EVAL_WINDOWS",
    "CONFIG_GPT2_EVAL_INTERVAL",
    "CONFIG_GPT2_BLOCK_SIZE",
    "eval_windows",
    "eval_sha256",
    "dtype",
    "torch",
    "python",
)


@dataclass(frozen=True)
class Item:
    """One line of the list: what was asked and what speaks against it."""

    name: str
    against: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Nothing speaks against it."""
        return not self.against


def checklist(
    runs: Sequence[PublishedRun],
    remote: str | None,
    reachable: Callable[[str, str | None], str | None] = unreachable,
) -> list[Item]:
    """The whole list over the runs; `remote` is where the commit must be public.

    Raises PublishedError for fewer than two runs.
    """
    if len(runs) < 2:
        raise PublishedError("a comparison takes two runs or more")
    budgets = {value_of(run, "budget") for run in runs}
    kinds = {value_of(run, "device_kind") for run in runs}
    budget = BUDGET if budgets == {"time"} else BUDGET + TOKENS
    hardware = HARDWARE + PROCESSOR if kinds == {"cpu"} else HARDWARE
    items = {
        "every run is finished, its validation loss finite": _finished(runs),
        "hyperparameters equal but for the declared difference": _undeclared(runs),
        "every step has the same seeds": _seeds(runs),
        "every seed is a run of its own": _copies(runs),
        "one commit, clean, in the public remote": _commit(runs, remote, reachable),
        "equal tokens or time": [*differing(runs, budget), *_ends(runs)],
        "equal effective batch": differing(runs, BATCH),
        "equal hardware": differing(runs, hardware),
        "equal compilation": differing(runs, COMPILE),
        "equal dataset": differing(runs, DATASET),
        "equal protocol and software": [*differing(runs, PROTOCOL), *_code(runs)],
        "every fact of the block on record": unrecorded(runs),
        "one W&B project that holds all runs, or none": _projects(runs),
    }
    return [Item(name, tuple(against)) for name, against in items.items()]


def differing(runs: Sequence[PublishedRun], keys: Iterable[str]) -> list[str]:
    """One line per name whose value is not the same in all runs."""
    lines = []
    for key in keys:
        values: dict[str, list[str]] = {}
        for run in runs:
            values.setdefault(shown(value_of(run, key)), []).append(run.name)
        if len(values) > 1:
            told = "; ".join(f"{v} in {_few(names)}" for v, names in values.items())
            lines.append(f"{key}: {told}")
    return lines


def _few(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _finished(runs: Sequence[PublishedRun]) -> list[str]:
    lines = []
    for run in runs:
        loss = run.final("final/loss")
        if loss is None:
            lines.append(f"{run.name} is not finished")
        elif not math.isfinite(loss):
            lines.append(f"{run.name} ended with the validation loss {loss}")
    return lines


def symbols(run: PublishedRun) -> dict[str, Any]:
    """The symbols that can change a result, without the seed."""
    idle = {f"CONFIG_{name}" for name in run.config.get("operational", ())} | {SEED}
    return {
        key: value
        for key, value in run.config.items()
        if key.startswith("CONFIG_") and key not in idle
    }


def control_of(runs: Sequence[PublishedRun]) -> str:
    """The step that the others are compared with: the declared one, else the first."""
    declared = [run.step for run in runs if run.config.get("control")]
    return (declared or [runs[0].step])[0]


def changed(one: PublishedRun, other: PublishedRun) -> list[str]:
    """The symbols in which two runs differ."""
    a, b = symbols(one), symbols(other)
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _undeclared(runs: Sequence[PublishedRun]) -> list[str]:
    """Differences that no step declares, within a step and against the control."""
    control = next(run for run in runs if run.step == control_of(runs))
    lines = []
    for run in runs:
        declared = set()
        if run.step != control.step:
            both = [*run.config.get("changes", ()), *control.config.get("changes", ())]
            declared = {f"CONFIG_{symbol}" for symbol in both}
        for key in changed(control, run):
            if key not in declared:
                values = (shown(r.config.get(key)) for r in (run, control))
                here, there = values
                lines.append(f"{key}: {here} in {run.name}, {there} in {control.name}")
    return lines


def _code(runs: Sequence[PublishedRun]) -> list[str]:
    """Runs that should have one code hash and have not: since a hash is of what a cell
    imports (`code_rule` 2), those of a step; before, all. One commit is asked for above.
    """
    ruled = [run for run in runs if run.config.get("code_rule")]
    steps = units.distinct(run.step for run in ruled)
    groups = [[run for run in ruled if run.step == step] for step in steps]
    groups.append([run for run in runs if run not in ruled])
    return [
        *differing(runs, ["code_rule"]),
        *(line for group in groups for line in differing(group, ["code_hash"])),
    ]


def _seeds(runs: Sequence[PublishedRun]) -> list[str]:
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.step, set()).add(run.config["seed"])
    every = set().union(*seeds.values())
    return [
        f"{step} lacks seed {units.numbers_in(every - found)}"
        for step, found in seeds.items()
        if found != every
    ]


def _copies(runs: Sequence[PublishedRun]) -> list[str]:
    """Runs of a step that are there twice, by their hash or their evaluations."""
    lines = []
    for step in units.distinct(run.step for run in runs):
        marks = [
            (run.name, run.config.get("cell_hash"), _curve(run))
            for run in runs
            if run.step == step
        ]
        lines += [
            f"{one} and {other} are one run: the same {what}"
            for one, other, what in same_runs(marks)
        ]
    return lines


def _curve(run: PublishedRun) -> list[float]:
    """The loss of every evaluation, by step."""
    key = "eval/loss"
    logged = any(key in row for row in run.history)
    return list(run.series(key).values()) if logged else []


def _commit(
    runs: Sequence[PublishedRun],
    remote: str | None,
    reachable: Callable[[str, str | None], str | None],
) -> list[str]:
    lines = differing(runs, ["git_commit"])
    for run in runs:
        if run.config.get("git_commit") is None:
            lines.append(f"{run.name} records no commit")
        elif run.config.get("git_dirty", True):
            lines.append(f"{run.name} ran from a checkout with uncommitted changes")
    for commit in units.distinct(run.config.get("git_commit") for run in runs):
        why = reachable(commit, remote) if commit else None
        lines += [why] if why else []
    return lines


def _projects(runs: Sequence[PublishedRun]) -> list[str]:
    """Runs that lie in another project than others, or not whole where they lie."""
    lines, places = [], {run.project for run in runs}
    if len(places) > 1:
        by_place = {
            place or "none": [run.name for run in runs if run.project == place]
            for place in sorted(places, key=str)
        }
        told = "; ".join(f"{place}: {_few(names)}" for place, names in by_place.items())
        lines.append(told)
    open_runs = [run.name for run in runs if run.project and not run.uploaded]
    if open_runs:
        lines.append(f"not all uploaded: {_few(open_runs)} (make sync)")
    return lines


def _ends(runs: Sequence[PublishedRun]) -> list[str]:
    """Runs that something else than their budget ended."""
    return [
        f"{run.name} has the budget {run.config.get('budget')}, ended by {end}"
        for run in runs
        if (end := run.final("final/stopped_by"))
        not in (None, run.config.get("budget"))
    ]


def block(
    runs: Sequence[PublishedRun], items: Sequence[Item], remote: str | None
) -> str:
    """What a paper or README must carry, as Markdown."""

    def all_of(*keys: str) -> str:
        found = [
            " / ".join(units.distinct(shown(value_of(run, key)) for run in runs))
            for key in keys
        ]
        return ", ".join(found)

    steps = units.distinct(run.step for run in runs)
    seeds = units.numbers_in(run.config["seed"] for run in runs)
    failed = [item.name for item in items if not item.passed]
    commits = units.distinct(run.config.get("git_commit") or "none" for run in runs)
    public = remote if not_public(remote) is None else "no public remote"
    places = units.distinct(run.project for run in runs)
    lines = [
        "### How these numbers were made",
        "",
        f"- Study: {' / '.join(units.distinct(run.group for run in runs))}; control "
        f"`{control_of(runs)}`; {units.plural(len(steps), 'step')}, seeds {seeds}, "
        f"{units.plural(len(runs), 'run')}",
        f"- Commit: {', '.join(commits)} of {public}",
        f"- Data: {all_of('dataset_sha256')}",
        *(f"- {label}: {text}" for label, text in publication.facts(values_of(runs))),
        f"- W&B: {', '.join(place or 'none, these runs are not there' for place in places)}",
        f"- Checks: {len(items) - len(failed)} of {len(items)} passed"
        + "".join(f"; **not: {name}**" for name in failed),
    ]
    return "\n".join(lines)
