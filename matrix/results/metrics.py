"""The metrics a verdict can be about, by the name that CONFIG_METRIC takes."""

import re
from dataclasses import dataclass

from matrix.results.run import Run


@dataclass(frozen=True)
class Metric:
    """Where a run records a number, its unit, and which direction is better.

    `key` is read from the evaluations (the mean of the last k) or, where
    `evaluated` is False, from the run's records (matrix/results/recorded.py); with
    `evaluation`, the name of a text or a task, from its row in evaluations.jsonl.
    """

    name: str
    key: str
    unit: str
    lower_is_better: bool
    evaluated: bool
    evaluation: str | None = None

    @property
    def title(self) -> str:
        """What a reader calls it: the training loss is another one."""
        return "validation loss" if self.name == "val_loss" else self.name

    @property
    def timed(self) -> bool:
        """Whether it is a speed or a time, which a neighbour on the GPU changes."""
        return self.unit in ("s", "tokens/s")

    def of(self, run: Run, last_evals: int) -> float | None:
        """The run's value; None where it records none.

        Raises ReportError when the run has fewer than `last_evals` evaluations.
        """
        if self.evaluated:
            return run.last(self.key, last_evals)
        if self.evaluation is not None:
            row = run.evaluations.get(self.evaluation, {})
            return row.get("metrics", {}).get(self.key)
        return run.value(self.key)

    def description(self, last_evals: int) -> str:
        """validation loss in nats/token, mean of the last 3 evaluations."""
        text = f"{self.title} in {self.unit}"
        if not self.evaluated:
            return text
        last = "the last evaluation"
        if last_evals > 1:
            last = f"mean of the last {last_evals} evaluations"
        return f"{text}, {last}"


VAL_LOSS = Metric("val_loss", "loss", "nats/token", True, True)
BITS_PER_BYTE = Metric("bits_per_byte", "bits_per_byte", "bits/byte", True, True)
METRICS = {
    metric.name: metric
    for metric in (
        VAL_LOSS,
        BITS_PER_BYTE,
        Metric("perplexity", "perplexity", "exp(nats/token)", True, True),
        Metric("tokens_per_s", "tokens_per_s", "tokens/s", False, False),
        Metric("step_time", "average_step_time", "s", True, False),
        Metric("train_time", "train_time", "s", True, False),
        Metric("peak_memory", "peak_memory_bytes", "bytes", True, False),
    )
}

EVALUATED = re.compile(r"eval:(?P<name>.+)/(?P<key>[^/:]+)(:(?P<better>lower|higher))?")
# Of the names that texts and lm-eval's tasks use, which direction is better.
LOWER = {
    "loss": "nats/token",
    "perplexity": "exp(nats/token)",
    "bits_per_byte": "bits/byte",
    "byte_perplexity": "2^(bits/byte)",
    "word_perplexity": "exp(nats/word)",
    "brier_score": "score",
}
HIGHER = ("acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1", "mcc", "bleu")


def named(name: str) -> Metric:
    """The metric of a name: one of METRICS, or eval:TASK/METRIC of evaluations.

    A metric whose direction is not known here takes :lower or :higher behind it.
    Raises ValueError for any other name.
    """
    if name in METRICS:
        return METRICS[name]
    found = EVALUATED.fullmatch(name)
    if found is None:
        known = ", ".join(METRICS)
        raise ValueError(f"is none of {known}, eval:TASK/METRIC")
    key, better = found["key"], found["better"]
    if better is None and key in LOWER:
        better = "lower"
    elif better is None and key.partition(",")[0] in HIGHER:
        better = "higher"
    if better is None:
        why = f"does not say whether less {key} is better: add :lower or :higher"
        raise ValueError(why)
    unit = LOWER.get(key, "score")
    return Metric(name, key, unit, better == "lower", False, found["name"])
