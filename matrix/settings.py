"""The settings of what happens across runs: every symbol of matrix/Kconfig."""

import re
from dataclasses import dataclass
from typing import Any, Mapping

from kconf.bind import (
    SettingsError,
    build,
    flag,
    integer,
    names,
    one_of,
    ranges,
    text,
)

TRACKERS = ("none",)
FRAGMENT = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class StudySettings:
    """Which cells exist and how they are run."""

    mode: str = one_of(
        SINGLE_RUN_MODE="single",
        RA_MLA_ABLATION_MODE="ablation",
        TEST_MATRIX_MODE="matrix",
    )
    study: str = text("STUDY")
    overlays: str = text("STUDY_OVERLAYS")
    steps: str | None = text("RA_MLA_ABLATION_STEPS", optional=True)
    optimizers: str | None = text("MATRIX_OPTIMIZERS", optional=True)
    pruning: str | None = text("MATRIX_PRUNING", optional=True)
    sparsities: str | None = text("MATRIX_SPARSITIES", optional=True)
    learning_rates: str | None = text("MATRIX_LEARNING_RATES", optional=True)
    axes: str | None = text("MATRIX_AXES", optional=True)
    arms: str | None = text("MATRIX_ARMS", optional=True)
    seeds: str = text("SEEDS")
    last_evals: int = integer("METRIC_LAST_EVALS")
    output: str = text("OUTPUT_DIR")
    jobs: int = integer("JOBS")
    fail_fast: bool = flag("FAIL_FAST")
    trackers: tuple[str, ...] = names("TRACKER", TRACKERS)
    tracker_project: str = text("TRACKER_PROJECT")

    def __post_init__(self) -> None:
        for symbol, value in [("STUDY", self.study), ("OUTPUT_DIR", self.output)]:
            if not value:
                raise SettingsError(symbol, value, "must not be empty")
        if "/" in self.study or self.study.startswith("."):
            raise SettingsError("STUDY", self.study, "is not a plain directory name")
        fragments = self.overlays.split("+") if self.overlays else []
        if not all(map(FRAGMENT.fullmatch, fragments)):
            raise SettingsError(
                "STUDY_OVERLAYS",
                self.overlays,
                "is not names of fragments joined by '+': make "
                "defconfig-NAME+FRAGMENT writes it",
            )
        ranges("SEEDS", self.seeds)
        if self.steps is not None and self.steps != "all":
            ranges("RA_MLA_ABLATION_STEPS", self.steps)

    @property
    def lists(self) -> dict[str, str | None]:
        """The lists of the test matrix by symbol, for kconf.axes.read_axes."""
        return {
            "MATRIX_OPTIMIZERS": self.optimizers,
            "MATRIX_PRUNING": self.pruning,
            "MATRIX_SPARSITIES": self.sparsities,
            "MATRIX_LEARNING_RATES": self.learning_rates,
            "MATRIX_AXES": self.axes,
        }

    @property
    def label(self) -> str:
        """The study's name in results/: gpt2-ratio-ablation+tiny."""
        return f"{self.study}+{self.overlays}" if self.overlays else self.study

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, in order, each once."""
        return ranges("SEEDS", self.seeds)


def study_settings(values: Mapping[str, Any]) -> StudySettings:
    """StudySettings from typed symbol values; raises kconf.bind.SettingsError."""
    return build(StudySettings, values)
