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


def _sums(g_xCK: torch.Tensor, above_R: torch.Tensor, upto_R: torch.Tensor):
    """Σ g_m over above < m ≤ upto, (…, R, K)."""
    m_C = torch.arange(g_xCK.shape[-2], device=g_xCK.device)
    taken_RC = (above_R[:, None] < m_C) & (m_C <= upto_R[:, None])
    return taken_RC.to(g_xCK.dtype) @ g_xCK


class HeadDecay:
    """One decay for all channels of a head; g_xC1."""

    def __init__(self, g_xC1: torch.Tensor):
        C = g_xC1.shape[-2]
        t_C = torch.arange(C, device=g_xC1.device)
        self.since, self.until = _ends(g_xC1)
        i, j = t_C.repeat_interleave(C), t_C.repeat(C)
        self.pairs_xCC = torch.exp(_sums(g_xC1, j, i)).unflatten(-2, (C, C))[..., 0]

    def scores(self, left_xCK: torch.Tensor, right_xCK: torch.Tensor) -> torch.Tensor:
        """(left_i · right_j) exp(Σ_{j<m≤i} g_m), of use where j ≤ i."""
        return left_xCK @ right_xCK.transpose(-1, -2) * self.pairs_xCC


class ChannelDecay:
    """A decay for each channel; g_xCK. Products of tokens in different sub-chunks are
    anchored at the first token n of the later one,

        (left_i ⊙ exp Σ_{n<m≤i} g_m) · (right_j ⊙ exp Σ_{j<m≤n} g_m);

    in the same one, each pair takes the exponentials of its own (2312.06635, section 4).
    """

    def __init__(self, g_xCK: torch.Tensor):
        self.C = C = g_xCK.shape[-2]
        self.since, self.until = _ends(g_xCK)
        self.s = s = min(SUB, C)
        self.A = A = -(-C // s)
        g_xtK = self._padded(g_xCK)
        t = torch.arange(A * s, device=g_xCK.device)
        n_A = t[::s]
        self.up_xtK = torch.exp(_sums(g_xtK, n_A.repeat_interleave(s), t))
        down_xAtK = torch.exp(
            _sums(g_xtK, t.repeat(A), n_A.repeat_interleave(A * s))
        ).unflatten(-2, (A, A * s))
        earlier_At1 = (t < n_A[:, None])[..., None]
        self.down_xAtK = torch.where(earlier_At1, down_xAtK, 0.0)
        i, j = t[:s].repeat_interleave(s), t[:s].repeat(s)
        near_xARK = torch.exp(_sums(self._split(g_xtK), j, i))
        self.near_xAssK = near_xARK.unflatten(-2, (s, s))
        self.same_A1A1 = torch.eye(A, dtype=torch.bool, device=t.device)[
            :, None, :, None
        ]

    def scores(self, left_xCK: torch.Tensor, right_xCK: torch.Tensor) -> torch.Tensor:
        """Σ_k left_ik right_jk exp(Σ_{j<m≤i} g_mk), of use where j ≤ i."""
        left_xtK, right_xtK = self._padded(left_xCK), self._padded(right_xCK)
        up_xAsK = self._split(left_xtK * self.up_xtK)
        down_xAtK = right_xtK[..., None, :, :] * self.down_xAtK
        far_xAst = up_xAsK @ down_xAtK.transpose(-1, -2)
        right_xA1sK = self._split(right_xtK)[..., None, :, :]
        near_xAss1 = (self.near_xAssK * right_xA1sK) @ self._split(left_xtK)[..., None]
        near_xAs1s = near_xAss1.transpose(-1, -2)
        far_xAsAs = far_xAst.unflatten(-1, (self.A, self.s))
        scores_xAsAs = torch.where(self.same_A1A1, near_xAs1s, far_xAsAs)
        return scores_xAsAs.flatten(-2).flatten(-3, -2)[..., : self.C, : self.C]

    def _padded(self, x_xCK: torch.Tensor) -> torch.Tensor:
        """Zeros behind the chunk, up to whole sub-chunks."""
        return F.pad(x_xCK, (0, 0, 0, self.A * self.s - self.C))

    def _split(self, x_xtK: torch.Tensor) -> torch.Tensor:
        return x_xtK.unflatten(-2, (self.A, self.s))


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
