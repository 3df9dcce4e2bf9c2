"""Which steps a plan has, and how each becomes a configuration.

A step is a way to resolve a configuration: the base as it stands (single),
the base and one fragment of the study (ablation), or the base and one
combination of the axes (matrix). One-shot overrides come last and win.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from kconf.bind import SettingsError
from kconf.overrides import Overrides
from kconf.strict import Resolved, Stage, Tree
from kconf.study import StepFile, list_steps, prove, study_dir
from kconf.syntax import parse_file
from matrix.settings import StudySettings, ranges


@dataclass(frozen=True)
class Step:
    """One arm of a plan; `resolve(overrides)` gives its configuration.

    `symbols` are those the step itself sets and `control` marks the arm that
    the others are compared with. A control that was not selected is there for
    the comparison and is not run.
    """

    id: str
    help: str
    control: bool
    symbols: frozenset[str]
    resolve: Callable[[Overrides], Resolved]
    selected: bool = True


def plan_steps(
    tree: Tree,
    root: Path,
    base: Sequence[Stage],
    overrides: Overrides,
    settings: StudySettings,
) -> list[Step]:
    """The steps of a plan, in order; the first one of the study is the control.

    Raises SettingsError for a selection that names no step or for axes that
    cannot be read, kconf's ConfigError for files that do not resolve and for
    steps of a study that are not the difference they claim to be.
    """
    if settings.mode == "ablation":
        return _study(tree, root, base, overrides, settings)
    if settings.mode == "matrix":
        return _matrix(tree, base, settings)
    help_ = "this configuration as it stands"
    return [Step("single", help_, True, frozenset(), _resolver(tree, base))]


def _resolver(tree: Tree, stages: Sequence[Stage]) -> Callable[[Overrides], Resolved]:
    return lambda overrides: tree.resolve([*stages, overrides])


def _study(
    tree: Tree,
    root: Path,
    base: Sequence[Stage],
    overrides: Overrides,
    settings: StudySettings,
) -> list[Step]:
    files = list_steps(root, settings.study)
    chosen = _selected(files, settings.steps or "all", study_dir(root, settings.study))
    wanted = chosen if files[0] in chosen else [files[0], *chosen]
    prove(tree, base, wanted, overrides)
    return [
        Step(
            file.id,
            file.help,
            file is files[0],
            frozenset(line.symbol for line in parse_file(file.path)),
            _resolver(tree, [*base, file.path]),
            file in chosen,
        )
        for file in wanted
    ]


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


def _matrix(tree: Tree, base: Sequence[Stage], settings: StudySettings) -> list[Step]:
    axes = parse_axes(settings.axes or "")
    steps = []
    for values in itertools.product(*axes.values()):
        combination = dict(zip(axes, values))
        label = ",".join(f"{symbol}={value}" for symbol, value in combination.items())
        stages = [*base, Overrides(combination, "MATRIX_AXES")]
        resolve = _resolver(tree, stages)
        steps.append(Step(label, label, not steps, frozenset(axes), resolve))
    return steps


def parse_axes(raw: str) -> dict[str, list[str]]:
    """{"LEARNING_RATE": ["3e-4", "6e-4"], …} from CONFIG_MATRIX_AXES.

    Raises SettingsError for an axis without CONFIG_, name or values, an empty
    or repeated value, a repeated symbol, or a value that cannot be part of a
    directory's name.
    """
    axes: dict[str, list[str]] = {}
    for part in raw.split():
        name, equals, listed = part.partition("=")
        values = listed.split(",")
        symbol = name.removeprefix("CONFIG_")
        why = None
        if not equals or symbol == name or not symbol:
            why = "is not CONFIG_SYMBOL=value,value"
        elif symbol in axes:
            why = "is a second axis of one symbol"
        elif "" in values:
            why = "has an empty value"
        elif len(set(values)) < len(values):
            why = "names a value twice"
        elif "/" in listed:
            why = "has a value with '/', which names a directory in results/"
        if why:
            raise SettingsError("MATRIX_AXES", raw, f"the axis {part!r} {why}")
        axes[symbol] = values
    if not axes:
        raise SettingsError("MATRIX_AXES", raw, "names no axis")
    return axes
