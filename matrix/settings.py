"""The settings of what happens across runs: every symbol of matrix/Kconfig."""

import math
import re
import shlex
from dataclasses import dataclass
from typing import Any, Mapping

from kconf.bind import (
    NOT_IN_A_LINE,
    SettingsError,
    build,
    flag,
    integer,
    names,
    one_of,
    ranges,
    real,
    section,
    text,
)
from matrix.results.metrics import named
from matrix.results.selection import CONFIRM, ONE, SCREEN

NO_TRACKER = "none"
TRACKERS = (NO_TRACKER, "wandb", "trackio")
WANDB_MODES = ("online", "offline")
LOCAL, SLURM = "local", "slurm"
FRAGMENT = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class SlurmSettings:
    """How a job is asked for; None without Slurm."""

    partition: str | None = text("SLURM_PARTITION", optional=True)
    account: str | None = text("SLURM_ACCOUNT", optional=True)
    time: str | None = text("SLURM_TIME", optional=True)
    gres: str | None = text("SLURM_GRES", optional=True)
    nodes: int | None = integer("SLURM_NODES", optional=True)
    cpus: int | None = integer("SLURM_CPUS", optional=True)
    options: str | None = text("SLURM_OPTIONS", optional=True)

    def __post_init__(self) -> None:
        for name in ("partition", "account", "time", "gres", "options"):
            value = getattr(self, name)
            if odd := NOT_IN_A_LINE.search(value or ""):
                why = f"holds {odd[0]!r}: a value of a job's script is one line"
                raise SettingsError(f"SLURM_{name.upper()}", value, why)
        try:
            shlex.split(self.options or "")
        except ValueError as error:
            raise SettingsError("SLURM_OPTIONS", self.options, str(error)) from None


@dataclass(frozen=True)
class LaunchSettings:
    """GPUs of a group, cells per GPU, and the launcher."""

    most_gpus: int = integer("MAX_GPUS_PER_RUN")
    runs_per_gpu: int = integer("RUNS_PER_GPU")
    share_busy: bool = flag("SHARE_BUSY_GPUS")
    launcher: str = one_of(LAUNCHER_LOCAL=LOCAL, LAUNCHER_SLURM=SLURM)

    @property
    def slurm(self) -> bool:
        """Whether cells are jobs of Slurm."""
        return self.launcher == SLURM


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
    baseline: str = text("BASELINE")
    metric: str = text("METRIC")
    last_evals: int = integer("METRIC_LAST_EVALS")
    smallest_effect: str = text("SMALLEST_EFFECT")
    alpha: float = real("ALPHA", above=0.0, below=0.5)
    control: str = text("CONTROL_STEP")
    stage: str = one_of(STAGE_ONE=ONE, STAGE_SCREEN=SCREEN, STAGE_CONFIRM=CONFIRM)
    promote: int = integer("PROMOTE")
    confirm_seeds: str = text("CONFIRM_SEEDS")
    output: str = text("OUTPUT_DIR")
    jobs: int = integer("JOBS")
    fail_fast: bool = flag("FAIL_FAST")
    watchdog_seconds: int = integer("WATCHDOG_SECONDS")
    watchdog_retries: int = integer("WATCHDOG_RETRIES")
    retry_diverged: bool = flag("RETRY_DIVERGED")
    trackers: tuple[str, ...] = names("TRACKER", TRACKERS)
    tracker_project: str = text("TRACKER_PROJECT")
    tracker_wait: int = integer("TRACKER_WAIT")
    wandb_mode: str = text("WANDB_MODE")
    wandb_entity: str = text("WANDB_ENTITY")
    launch: LaunchSettings = section(LaunchSettings)
    slurm: SlurmSettings = section(SlurmSettings)

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
        try:
            named(self.metric)
        except ValueError as error:
            raise SettingsError("METRIC", self.metric, str(error)) from None
        smallest_effect(self.smallest_effect)
        self._require_trackers()
        screened = set(ranges("SEEDS", self.seeds))
        again = screened & set(ranges("CONFIRM_SEEDS", self.confirm_seeds))
        if again and self.stage != ONE:
            raise SettingsError(
                "CONFIRM_SEEDS",
                self.confirm_seeds,
                f"names {min(again)}, which CONFIG_SEEDS takes for screening: seeds "
                "that chose the arms cannot confirm them",
            )
        if self.steps is not None and self.steps != "all":
            ranges("RA_MLA_ABLATION_STEPS", self.steps)

    def _require_trackers(self) -> None:
        """Each tracker once, "none" alone, and a mode that W&B has."""
        written = ",".join(self.trackers)
        if len(set(self.trackers)) < len(self.trackers):
            raise SettingsError("TRACKER", written, "names a tracker twice")
        if NO_TRACKER in self.trackers and len(self.trackers) > 1:
            raise SettingsError("TRACKER", written, '"none" goes with no tracker')
        if not self.tracker_project:
            raise SettingsError("TRACKER_PROJECT", "", "must not be empty")
        if self.wandb_mode not in WANDB_MODES:
            known = ", ".join(WANDB_MODES)
            raise SettingsError("WANDB_MODE", self.wandb_mode, f"is none of {known}")

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
        """The seeds of the stage, in order, each once."""
        if self.stage == CONFIRM:
            return ranges("CONFIRM_SEEDS", self.confirm_seeds)
        return ranges("SEEDS", self.seeds)

    @property
    def smallest(self) -> float | None:
        """The smallest effect of interest in the metric's unit, if one is named."""
        return smallest_effect(self.smallest_effect)


def smallest_effect(raw: str) -> float | None:
    """The number above 0 that CONFIG_SMALLEST_EFFECT holds, None for "none"."""
    if raw == "none":
        return None
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    plain = raw == raw.strip() and "_" not in raw
    if not plain or not 0.0 < number < math.inf:
        why = 'is neither a number above 0 nor "none"'
        raise SettingsError("SMALLEST_EFFECT", raw, why)
    return number


def study_settings(values: Mapping[str, Any]) -> StudySettings:
    """StudySettings from typed symbol values; raises kconf.bind.SettingsError."""
    return build(StudySettings, values)
