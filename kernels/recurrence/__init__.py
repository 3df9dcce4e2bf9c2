"""Recurrences over the tokens of a sequence: a state of K x V values per head."""

from kernels.recurrence.chunked import CHUNK, chunks
from kernels.recurrence.reference import loop

__all__ = ["CHUNK", "chunks", "loop"]
