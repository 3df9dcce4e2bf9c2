"""The settings of what happens across runs: every symbol of matrix/Kconfig."""

import math
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Mapping

from kconf.bind import (
    NOT_IN_A_LINE,
    SettingsError,
    build,
    flag,
    integer,
    names,
    one_of,
    plainly,
    ranges,
    real,
    section,
    text,
)
from matrix.results.metrics import VAL_LOSS, named
from matrix.results.selection import CONFIRM, EQUALITY, FIXED, GAIN, Looks, ONE
from matrix.results.selection import SCREEN, SCREEN_CONFIRM, SEQUENTIAL, SMALLEST_LOSS
from matrix.results.selection import TUNE, WORSE, fewest_supported

NO_TRACKER = "none"
TRACKERS = (NO_TRACKER, "wandb", "trackio")
WANDB_MODES = ("online", "offline")
LOCAL, SLURM = "local", "slurm"
FRAGMENT = re.compile(r"\w[\w.-]*", re.ASCII)
TUNING, LADDER = "tuning", "ladder-"
PART = re.compile(rf"|{TUNING}|{LADDER}[\w-]+(\.{TUNING})?", re.ASCII)
"""CONFIG_STUDY_PART: tuning, ladder-4, ladder-4.tuning."""


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
class TuningSettings:
    """What is tuned for every arm, with which seeds; no tuning where `symbols` is ""."""

    symbols: str = text("TUNE")
    points: int = integer("TUNE_POINTS")
    seeds: str = text("TUNE_SEEDS")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds that choose, and are never judged."""
        return ranges("TUNE_SEEDS", self.seeds)


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
    part: str = text("STUDY_PART")
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
    alpha: float = real("ALPHA", low=1e-9, below=0.5)
    control: str = text("CONTROL_STEP")
    design: str = one_of(
        DESIGN_FIXED=FIXED,
        DESIGN_SCREEN_CONFIRM=SCREEN_CONFIRM,
        DESIGN_SEQUENTIAL=SEQUENTIAL,
    )
    stage: str | None = one_of(
        optional=True, STAGE_SCREEN=SCREEN, STAGE_CONFIRM=CONFIRM
    )
    screen_seeds: str | None = text("SCREEN_SEEDS", optional=True)
    promote: int = integer("PROMOTE")
    promote_named: str | None = text("PROMOTE_NAMED", optional=True)
    confirm_seeds: str = text("CONFIRM_SEEDS")
    looks: str | None = text("LOOKS", optional=True)
    pursue: str | None = one_of(
        optional=True,
        PURSUE_GAIN=GAIN,
        PURSUE_EQUALITY=EQUALITY,
        PURSUE_WORSE=WORSE,
    )
    assumed_sd: float = real("ASSUMED_SD", above=0.0)
    assumed_r: float = real("ASSUMED_R", low=0.0, below=1.0)
    tuning: TuningSettings = section(TuningSettings)
    ladder: str = text("LADDER")
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
        if not PART.fullmatch(self.part):
            why = "is written by make tune and make ladder"
            raise SettingsError("STUDY_PART", self.part, why)
        try:
            named(self.metric)
        except ValueError as error:
            raise SettingsError("METRIC", self.metric, str(error)) from None
        smallest_effect(self.smallest_effect, self.metric)
        self._require_trackers()
        if self.stage is None:
            object.__setattr__(self, "stage", ONE)
        self._require_fresh_seeds()
        if self.design == SEQUENTIAL:
            self._require_looks()
        self._require_tuning_seeds()
        if self.steps is not None and self.steps != "all":
            ranges("RA_MLA_ABLATION_STEPS", self.steps)

    def _require_fresh_seeds(self) -> None:
        """No seed of the confirmation is one of the screening's."""
        symbol = "SCREEN_SEEDS" if self.design == SEQUENTIAL else "SEEDS"
        again = set(self.screening) & set(ranges("CONFIRM_SEEDS", self.confirm_seeds))
        if again and self.design != FIXED:
            raise SettingsError(
                "CONFIRM_SEEDS",
                self.confirm_seeds,
                f"names {min(again)}, which CONFIG_{symbol} takes for screening: seeds "
                "that chose the arms cannot confirm them",
            )

    def _require_looks(self) -> None:
        """Looks that rise from enough seeds on, with a seed for each and a smallest
        effect to stop by."""
        at, fewest = ranges("LOOKS", self.looks), fewest_supported(self.alpha)
        if list(at) != sorted(at):
            raise SettingsError("LOOKS", self.looks, "does not rise")
        if at[0] < fewest:
            why = f"fewer than {fewest} seeds cannot carry a claim at this CONFIG_ALPHA"
            raise SettingsError("LOOKS", self.looks, why)
        seeds = len(ranges("CONFIRM_SEEDS", self.confirm_seeds))
        if seeds < at[-1]:
            why = f"names {seeds} seeds, the last of CONFIG_LOOKS takes {at[-1]}"
            raise SettingsError("CONFIRM_SEEDS", self.confirm_seeds, why)
        if self.smallest is None and self.pursue != WORSE:
            why = (
                "a sequential study stops by it: name one, or pursue losses as well "
                "(CONFIG_PURSUE_WORSE)"
            )
            raise SettingsError("SMALLEST_EFFECT", self.smallest_effect, why)

    def _require_tuning_seeds(self) -> None:
        """The seeds that choose values are none of those that are judged."""
        judged = screened_or_judged(self)
        again = judged & set(self.tuning.seed_list)
        if self.tuning.symbols and again:
            why = (
                f"names {min(again)}, which a verdict takes: runs that chose an arm's "
            )
            why += "values cannot judge it"
            raise SettingsError("TUNE_SEEDS", self.tuning.seeds, why)

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
        """The study's name in results/: gpt2-ratio-ablation+tiny, or that of its part:
        gpt2-ratio-ablation+tiny.tuning.
        """
        name = f"{self.study}+{self.overlays}" if self.overlays else self.study
        return f"{name}.{self.part}" if self.part else name

    @property
    def tunes(self) -> bool:
        """Whether these are the runs that choose, not those that are judged."""
        return self.part.endswith(TUNING)

    @property
    def tuned_label(self) -> str:
        """The study that takes what this tuning chooses; its own name without one."""
        return self.label.removesuffix(f".{TUNING}")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of the stage, in order, each once."""
        if self.tunes:
            return self.tuning.seed_list
        if self.stage == CONFIRM:
            return self.confirming
        return self.screening if self.stage == SCREEN else ranges("SEEDS", self.seeds)

    @property
    def screening(self) -> tuple[int, ...]:
        """The seeds of a screening; () where there is none."""
        if self.design == SEQUENTIAL:
            raw = self.screen_seeds
            return ranges("SCREEN_SEEDS", raw) if raw else ()
        return ranges("SEEDS", self.seeds) if self.design == SCREEN_CONFIRM else ()

    @property
    def confirming(self) -> tuple[int, ...]:
        """The fresh seeds of a confirmation, in their order."""
        if self.sequence is not None:
            return self.sequence.seeds
        return ranges("CONFIRM_SEEDS", self.confirm_seeds)

    @property
    def sequence(self) -> Looks | None:
        """The looks of a sequential design."""
        if self.design != SEQUENTIAL:
            return None
        at = ranges("LOOKS", self.looks)
        seeds = ranges("CONFIRM_SEEDS", self.confirm_seeds)
        return Looks(at, seeds[: at[-1]], self.pursue)

    @property
    def named_arms(self) -> tuple[str, ...]:
        """What CONFIG_PROMOTE_NAMED names, as written."""
        parts = (self.promote_named or "").split(",")
        return tuple(part.strip() for part in parts if part.strip())

    @property
    def smallest(self) -> float | None:
        """The smallest effect of interest in the metric's unit, if one is named."""
        return smallest_effect(self.smallest_effect, self.metric)


def smallest_effect(raw: str, metric: str) -> float | None:
    """The number above 0 that CONFIG_SMALLEST_EFFECT holds, None for "none".

    Empty it is SMALLEST_LOSS, of the loss alone: whoever judges another metric says
    what matters in its unit.
    """
    if raw == "none":
        return None
    if not raw and metric == VAL_LOSS.name:
        return SMALLEST_LOSS
    if not raw:
        why = (
            f"has a default for {VAL_LOSS.name} alone, and CONFIG_METRIC is {metric}: "
            'name the smallest effect of interest in its unit, or "none"'
        )
        raise SettingsError("SMALLEST_EFFECT", raw, why)
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    if not plainly(raw) or not 0.0 < number < math.inf:
        why = 'is neither a number above 0 nor "none"'
        raise SettingsError("SMALLEST_EFFECT", raw, why)
    return number


def screened_or_judged(settings: StudySettings) -> set[int]:
    """Every seed that ranks or judges an arm, in any stage."""
    return {
        *(ranges("SEEDS", settings.seeds) if settings.design != SEQUENTIAL else ()),
        *settings.screening,
        *ranges("CONFIRM_SEEDS", settings.confirm_seeds),
    }


def study_settings(values: Mapping[str, Any]) -> StudySettings:
    """StudySettings from typed symbol values; raises kconf.bind.SettingsError.

    A tuning has one stage and trains its own controls, whatever the study does.
    """
    settings = build(StudySettings, values)
    if not settings.tunes:
        return settings
    return replace(settings, design=FIXED, stage=TUNE, baseline="")
