"""Whether native sparse attention chooses the block that a query asks for.

A row of random keys holds one that the last query repeats: the needle. With mean φ it
enters its compressed keys at 1/l of its length, so one key of ordinary norm stands
√(D/l) standard deviations above the others (1.41 at D = 64, l = 32), whatever T, while
T/b blocks compete for n places. It is missed more and more often in long rows: that is
a limit of mean φ, not a fault of a kernel. Eight equal keys, or one of four times the
norm, are found.

Legend: B rows, T tokens, H query heads, G key heads, D head width, C compressed
blocks, J selection blocks up to the query's, n chosen blocks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

LENGTHS = (4096, 16384, 65536)
TOKENS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Blocks:
    """l and d, length and stride of a compression block; b, length of a selection
    block; n, how many are chosen, of them the first one and the last two.
    """

    l: int = 32
    d: int = 16
    b: int = 64
    n: int = 16

    def __post_init__(self):
        if self.l % self.d or self.b % self.d or self.l > self.b or self.n < 3:
            raise ValueError(f"{self}: d divides l and b, l <= b, n >= 3")


@dataclass(frozen=True)
class Needle:
    """`copies` equal keys side by side, `scale` times the norm of a random key."""

    copies: int = 1
    scale: float = 1.0


NEEDLES = {
    "one ordinary key": Needle(),
    "4 equal keys": Needle(copies=4),
    "8 equal keys": Needle(copies=8),
    "one key, norm x4": Needle(scale=4.0),
}

Choose = Callable[[torch.Tensor, torch.Tensor, Blocks], torch.Tensor]
"""Chosen blocks (B, G, n) of the last query from q_BHD and all keys k_BTGD."""


class Found(NamedTuple):
    """The share of trials in which a chosen block holds a token of the needle."""

    share: float
    trials: int

    @property
    def error(self) -> float:
        """Standard error of the share, √(p (1-p) / trials)."""
        return math.sqrt(self.share * (1 - self.share) / self.trials)


def choose_blocks(
    q_BHD: torch.Tensor, k_BTGD: torch.Tensor, blocks: Blocks
) -> torch.Tensor:
    """The min(n, J) blocks that the query of token T - 1 attends to, in order.

    K^c_i = mean of k_{id} … k_{id+l-1}; p^c = softmax(q·K^c / √D) over the blocks that
    have ended; p^s[j] = Σ_i p^c[i] |block_i ∩ block_j| / l (2502.11089, eq. 8 and 9),
    summed over the heads of a group (eq. 10). Forced: 0, J-2, J-1; then by p^s, of
    equal ones the lower index.
    """
    l, d, b, n = blocks.l, blocks.d, blocks.b, blocks.n
    B, T, G, D = k_BTGD.shape
    J = (T - 1) // b + 1
    s_BGJ = k_BTGD.new_zeros(B, G, J)
    if T >= l:
        parts = k_BTGD[:, : T // d * d].unflatten(1, (-1, d)).sum(2)
        C = (T - l) // d + 1
        k_BCGD = sum(parts[:, m : m + C] for m in range(l // d)) / l
        q_BGgD = q_BHD.unflatten(1, (G, -1))
        logits = torch.einsum("bghd,bcgd->bghc", q_BGgD, k_BCGD) / math.sqrt(D)
        p_BGC = torch.softmax(logits, dim=-1).sum(2)
        first_C = torch.arange(C, device=k_BTGD.device) * d
        j_C, last_C = first_C // b, (first_C + l - 1) // b
        share_C = (torch.minimum(first_C + l, (j_C + 1) * b) - first_C) / l
        s_BGJ.index_add_(2, j_C, p_BGC * share_C)
        s_BGJ.index_add_(2, last_C, p_BGC * (1 - share_C))
    s_BGJ[..., [0, max(J - 2, 0), J - 1]] = math.inf
    order = torch.sort(s_BGJ, dim=-1, descending=True, stable=True).indices
    return order[..., :n].sort(dim=-1).values


def measure(
    needle: Needle,
    T: int,
    trials: int,
    *,
    blocks: Blocks = Blocks(),
    choose: Choose = choose_blocks,
    width: int = 64,
    heads: int = 1,
    dtype: torch.dtype = torch.float32,
    place: str = "anywhere",
    seed: int = 0,
    device: str = "cpu",
) -> Found:
    """How often `choose` finds the needle in T keys, the query the last token's.

    Keys are N(0, 1) in every component. The needle is a draw of the same, scaled and
    copied; every one of the `heads` of one group asks with that key itself, scaled too.
    place: `anywhere` in the row, the forced blocks included, or in the `middle` of a
    block that is not forced, where every compressed block of it lies inside the block:
    such a key counts twice in p^s, one at the edge 1½ times (l = 2d). Keys come from
    the device's own generator: figures of a CPU and a GPU differ within their errors.
    Raises ValueError where the row or a block's middle has no room.
    """
    starts = torch.tensor(_starts(needle, T, blocks, place), device=device)
    stream, hits, done = torch.Generator(device).manual_seed(seed), 0, 0
    while done < trials:
        B = min(trials - done, max(TOKENS_AT_ONCE // T, 1))
        k_BTGD = torch.randn(B, T, 1, width, generator=stream, device=device)
        key_BD = needle.scale * torch.randn(B, width, generator=stream, device=device)
        first_B1 = starts[
            torch.randint(len(starts), (B, 1), generator=stream, device=device)
        ]
        at_Bm = first_B1 + torch.arange(needle.copies, device=device)
        row_B1 = torch.arange(B, device=device)[:, None]
        k_BTGD[row_B1, at_Bm, 0] = key_BD[:, None]
        q_BHD = key_BD[:, None].expand(B, heads, width)
        chosen_BGn = choose(q_BHD.to(dtype), k_BTGD.to(dtype), blocks)
        inside = chosen_BGn[:, 0, :, None] == (at_Bm // blocks.b)[:, None]
        hits += int(inside.any(2).any(1).sum())
        done += B
    return Found(hits / trials, trials)


def _starts(needle: Needle, T: int, blocks: Blocks, place: str) -> list[int]:
    """Where the first token of the needle may stand."""
    if place == "anywhere":
        starts = list(range(T - needle.copies + 1))
    elif place == "middle":
        edge, forced = blocks.l - blocks.d, (T - 1) // blocks.b - 1
        inner = range(edge, blocks.b - edge - needle.copies + 1)
        starts = [j * blocks.b + m for j in range(1, forced) for m in inner]
    else:
        raise ValueError(f"place {place!r}: anywhere or middle")
    if not starts:
        raise ValueError(f"{needle} has no place ({place}) in {T} tokens of {blocks}")
    return starts
