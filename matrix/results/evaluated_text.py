"""What a run's last evaluation cost by document or window, as its directory has it."""

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from records import unit_losses
from records.layout import CellDir, RecordError
from records.unit_losses import UnitLosses

NOT_RECORDED = "not recorded"
ENOUGH = 2_000_000
"""Tokens from which on the error of the text is small beside that of the seeds."""
AGREES = 1e-4
"""By how much, relative to it, the stored sums may differ from the recorded loss."""


@dataclass(frozen=True)
class EvaluatedText:
    """The losses; text_sha256 of the windows, and the bytes that their targets are.

    most_tokens: targets of all windows of the split, None where that is not recorded.
    """

    losses: UnitLosses
    text_sha256: str
    bytes: int
    most_tokens: int | None = None

    @property
    def tokens(self) -> int:
        """Targets that were scored."""
        return sum(self.losses.tokens)


def small(texts: Iterable[EvaluatedText | str]) -> list[str]:
    """A line per number of tokens below ENOUGH where the split has more."""
    found = {
        (text.tokens, text.most_tokens)
        for text in texts
        if isinstance(text, EvaluatedText)
    }
    return [
        f"the last evaluation read {tokens:,} tokens of the {most:,} that the "
        f"validation split has; {min(most, ENOUGH):,} make the error of the text smaller "
        "(CONFIG_GPT2_FINAL_EVAL_WINDOWS)"
        for tokens, most in sorted(found, key=str)
        if most is not None and tokens < min(most, ENOUGH)
    ]


def read(cell: CellDir, summary: Mapping[str, Any] | None) -> EvaluatedText | str:
    """The evaluation that the summary names, or why there is none to count on.

    A file that is missing or damaged costs this error alone: claims are then about
    the text that was read.
    """
    told = (summary or {}).get("last_evaluation")
    if told is None:
        return NOT_RECORDED
    try:
        losses = unit_losses.read(cell.last_evaluation, told["sha256"])
    except FileNotFoundError:
        return f"{cell.last_evaluation} is missing"
    except RecordError as error:
        return str(error)
    found = EvaluatedText(
        losses, told["text_sha256"], told["bytes"], told.get("most_tokens")
    )
    loss, mean = summary["final_eval"]["loss"], sum(losses.nats) / found.tokens
    if found.tokens != told["tokens"] or abs(mean - loss) > AGREES * abs(loss):
        return (
            f"{cell.last_evaluation}: {found.tokens} tokens at {mean:g} nats are not the "
            f"{told['tokens']} at {loss:g} of summary.json"
        )
    return found
