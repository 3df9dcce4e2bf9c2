"""What native sparse attention computes of q, k and v: sizes and options.

Legend: S tokens up to a query and with it, l and d length and stride of compression
blocks, b length of selection blocks, n selected blocks, w window.
"""

from typing import NamedTuple

BRANCHES = ("cmp", "sel", "win")
"""Compressed, selected, window: the order of gates and of what is computed."""


class NsaSpec(NamedTuple):
    """2502.11089, equations 5 to 12; t is the query, 0-based, as all indices are.

    length    l: compression block i is the tokens [i d, i d + l)
    stride    d, which divides l and b
    block     b: selection block j is the tokens [j b, j b + b)
    top       n: blocks that a query reads, the forced ones among them
    window    w: tokens that a query sees at most, its own included
    branches  some of BRANCHES, in that order
    forced    block 0, that of the query and the one before are read in any case
    per_head  every head chooses for itself, instead of its group together (eq. 10)

    Blocks are those of the query's document and counted from its first token.
    """

    length: int
    stride: int
    block: int
    top: int
    window: int
    branches: tuple[str, ...] = BRANCHES
    forced: bool = True
    per_head: bool = False

    @property
    def scores(self) -> bool:
        """Whether queries meet compressed keys: to read their values, or to choose."""
        return "cmp" in self.branches or "sel" in self.branches

    def check(self) -> None:
        """ValueError where sizes do not fit each other."""
        l, d, b = self.length, self.stride, self.block
        if min(l, d, b, self.top, self.window) < 1:
            raise ValueError(f"{self}: every size is at least 1")
        if l % d or b % d:
            raise ValueError(f"stride {d} must divide length {l} and block {b}")
        named = tuple(name for name in BRANCHES if name in self.branches)
        if not named or named != self.branches:
            raise ValueError(f"branches {self.branches}: some of {BRANCHES}, in order")

    def compressed(self, S: int) -> int:
        """C(S): compression blocks that S tokens fill."""
        return 0 if S < self.length else (S - self.length) // self.stride + 1

    def candidates(self, S: int) -> int:
        """Selection blocks that S tokens touch."""
        return -(-S // self.block)

    def reads(self, S: int) -> dict[str, int]:
        """Keys that the S-th query of a document reads in every branch of BRANCHES, 0 in
        one that is not there; of selected blocks as many as there are, its own the last.
        """
        return {name: count(self, S) for name, count in _READS.items()}

    def all_reads(self, T: int) -> dict[str, int]:
        """The sums of `reads` over S = 1 … T, in closed form."""
        return {name: count(self, T) for name, count in _ALL_READS.items()}


def _up_to(count: int) -> int:
    """1 + … + count."""
    return count * (count + 1) // 2


def _compressed(spec: NsaSpec, S: int) -> int:
    return spec.compressed(S) if spec.scores else 0


def _selected(spec: NsaSpec, S: int) -> int:
    if "sel" not in spec.branches:
        return 0
    before, inside = divmod(S - 1, spec.block)
    return min(before, spec.top - 1) * spec.block + inside + 1


def _window(spec: NsaSpec, S: int) -> int:
    return min(spec.window, S) if "win" in spec.branches else 0


def _all_compressed(spec: NsaSpec, T: int) -> int:
    M = _compressed(spec, T)
    return M * (T - spec.length + 1) - spec.stride * M * (M - 1) // 2


def _all_selected(spec: NsaSpec, T: int) -> int:
    if "sel" not in spec.branches:
        return 0
    dense = min(T, spec.top * spec.block)
    full, rest = divmod(T - dense, spec.block)
    others = (T - dense) * (spec.top - 1) * spec.block
    return _up_to(dense) + others + full * _up_to(spec.block) + _up_to(rest)


def _all_window(spec: NsaSpec, T: int) -> int:
    w = min(spec.window, T)
    return _up_to(w) + (T - w) * w if "win" in spec.branches else 0


_READS = {"cmp": _compressed, "sel": _selected, "win": _window}
_ALL_READS = {"cmp": _all_compressed, "sel": _all_selected, "win": _all_window}
