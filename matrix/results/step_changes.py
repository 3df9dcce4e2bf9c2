"""What a step changes, from the records of its runs: its lines, and what they imply."""

import re
from dataclasses import dataclass
from typing import Any

from kconf.bind import format_value
from matrix.results.config_differences import SALT, differing
from matrix.results.rows import Row

LINE = re.compile(r"^(?:CONFIG_(\w+)=|# CONFIG_(\w+) is not set)", re.MULTILINE)
RATE = frozenset({"LEARNING_RATE", "MIN_LEARNING_RATE"})
TRAINING = RATE | {
    *("OPTIMIZER_SGD", "OPTIMIZER_ADAM", "OPTIMIZER_ADAMW", "OPTIMIZER_ADAMWADV"),
    *("OPTIMIZER_MUON", "OPTIMIZER_ADAMWSPAM", "OPTIMIZER_HAS_MOMENTS"),
    *("SGD_MOMENTUM", "SGD_NESTEROV", "MUON_MOMENTUM", "MUON_NESTEROV"),
    *("MUON_STEPS", "MUON_SCALE_RMS", "MUON_SCALE_ORIGINAL", "SPAM_THETA"),
    *("SPAM_INTERVAL", "SPAM_WARMUP", "SPAM_RESET_CORRECTION"),
    *("GPT2_WARMUP_STEPS", "WEIGHT_DECAY", "ADAM_BETA1", "ADAM_BETA2", "ADAM_EPS"),
    *("GRAD_CLIP", "UPDATE_AUTO", "UPDATE_TORCH", "UPDATE_ONE_PASS"),
    *("BUDGET_TOKENS", "BUDGET_TIME", "GPT2_MAX_ITERS", "GPT2_MAX_TIME"),
    *("BATCH_SIZE", "GPT2_GRADIENT_ACCUMULATION", "EFFECTIVE_BATCH"),
    *("GPT2_EVAL_INTERVAL", "GPT2_EVAL_WINDOWS", "GPT2_FINAL_EVAL_WINDOWS"),
    *("DTYPE_FP32", "DTYPE_BF16"),
    *("PARAM_DTYPE_FP32", "PARAM_DTYPE_BF16", "GPT2_COMPILE"),
    *("GPT2_COMPILE_BLOCKS", "GPT2_TF32"),
    *("CUDNN_BENCHMARK", "TIMING_WARMUP_STEPS", "SEED", SALT),
}
"""The symbols of the menus Optimizer and Training: how a model is trained. The other
symbols of a step say which model (or data) it is."""


@dataclass(frozen=True)
class Change:
    """A symbol with its value in the control and in the step, as .config has them."""

    symbol: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.symbol} {self.old} → {self.new}"


@dataclass(frozen=True)
class StepChanges:
    """The lines of a step and what follows from them.

    `recorded` is False of runs of older code, which do not record the step's lines:
    then all changes stand among `lines`.
    """

    lines: tuple[Change, ...]
    implied: tuple[Change, ...]
    recorded: bool

    @property
    def own_training(self) -> str:
        """What beside the model was set for this arm; "" of any other step."""
        how = [line.symbol for line in self.lines if line.symbol in TRAINING - {SALT}]
        if not how or all(line.symbol in TRAINING for line in self.lines):
            return ""
        what = "rate" if RATE.intersection(how) else "training"
        return f"its {what} was set for this arm ({', '.join(how)})"


def step_changes(control: Row, row: Row) -> StepChanges:
    """What differs between the first pair of runs; nothing where there is no pair."""
    values: dict[str, tuple[Any, Any]] = {}
    for seed in sorted(row.runs.keys() & control.runs.keys())[:1]:
        run, base = row.runs[seed], control.runs[seed]
        values = {
            s: (base.config.get(s), run.config.get(s)) for s in differing(base, run)
        }
    changes = [Change(s, *map(format_value, pair)) for s, pair in values.items()]
    fragment = next((run.value("fragment") for run in row.runs.values()), None)
    if fragment is None:
        return StepChanges(tuple(changes), (), recorded=False)
    own = {a or b for a, b in LINE.findall(fragment)}
    return StepChanges(
        tuple(change for change in changes if change.symbol in own),
        tuple(change for change in changes if change.symbol not in own),
        recorded=True,
    )
