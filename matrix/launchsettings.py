"""Where cells run: the symbols of the menu Placement."""

import shlex
from dataclasses import dataclass

from kconf.bind import NOT_IN_A_LINE, SettingsError, flag, integer, one_of, text

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
