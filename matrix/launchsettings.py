"""Where cells run: the symbols of the menu Placement."""

import shlex
from dataclasses import dataclass

from kconf.bind import SettingsError, flag, integer, one_of, text

LOCAL, SLURM = "local", "slurm"


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
