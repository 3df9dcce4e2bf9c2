"""Which steps there are to check: of the loaded .config, or of every study."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Mapping

from kconf.arms import Arm, choose, generate
from kconf.axes import read_axes
from kconf.bind import SettingsError, ranges
from kconf.config_py import Value
from kconf.overrides import Overrides
from kconf.presets import presets
from kconf.strict import DotConfig, Stage, Tree
from kconf.study import Fragment, list_steps, study_dir
from kconf.syntax import ConfigError, Finding

DEFAULT_STUDY = "gpt2-ratio-ablation"


@dataclass(frozen=True)
class Study:
    """A study to check.

    stages: the base every step is merged onto. claims: the study's own
    defconfig, for which the `# Expect:` lines are stated. steps: empty for a
    configuration without steps.
    """

    name: str
    stages: tuple[Stage, ...]
    claims: tuple[Stage, ...]
    steps: tuple[Fragment, ...]

    def only(self, chosen: str, name: str = "STEP") -> "Study":
        """The study with some of its steps ("6", "0,2,8-9"), which `name` selects;
        raises ConfigError.
        """
        if any(isinstance(step, Arm) for step in self.steps):
            cause = "the arms of a test matrix have names: ARMS=NAME,NAME"
            raise ConfigError([Finding(f"{name}={chosen}", 0, None, cause)])
        try:
            numbers = ranges("RA_MLA_ABLATION_STEPS", chosen)
        except SettingsError as error:
            raise ConfigError(
                [Finding(f"{name}={chosen}", 0, None, error.why)]
            ) from None
        unknown = set(numbers) - {step.number for step in self.steps}
        if unknown:
            known = ", ".join(str(s.number) for s in self.steps) or "none"
            cause = f"{self.name} has no step {min(unknown)}; its steps: {known}"
            raise ConfigError([Finding(f"{name}={chosen}", 0, None, cause)])
        steps = tuple(step for step in self.steps if step.number in numbers)
        return replace(self, steps=steps)


def every(root: Path, tree: Tree) -> list[Study]:
    """All studies of defconfigs/: those with steps, and the test matrices."""
    found = []
    for name, path in presets(root)[0].items():
        if study_dir(root, name).is_dir():
            found.append(from_defconfig(root, name))
            continue
        values = tree.resolve([path]).values
        if values["TEST_MATRIX_MODE"]:
            found.append(_matrix(tree, name, (path,), Overrides({}), values))
    return found


def _matrix(
    tree: Tree,
    name: str,
    stages: tuple[Stage, ...],
    overrides: Overrides,
    values: Mapping[str, Value],
) -> Study:
    """The chosen arms of a test matrix; ConfigError."""
    try:
        axes = read_axes(values, overrides)
    except SettingsError as error:
        where = f"CONFIG_{error.symbol}"
        raise ConfigError([Finding(where, 0, None, error.why)]) from None
    arms = generate(tree, stages, overrides, axes).arms
    return Study(name, stages, stages, tuple(choose(arms, values["MATRIX_ARMS"])))


def from_defconfig(root: Path, name: str) -> Study:
    """A study as its defconfig states it. Raises ConfigError."""
    steps = list_steps(root, name)
    defconfig = root / "defconfigs" / name
    if not defconfig.exists():
        cause = f"has steps in {name}.d/, but the defconfig itself does not exist"
        raise ConfigError([Finding(str(defconfig), 0, None, cause)])
    return Study(name, (defconfig,), (defconfig,), steps)


def loaded(root: Path, tree: Tree, overrides: Overrides, whole: bool) -> Study:
    """The study of the .config (KCONFIG_CONFIG), or the default one without it; of an
    ablation the steps that CONFIG_RA_MLA_ABLATION_STEPS selects, or the `whole`.
    """
    path = Path(os.environ.get("KCONFIG_CONFIG") or root / ".config")
    if not path.exists():
        study = from_defconfig(root, DEFAULT_STUDY)
        tree.resolve([*study.stages, overrides])
        return study
    stages = (DotConfig(path),)
    values = tree.resolve([*stages, overrides]).values
    name = values["STUDY"]
    if values["TEST_MATRIX_MODE"]:
        return _matrix(tree, name, stages, overrides, values)
    if not values["RA_MLA_ABLATION_MODE"]:
        return Study(name, stages, stages, ())
    study = replace(from_defconfig(root, name), stages=stages)
    selection = values["RA_MLA_ABLATION_STEPS"]
    if whole or selection == "all":
        return study
    return study.only(selection, "CONFIG_RA_MLA_ABLATION_STEPS")
