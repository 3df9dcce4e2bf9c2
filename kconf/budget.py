"""What a run may spend, as configured: the tokens, or the seconds."""

from typing import Any, Mapping
from records.durations import duration


def tokens_per_step(values: Mapping[str, Any]) -> int:
    """Tokens of one optimizer step on one rank."""
    product = values["BATCH_SIZE"] * max(1, values["GPT2_GRADIENT_ACCUMULATION"])
    return (values["EFFECTIVE_BATCH"] or product) * values["GPT2_BLOCK_SIZE"]


def budget(values: Mapping[str, Any]) -> str:
    """The budget in words; arms that are compared have the same one."""
    seconds = values["GPT2_MAX_TIME"]
    if values["BUDGET_TIME"]:
        return duration(seconds)
    limit = f", at most {duration(seconds)}" if seconds else ""
    return f"{tokens_per_step(values) * values['GPT2_MAX_ITERS']:,} tokens{limit}"
