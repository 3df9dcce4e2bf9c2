"""Recurrences over the tokens of a sequence: a state of K x V values per head. `loop` is
the definition, `chunks` the same in torch, `recurrence` by Triton with a decay per head,
imported when it first runs; `run` takes the one that is chosen.
"""

from kernels.recurrence.chunked import CHUNK, chunks
from kernels.recurrence.op import recurrence
from kernels.recurrence.reference import loop
from kernels.recurrence.run import run

__all__ = ["CHUNK", "chunks", "loop", "recurrence", "run"]
