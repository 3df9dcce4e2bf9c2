"""The settings of the optimizer and of pruning, with what rules them out.

No torch in this file, see gpt2/settings/run.py.
"""

from dataclasses import dataclass

from kconf.bind import SettingsError, flag, integer, one_of, real
from records.kinds import FP32


@dataclass(frozen=True)
class OptimSettings:
    """The optimizer and its schedule.

    has_moments: it keeps a first and a second moment of every weight.
    """

    kind: str = one_of(
        OPTIMIZER_SGD="sgd",
        OPTIMIZER_ADAM="adam",
        OPTIMIZER_ADAMW="adamw",
        OPTIMIZER_ADAMWADV="adamwadv",
        OPTIMIZER_MUON="muon",
        OPTIMIZER_ADAMWSPAM="adamwspam",
    )
    has_moments: bool = flag("OPTIMIZER_HAS_MOMENTS")
    lr: float = real("LEARNING_RATE", above=0.0, high=FP32)
    min_lr: float = real("MIN_LEARNING_RATE", low=0.0)
    warmup: int = integer("GPT2_WARMUP_STEPS")
    weight_decay: float = real("WEIGHT_DECAY", low=0.0)
    beta1: float | None = real("ADAM_BETA1", low=0.0, below=1.0, optional=True)
    beta2: float | None = real("ADAM_BETA2", low=0.0, below=1.0, optional=True)
    eps: float | None = real("ADAM_EPS", above=0.0, optional=True)
    clip: float = real("GRAD_CLIP", low=0.0)
    sgd_momentum: float | None = real("SGD_MOMENTUM", low=0.0, below=1.0, optional=True)
    sgd_nesterov: bool = flag("SGD_NESTEROV")
    muon_momentum: float | None = real(
        "MUON_MOMENTUM", low=0.0, below=1.0, optional=True
    )
    muon_nesterov: bool = flag("MUON_NESTEROV")
    muon_steps: int | None = integer("MUON_STEPS", optional=True)
    muon_scale: str | None = one_of(
        optional=True, MUON_SCALE_RMS="match_rms_adamw", MUON_SCALE_ORIGINAL="original"
    )
    spam_theta: float | None = real("SPAM_THETA", low=0.0, optional=True)
    spam_interval: int | None = integer("SPAM_INTERVAL", optional=True)
    spam_warmup: int | None = integer("SPAM_WARMUP", optional=True)
    spam_reset_correction: bool = flag("SPAM_RESET_CORRECTION")
    update: str = one_of(
        UPDATE_AUTO="auto", UPDATE_TORCH="torch", UPDATE_ONE_PASS="one_pass"
    )

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise SettingsError(
                "MIN_LEARNING_RATE",
                f"{self.min_lr:g}",
                f"is above CONFIG_LEARNING_RATE={self.lr:g}",
            )
        if self.sgd_nesterov and not self.sgd_momentum:
            raise SettingsError(
                "SGD_NESTEROV", True, 'needs a momentum, CONFIG_SGD_MOMENTUM is "0"'
            )
        if self.spam_interval and self.spam_warmup >= self.spam_interval:
            raise SettingsError(
                "SPAM_WARMUP",
                self.spam_warmup,
                f"is not below CONFIG_SPAM_INTERVAL={self.spam_interval}: the "
                "learning rate would never be whole again",
            )

    def settling(self, steps: int) -> bool:
        """Whether, after so many steps, the last SPAM reset is at most N old.

        The reset before step k · interval (k > 0; steps are counted from 0) is
        one step old when that step is done.
        """
        if not self.spam_interval or steps <= self.spam_interval:
            return False
        return (steps - 1) % self.spam_interval < self.spam_warmup


@dataclass(frozen=True)
class PruningSettings:
    """Which weights are removed, how many, and when (fractions of the budget).

    criterion: of pruning from the optimizer's state, else None. sparsity: None
    without pruning and with the pattern 2:4, whose sparsity is a half.
    """

    kind: str = one_of(
        PRUNING_NONE="none",
        PRUNING_MAGNITUDE="magnitude",
        PRUNING_MOVEMENT="movement",
        PRUNING_STATE="state",
    )
    pattern: str | None = one_of(
        optional=True, PATTERN_UNSTRUCTURED="unstructured", PATTERN_2_4="2:4"
    )
    criterion: str | None = one_of(
        optional=True,
        CRITERION_HYBRID="hybrid",
        CRITERION_MAGNITUDE="magnitude",
        CRITERION_GRADIENT_MAGNITUDE="gradient_magnitude",
        CRITERION_LAYER_ADAPTIVE="layer_adaptive",
        CRITERION_MOVEMENT="movement",
        CRITERION_COHERENCE="coherence",
        CRITERION_VARIANCE="variance",
    )
    sparsity: float | None = real(
        "PRUNING_SPARSITY", above=0.0, below=1.0, optional=True
    )
    start: float | None = real("PRUNING_START", low=0.0, below=1.0, optional=True)
    end: float | None = real("PRUNING_END", above=0.0, high=1.0, optional=True)
    frequency: int | None = integer("PRUNING_FREQUENCY", optional=True)

    def __post_init__(self) -> None:
        if self.kind == "none":
            return
        if self.start >= self.end:
            raise SettingsError(
                "PRUNING_START",
                f"{self.start:g}",
                f"is not below CONFIG_PRUNING_END={self.end:g}",
            )
        if self.pattern == "2:4" and self.criterion == "layer_adaptive":
            raise SettingsError(
                "CRITERION_LAYER_ADAPTIVE",
                True,
                "gives every block a sparsity of its own, CONFIG_PATTERN_2_4 gives "
                "each a half",
            )

    @property
    def final(self) -> float:
        """The sparsity at the end of the schedule."""
        return 0.5 if self.pattern == "2:4" else self.sparsity

    def require_state_of(self, optim: OptimSettings) -> None:
        """Raise SettingsError when the optimizer keeps nothing to rank by."""
        if self.kind == "state" and not optim.has_moments:
            raise SettingsError(
                "PRUNING_STATE",
                True,
                f"ranks by a first and a second moment of every weight, which the "
                f"optimizer {optim.kind} does not keep",
            )

    def require_an_end(self, optim: OptimSettings, steps: int) -> None:
        """Raise SettingsError when no update can reach the final sparsity in a
        run of so many steps.
        """
        end = self.end
        last = next(s for s in range(int(end * steps), steps + 1) if s / steps >= end)
        if all(map(optim.settling, range(last, steps + 1))):
            raise SettingsError(
                "PRUNING_END",
                f"{end:g}",
                f"is never reached: from step {last} to the end of the run at {steps} "
                f"a SPAM reset is at most CONFIG_SPAM_WARMUP={optim.spam_warmup} "
                "steps old, and no mask is updated",
            )
