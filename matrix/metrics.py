"""The metrics a verdict can be about, by the name that CONFIG_METRIC takes."""

from dataclasses import dataclass

from matrix.runs import Run


@dataclass(frozen=True)
class Metric:
    """Where a run records a number, its unit, and which direction is better.

    `key` is read from the evaluations (the mean of the last k) or, where
    `evaluated` is False, from summary.json.
    """

    name: str
    key: str
    unit: str
    lower_is_better: bool
    evaluated: bool

    def of(self, run: Run, last_evals: int) -> float | None:
        """The run's value; None where it records none.

        Raises ReportError when the run has fewer than `last_evals` evaluations.
        """
        if self.evaluated:
            return run.last(self.key, last_evals)
        return run.at(f"summary.{self.key}")

    def told(self, last_evals: int) -> str:
        """val_loss in nats/token, mean of the last 3 evaluations."""
        text = f"{self.name} in {self.unit}"
        if not self.evaluated:
            return text
        last = "the last evaluation"
        if last_evals > 1:
            last = f"mean of the last {last_evals} evaluations"
        return f"{text}, {last}"


VAL_LOSS = Metric("val_loss", "loss", "nats/token", True, True)
METRICS = {
    metric.name: metric
    for metric in (
        VAL_LOSS,
        Metric("bits_per_byte", "bits_per_byte", "bits/byte", True, True),
        Metric("perplexity", "perplexity", "exp(nats/token)", True, True),
        Metric("tokens_per_s", "tokens_per_s", "tokens/s", False, False),
        Metric("step_time", "average_step_time", "s", True, False),
        Metric("train_time", "train_time", "s", True, False),
        Metric("peak_memory", "peak_memory_bytes", "bytes", True, False),
    )
}
