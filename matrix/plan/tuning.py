"""Tuning: the same budget of trials for every arm, and the steps that it gives.

`make tune` plans every arm (the control too) at every point of CONFIG_TUNE, on
CONFIG_TUNE_SEEDS, in a study of its own: OUTPUT_DIR/STUDY.tuning. What it chooses is
sealed in tuning.json of the study (matrix/evidence/tuning.py); from then on a step is
resolved with its chosen values as the last stage of the merge. An A/A arm is not tuned:
it is the control again, with the control's values.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from kconf.bind import format_value
from kconf.config_py import Value
from kconf.overrides import Overrides
from kconf.strict import Resolved, Tree
from kconf.syntax import render_line
from matrix import units
from matrix.plan.checks import PlanError, changed
from matrix.plan.steps import Step
from matrix.plan.tuning_points import at_edge, points_of, trial_id
from matrix.results.config_differences import SALT, SEED
from matrix.settings import TUNING, StudySettings
from records import history, sealed_record
from records.fields import MOMENT
from records.kinds import fields, integer, listed, mapped, name, nullable, number, sound

TUNING_JSON = "tuning.json"
NOT_ITS = {
    "SEEDS": "its seeds are CONFIG_TUNE_SEEDS",
    "BASELINE": "a tuning trains its own control",
}
"""Variables of a study that a tuning does not take, and why."""
TRIAL = fields(
    {
        "values": mapped(name),
        "metric": nullable(number()),
        "by_seed": mapped(nullable(number())),
        "runs": listed(name),
    }
)
TUNED = fields(
    {
        "tune": name,
        "points": integer(0),
        "sobol_seed": integer(0),
        "seeds": listed(integer(0)),
        "study": name,
        "metric": name,
        "last_evals": integer(1),
        "control": name,
        "arms": mapped(
            fields(
                {
                    "changes": mapped(sound),
                    "trials": listed(TRIAL),
                    "chosen": mapped(name),
                }
            )
        ),
        "config": mapped(sound),
        "time": MOMENT,
    }
)
"""tuning.json. tune, points: CONFIG_TUNE and CONFIG_TUNE_POINTS; study: the directory
whose runs chose; changes: what the arm changed beside the tuned symbols; config: the
control's other identity symbols; metric: a trial's mean over the seeds, null where a
run diverged."""


@dataclass(frozen=True)
class Arms:
    """The steps of a plan with their tuned values, or its trials; what to tell."""

    steps: Sequence[Step]
    notes: Sequence[str] = ()


def read(study_dir: Path) -> dict[str, Any] | None:
    """The study's tuning.json, None without one. Raises RecordError for an edited one."""
    return sealed_record.read(study_dir / TUNING_JSON, TUNED)


def environment(given: Mapping[str, str], part: str = "") -> dict[str, str]:
    """The environment under which a plan is that of the tuning, of a part of a study
    where one is named.

    STEPS= chooses the arms; the control is always one. Raises PlanError for what moves
    the seeds or takes another study's runs.
    """
    for word, why in NOT_ITS.items():
        if given.get(word):
            raise PlanError(f"{word}={given[word]} make tune: {why}")
    return {**given, "CONFIG_STUDY_PART": f"{part}.{TUNING}" if part else TUNING}


def arms(
    tree: Tree,
    unchanged: Resolved,
    steps: Sequence[Step],
    settings: StudySettings,
    output: Path,
    overrides: Overrides,
) -> Arms:
    """The steps as this plan trains them: trials in a tuning, tuned where CONFIG_TUNE
    is set, as they are where it is not.

    unchanged: the configuration without a step. Raises PlanError where the study was
    not tuned, or otherwise than now; SettingsError for a CONFIG_TUNE without a meaning.
    """
    if settings.tunes:
        known = read(output / settings.tuned_label)
        if known is not None:
            _require_same_tuning(known, settings)
        return Arms(_trials(tree, steps, settings, overrides))
    study_dir = output / settings.label
    if not settings.tuning.symbols:
        left = study_dir / TUNING_JSON
        note = f"{left} is not used: CONFIG_TUNE is empty, no step is tuned"
        return Arms(steps, [note] * left.exists())
    record = read(study_dir)
    if record is None:
        raise PlanError(
            f"CONFIG_TUNE={settings.tuning.symbols} and no {study_dir / TUNING_JSON}: "
            "make tune first"
        )
    _require_same_tuning(record, settings)
    tuned = [_tuned(tree, unchanged, step, record, overrides) for step in steps]
    control = next(step for step in tuned if step.control).resolve(overrides)
    return Arms(tuned, [*_chosen(record), *_moved(record, control, tree.operational)])


def _trials(
    tree: Tree, steps: Sequence[Step], settings: StudySettings, overrides: Overrides
) -> list[Step]:
    """Every step at every point, but for A/A arms."""
    if not settings.tuning.symbols:
        raise PlanError("CONFIG_TUNE is empty: it says what make tune tries")
    points = points_of(tree, settings.tuning)
    return [
        replace(
            _at(tree, step, point, overrides, "CONFIG_TUNE"),
            id=trial_id(step.id, point),
            help=f"{step.help}, at {_words(point)}",
            selected=True,
            arm={"of": step.id, "point": point, "dense": None},
        )
        for step in steps
        if not _salted(step)
        for point in points
    ]


def _at(
    tree: Tree, step: Step, point: Mapping[str, str], overrides: Overrides, source: str
) -> Step:
    """The step with these values as the last word, whatever its fragment sets.

    Raises PlanError where a one-shot override sets one of them.
    """
    for symbol in point.keys() & overrides.keys():
        written = overrides.spelled.get(symbol, f"CONFIG_{symbol}")
        raise PlanError(f"{written}: CONFIG_{symbol} is tuned for every arm")
    words = {s: f"CONFIG_{s}={value} from {source}" for s, value in point.items()}
    lines = [render_line(s, _typed(tree, s, value)) for s, value in point.items()]

    def resolve(given: Overrides) -> Resolved:
        spelled = {**given.spelled, **words}
        return step.resolve(Overrides({**given, **point}, given.label, spelled))

    text = "".join(f"{line}\n" for line in (f"# From {source}:", *lines))
    return replace(step, resolve=resolve, fragment=step.fragment + text)


def _typed(tree: Tree, symbol: str, value: str) -> Value:
    return int(value) if tree.kind(symbol) == "int" else value


def _tuned(
    tree: Tree,
    unchanged: Resolved,
    step: Step,
    record: Mapping[str, Any],
    overrides: Overrides,
) -> Step:
    """The step with the values that were chosen for it.

    Raises PlanError for one that was not tuned, or is another one by now.
    """
    arm = record["arms"].get(record["control"] if _salted(step) else step.id)
    if arm is None:
        known = ", ".join(record["arms"])
        raise PlanError(
            f"{step.id} was not tuned ({known} were): an arm without the others' "
            "budget cannot be compared with them; give the study another name "
            "(CONFIG_STUDY) and make tune"
        )
    if not _salted(step):
        found = changes(unchanged, step.resolve(overrides), tree, arm["chosen"])
        other = history.differing(arm["changes"], found)
        if other:
            raise PlanError(
                f"{step.id} is not the step that was tuned: it differs in "
                + ", ".join(f"CONFIG_{symbol}" for symbol in other)
            )
    return _at(tree, step, arm["chosen"], overrides, TUNING_JSON)


def changes(
    unchanged: Resolved, resolved: Resolved, tree: Tree, tuned: Mapping[str, str]
) -> dict[str, Value]:
    """What a step changes beside the tuned symbols: symbol to value."""
    names = changed(unchanged, resolved, tree.operational)
    return {name: resolved.values[name] for name in names if name not in tuned}


def _require_same_tuning(record: Mapping[str, Any], settings: StudySettings) -> None:
    """Raise PlanError where CONFIG_TUNE is no longer what was tried, and for the record
    of another study.
    """
    now, label = settings.tuning, settings.tuned_label
    if record["study"] != f"{label}.{TUNING}":
        raise PlanError(
            f"{TUNING_JSON} is of {record['study']}, not of {label}.{TUNING}: make tune"
        )
    for symbol, then, value in (
        ("TUNE", record["tune"], now.symbols),
        ("TUNE_POINTS", record["points"], now.points),
        ("TUNE_SEEDS", tuple(record["seeds"]), now.seed_list),
    ):
        if then != value:
            raise PlanError(
                f"CONFIG_{symbol} was {then} when the study was tuned, now {value}: put "
                "it back, or give the study another name (CONFIG_STUDY) and make tune"
            )


def _chosen(record: Mapping[str, Any]) -> list[str]:
    """A line of what was chosen, and one per choice at an edge."""
    arms = record["arms"]
    each = "; ".join(f"{step} {_words(arm['chosen'])}" for step, arm in arms.items())
    seeds = units.numbers_in(record["seeds"])
    lines = [f"tuned on seeds {seeds} ({TUNING_JSON}): {each}"]
    for step, arm in arms.items():
        lines += [f"{step}: {line}: an edge" for line in edges(arm)]
    return lines


def edges(arm: Mapping[str, Any]) -> list[str]:
    """A line per chosen value that is the lowest or highest tried."""
    return at_edge([trial["values"] for trial in arm["trials"]], arm["chosen"])


def _moved(
    record: Mapping[str, Any], control: Resolved, operational: frozenset[str]
) -> list[str]:
    """A line where the study is not configured as its tuning was."""
    moved = moved_since(record, control.values, operational)
    return [f"tuned under other settings: {', '.join(moved)}"] if moved else []


def moved_since(
    record: Mapping[str, Any],
    values: Mapping[str, Value],
    operational: frozenset[str],
) -> list[str]:
    """ "CONFIG_X old → new" of the control's identity symbols that are not as they
    were in the tuning, the tuned ones and those of a cell left out.
    """
    then, now = record["config"], control_config(values, operational, record)
    completed = [history.completed(each) for each in (then, now)]
    return [
        f"CONFIG_{symbol} "
        + " → ".join(format_value(each.get(symbol)) for each in completed)
        for symbol in history.differing(then, now)
    ]


def control_config(
    values: Mapping[str, Value],
    operational: frozenset[str],
    record: Mapping[str, Any],
) -> dict[str, Value]:
    """The identity symbols of a control but for the tuned ones, seed and device."""
    tuned = record["arms"][record["control"]]["chosen"]
    return {
        symbol: value
        for symbol, value in values.items()
        if symbol not in {SEED, *tuned, *operational}
        and not symbol.startswith("DEVICE_")
    }


def _salted(step: Step) -> bool:
    """Whether a step is an A/A arm: the control with other initial values."""
    return step.symbols == {SALT}


def _words(point: Mapping[str, str]) -> str:
    return ", ".join(f"{symbol}={value}" for symbol, value in point.items())
