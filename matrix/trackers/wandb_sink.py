"""Weights & Biases, online and offline.

A row's number is its `_step`, so that W&B itself says how many rows it holds; the
charts' axis is the metric `step`, the optimizer steps. What W&B would gather of its
own (git, console, packages, machine) is off: the configuration says it. Its system
monitor runs beside a live cell and watches the training process.
"""

from pathlib import Path
from typing import Sequence

import wandb

from matrix.trackers.content import Description, Numbers
from matrix.trackers.target import Target, TrackerError
from matrix.trackers.wandb_files import row_count

TIMEOUT = 60.0
"""Seconds until a server that does not answer is an error."""
FLUSH = 600.0
"""Seconds that the last rows of a run may take."""
QUIET = dict(
    console="off",
    disable_git=True,
    disable_code=True,
    disable_job_creation=True,
    save_code=False,
    silent=True,
    allow_val_change=True,
    x_disable_meta=True,
    x_disable_machine_info=True,
    x_save_requirements=False,
    init_timeout=TIMEOUT,
    finish_timeout=FLUSH,
    finish_timeout_raises=True,
)


class WandbSink:
    """One W&B run."""

    def __init__(self, target: Target):
        self.target = target
        self._run: wandb.Run | None = None

    def open(
        self, about: Description, tags: Sequence[str], directory: Path, live: bool
    ) -> int:
        """See Sink."""
        held = 0
        if self.target.mode == "offline":
            held = row_count(directory, about.id)
        watched = live and about.pid is not None
        settings = wandb.Settings(
            mode=self.target.mode, x_disable_stats=not watched, **QUIET
        )
        if watched:
            settings.x_stats_pid = about.pid
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                entity=self.target.entity or None,
                project=self.target.project,
                id=about.id,
                name=about.name,
                group=about.group,
                job_type=about.job_type,
                tags=list(tags),
                config=dict(about.config),
                dir=str(directory),
                resume="allow",
                reinit="create_new",
                settings=settings,
            )
            self._run.define_metric("*", step_metric="step")
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"W&B: {error}") from error
        return held or self._run.starting_step

    def put(self, rows: Sequence[tuple[int, Numbers]]) -> None:
        """See Sink."""
        try:
            for number, row in rows:
                self._run.log(row, step=number, commit=True)
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"W&B: {error}") from error

    def close(self, done: bool) -> None:
        """See Sink."""
        try:
            self._run.finish(exit_code=0 if done else 1)
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"W&B: {error}") from error

    @property
    def url(self) -> str | None:
        """See Sink."""
        online = self._run is not None and self.target.mode == "online"
        return self._run.url if online else None
