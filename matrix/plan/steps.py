"""Which steps a plan has, and how each becomes a configuration.

A step is a way to resolve a configuration: the base as it stands (single), the
base and one fragment of the study (ablation), or the base and one arm of the
axes (matrix, kconf/arms.py). One-shot overrides come last and win.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from kconf.arms import Arm, Excluded, choose, generate
from kconf.axes import read_axes
from kconf.bind import SettingsError, plainly
from kconf.overrides import Overrides
from kconf.strict import Resolved, Stage, Tree
from kconf.study import StepFile, list_steps, prove, study_dir
from matrix.settings import StudySettings, ranges


@dataclass(frozen=True)
class Step:
    """One arm of a plan; `resolve(overrides)` gives its configuration.

    `symbols` are those the step itself sets, `fragment` is their text, and
    `control` marks the arm that the others are compared with. `arm` says where
    an arm of a test matrix stands (`point`) and which arm without pruning it is
    compared with as well (`dense`). A step that was not selected is there for the
    comparison and is not run.
    """

    id: str
    help: str
    control: bool
    symbols: frozenset[str]
    resolve: Callable[[Overrides], Resolved]
    selected: bool = True
    fragment: str = ""
    arm: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Steps:
    """The steps of a plan, the combinations that are none, and what to tell."""

    steps: Sequence[Step]
    excluded: Sequence[Excluded] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def plan_steps(
    tree: Tree,
    root: Path,
    base: Sequence[Stage],
    overrides: Overrides,
    settings: StudySettings,
) -> Steps:
    """The steps of a plan, in order; the first one of the study is the control.

    Raises SettingsError for a selection that names no step or for axes that
    cannot be read, kconf's ConfigError for files that do not resolve and for
    steps of a study that are not the difference they claim to be.
    """
    if settings.mode == "ablation":
        return _study(tree, root, base, overrides, settings)
    if settings.mode == "matrix":
        return _matrix(tree, base, overrides, settings)
    help_ = "this configuration as it stands"
    return Steps([Step("single", help_, True, frozenset(), _resolver(tree, base))])


def _resolver(tree: Tree, stages: Sequence[Stage]) -> Callable[[Overrides], Resolved]:
    return lambda overrides: tree.resolve([*stages, overrides])


def _study(
    tree: Tree,
    root: Path,
    base: Sequence[Stage],
    overrides: Overrides,
    settings: StudySettings,
) -> Steps:
    files = list_steps(root, settings.study)
    chosen = _selected(files, settings.steps or "all", study_dir(root, settings.study))
    control = files[step_at([file.id for file in files], settings.control)]
    wanted = chosen if control in chosen else [control, *chosen]
    prove(tree, base, wanted, overrides)
    steps = [
        Step(
            file.id,
            file.help,
            file is control,
            frozenset(line.symbol for line in file.lines),
            _resolver(tree, [*base, file.stage]),
            file in chosen,
            file.text,
        )
        for file in wanted
    ]
    return Steps(steps)


def step_at(ids: Sequence[str], name: str, symbol: str | None = "CONTROL_STEP") -> int:
    """Which of the steps a symbol names: by number, by name, or the first.

    Raises SettingsError for one that is not among them.
    """
    if not name:
        return 0
    for position, id_ in enumerate(ids):
        number = id_.partition("-")[0]
        digits = plainly(name) and name.isdecimal() and number.isdecimal()
        same = digits and int(name) == int(number)
        if same or name == id_:
            return position
    raise SettingsError(symbol, name, f"{name} is none of {', '.join(ids)}")


def _selected(
    files: Sequence[StepFile], selection: str, directory: Path
) -> list[StepFile]:
    """The files named by "all" or "0,2,8-9", in the study's order."""
    if selection == "all":
        return list(files)
    symbol = "RA_MLA_ABLATION_STEPS"
    numbers = set(ranges(symbol, selection))
    unknown = sorted(numbers - {file.number for file in files})
    if unknown:
        known = ", ".join(str(file.number) for file in files)
        raise SettingsError(
            symbol, selection, f"{directory} has no step {unknown[0]}; it has {known}"
        )
    return [file for file in files if file.number in numbers]


def _matrix(
    tree: Tree, base: Sequence[Stage], overrides: Overrides, settings: StudySettings
) -> Steps:
    axes = read_axes(settings.lists, overrides)
    matrix = generate(tree, base, overrides, axes)
    selected = choose(matrix.arms, settings.arms or "all")
    chosen = {arm.id for arm in selected}
    control = matrix.arms[step_at([arm.id for arm in matrix.arms], settings.control)]
    wanted = chosen | {control.id, *(arm.dense for arm in selected)}
    steps = [
        _arm(tree, base, arm, matrix.symbols, arm is control, arm.id in chosen)
        for arm in matrix.arms
        if arm.id in wanted
    ]
    return Steps(steps, matrix.excluded, matrix.notes)


def _arm(
    tree: Tree,
    base: Sequence[Stage],
    arm: Arm,
    symbols: frozenset[str],
    control: bool,
    selected: bool,
) -> Step:
    return Step(
        arm.id,
        arm.help,
        control,
        symbols,
        _resolver(tree, [*base, arm.stage]),
        selected,
        arm.text,
        {"point": dict(arm.point), "dense": arm.dense},
    )
