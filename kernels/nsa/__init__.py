"""Native sparse attention (2502.11089). `reference`, in plain torch, is the definition."""

from kernels.nsa.blocks import Grid, grid, windows
from kernels.nsa.reference import Memory, Mixed, attend, last_part
from kernels.nsa.spec import BRANCHES, NsaSpec

__all__ = [
    "BRANCHES",
    "Grid",
    "Memory",
    "Mixed",
    "NsaSpec",
    "attend",
    "grid",
    "last_part",
    "windows",
]
