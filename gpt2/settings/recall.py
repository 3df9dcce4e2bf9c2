"""The settings of the recall corpus (gpt2/data/sources/recall.py)."""

from dataclasses import dataclass
from functools import cached_property

from kconf.bind import SettingsError, integer, ranges, text


@dataclass(frozen=True)
class RecallSettings:
    """How many rows, of how many pairs, over which bytes."""

    pairs_text: str = text("RECALL_PAIRS")
    keys: int = integer("RECALL_KEYS")
    values: int = integer("RECALL_VALUES")
    length: int = integer("RECALL_LENGTH")
    rows: int = integer("RECALL_ROWS")
    seed: int = integer("RECALL_SEED")

    @cached_property
    def pairs(self) -> tuple[int, ...]:
        """Pairs of the rows, in turn."""
        return ranges("RECALL_PAIRS", self.pairs_text)

    def __post_init__(self) -> None:
        for pairs in self.pairs:
            if not 1 <= pairs <= self.keys:
                why = (
                    f"a row of {pairs} pairs needs 1 to CONFIG_RECALL_KEYS={self.keys}"
                )
                raise SettingsError("RECALL_PAIRS", self.pairs_text, why)
            if 2 * pairs + 3 > self.length:
                raise SettingsError(
                    "RECALL_LENGTH",
                    self.length,
                    f"{pairs} pairs, a query, its answer and the separator are "
                    f"{2 * pairs + 3} tokens",
                )
