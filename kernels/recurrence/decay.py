"""Decays between the tokens of a chunk.

What token j left is exp(Σ_{j<m≤i} g_m) of itself at token i. Sums are products with 0
and 1, and of the tokens between j and i alone: differences of running sums would lose
digits, and would carry the rounding of other documents. No exponent is above 0.

Legend: … batch, heads and chunks, C chunk, K key width, R sums, s sub-chunk, A
sub-chunks of a chunk.
"""

import torch
import torch.nn.functional as F

SUB = 16
"""Tokens of a sub-chunk: within it every pair of tokens takes K exponentials."""


def _sums(
    g_xCK: torch.Tensor, above_R: torch.Tensor, upto_R: torch.Tensor
) -> torch.Tensor:
    """Σ g_m over above < m ≤ upto, (…, R, K)."""
    m_C = torch.arange(g_xCK.shape[-2], device=g_xCK.device)
    taken_RC = (above_R[:, None] < m_C) & (m_C <= upto_R[:, None])
    return taken_RC.to(g_xCK.dtype) @ g_xCK


class _Pairs:
    """Σ_{j<m≤i} g_m of the tokens of a chunk, in parts of one sign: with n the first token
    of the later sub-chunk, up_i = Σ_{n<m≤i} and down_j = Σ_{j<m≤n} for those of different
    sub-chunks, near_ij for those of one.
    """

    def __init__(self, g_xCK: torch.Tensor):
        self.C = C = g_xCK.shape[-2]
        self.s = s = min(SUB, C)
        self.A = A = -(-C // s)
        g_xtK = self.padded(g_xCK)
        t = torch.arange(A * s, device=g_xCK.device)
        n_A, (i, j) = t[::s], (t[:s].repeat_interleave(s), t[:s].repeat(s))
        self.up_xtK = _sums(g_xtK, n_A.repeat_interleave(s), t)
        down_xRK = _sums(g_xtK, t.repeat(A), n_A.repeat_interleave(A * s))
        self.down_xAtK = down_xRK.unflatten(-2, (A, A * s))
        self.earlier_At = t < n_A[:, None]
        self.near_xAssK = _sums(self.split(g_xtK), j, i).unflatten(-2, (s, s))
        self.same_A1A1 = torch.eye(A, dtype=torch.bool, device=t.device)[
            :, None, :, None
        ]

    def padded(self, x_xCK: torch.Tensor) -> torch.Tensor:
        """Zeros behind the chunk, up to whole sub-chunks."""
        return F.pad(x_xCK, (0, 0, 0, self.A * self.s - self.C))

    def split(self, x_xtK: torch.Tensor) -> torch.Tensor:
        """By sub-chunks, x_xAsK."""
        return x_xtK.unflatten(-2, (self.A, self.s))

    def joined(self, near_xAss: torch.Tensor, far_xAst: torch.Tensor) -> torch.Tensor:
        """One matrix x_xCC, near within the sub-chunks, far between them."""
        far_xAsAs = far_xAst.unflatten(-1, (self.A, self.s))
        x_xAsAs = torch.where(self.same_A1A1, near_xAss[..., None, :], far_xAsAs)
        return x_xAsAs.flatten(-2).flatten(-3, -2)[..., : self.C, : self.C]


class HeadDecay:
    """One decay for all channels of a head; g_xC1."""

    def __init__(self, g_xC1: torch.Tensor):
        self.since, self.until = _ends(g_xC1)
        pairs = _Pairs(g_xC1)
        up_xAs1 = pairs.split(pairs.up_xtK)
        down_xA1t = pairs.down_xAtK.transpose(-1, -2)
        exponent = pairs.joined(pairs.near_xAssK[..., 0], up_xAs1 + down_xA1t)
        self.pairs_xCC = torch.exp(exponent)

    def scores(self, left_xCK: torch.Tensor, right_xCK: torch.Tensor) -> torch.Tensor:
        """(left_i · right_j) exp(Σ_{j<m≤i} g_m), of use where j ≤ i."""
        return left_xCK @ right_xCK.transpose(-1, -2) * self.pairs_xCC


class ChannelDecay:
    """A decay for each channel; g_xCK. Products of tokens in different sub-chunks are
    anchored at the first token of the later one, (left_i ⊙ exp up_i) · (right_j ⊙ exp
    down_j); in one, each pair takes K exponentials (2312.06635, section 4).
    """

    def __init__(self, g_xCK: torch.Tensor):
        self.since, self.until = _ends(g_xCK)
        self.pairs = pairs = _Pairs(g_xCK)
        self.up_xtK, self.near_xAssK = torch.exp(pairs.up_xtK), torch.exp(
            pairs.near_xAssK
        )
        earlier_At1 = pairs.earlier_At[..., None]
        self.down_xAtK = torch.where(earlier_At1, torch.exp(pairs.down_xAtK), 0.0)

    def scores(self, left_xCK: torch.Tensor, right_xCK: torch.Tensor) -> torch.Tensor:
        """Σ_k left_ik right_jk exp(Σ_{j<m≤i} g_mk), of use where j ≤ i."""
        pairs = self.pairs
        left_xtK, right_xtK = pairs.padded(left_xCK), pairs.padded(right_xCK)
        up_xAsK = pairs.split(left_xtK * self.up_xtK)
        down_xAtK = right_xtK[..., None, :, :] * self.down_xAtK
        right_xA1sK = pairs.split(right_xtK)[..., None, :, :]
        near_xAss1 = (self.near_xAssK * right_xA1sK) @ pairs.split(left_xtK)[..., None]
        return pairs.joined(near_xAss1[..., 0], up_xAsK @ down_xAtK.transpose(-1, -2))


class NoDecay:
    """g = 0."""

    since = until = None

    def scores(self, left_xCK: torch.Tensor, right_xCK: torch.Tensor) -> torch.Tensor:
        """left_i · right_j."""
        return left_xCK @ right_xCK.transpose(-1, -2)


def _ends(g_xCK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp Σ_{m≤i} g_m from before the chunk, exp Σ_{j<m} g_m to its end."""
    t_C = torch.arange(g_xCK.shape[-2], device=g_xCK.device)
    before_C, end_C = torch.full_like(t_C, -1), torch.full_like(t_C, len(t_C) - 1)
    since_xCK = torch.exp(_sums(g_xCK, before_C, t_C))
    return since_xCK, torch.exp(_sums(g_xCK, t_C, end_C))
