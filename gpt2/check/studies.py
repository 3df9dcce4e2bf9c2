"""Which steps there are to check: of the loaded .config, or of every study."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from kconf.bind import SettingsError, ranges
from kconf.overrides import Overrides
from kconf.strict import DotConfig, Stage, Tree
from kconf.study import StepFile, list_steps
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
    steps: tuple[StepFile, ...]

    def only(self, chosen: str) -> "Study":
        """The study with some of its steps ("6", "0,2,8-9"); raises ConfigError."""
        try:
            numbers = ranges("RA_MLA_ABLATION_STEPS", chosen)
        except SettingsError as error:
            raise ConfigError([Finding(f"STEP={chosen}", 0, None, error.why)]) from None
        unknown = set(numbers) - {step.number for step in self.steps}
        if unknown:
            known = ", ".join(str(s.number) for s in self.steps) or "none"
            cause = f"{self.name} has no step {min(unknown)}; its steps: {known}"
            raise ConfigError([Finding(f"STEP={chosen}", 0, None, cause)])
        steps = tuple(step for step in self.steps if step.number in numbers)
        return replace(self, steps=steps)


def every(root: Path) -> list[Study]:
    """All studies of defconfigs/."""
    names = sorted(p.name[:-2] for p in (root / "defconfigs").glob("*.d"))
    return [from_defconfig(root, name) for name in names]


def from_defconfig(root: Path, name: str) -> Study:
    """A study as its defconfig states it. Raises ConfigError."""
    steps = list_steps(root, name)
    defconfig = root / "defconfigs" / name
    if not defconfig.exists():
        cause = f"has steps in {name}.d/, but the defconfig itself does not exist"
        raise ConfigError([Finding(str(defconfig), 0, None, cause)])
    return Study(name, (defconfig,), (defconfig,), steps)


def loaded(root: Path, tree: Tree, overrides: Overrides) -> Study:
    """The study of the .config (KCONFIG_CONFIG), or the default one without it."""
    path = Path(os.environ.get("KCONFIG_CONFIG") or root / ".config")
    if not path.exists():
        study = from_defconfig(root, DEFAULT_STUDY)
        tree.resolve([*study.stages, overrides])
        return study
    stages = (DotConfig(path),)
    values = tree.resolve([*stages, overrides]).values
    name = values["STUDY"]
    if not values["RA_MLA_ABLATION_MODE"]:
        return Study(name, stages, stages, ())
    return replace(from_defconfig(root, name), stages=stages)
