"""Recurrences over the tokens of a sequence: a state of K x V values per head."""

from kernels.recurrence.reference import chunks, loop

__all__ = ["chunks", "loop"]
