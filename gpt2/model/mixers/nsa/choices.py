"""What native sparse attention chooses and how its gate weighs: for metrics and proofs.

Legend: B batch, T tokens, H query heads, G key/value heads, g = H / G, C compression
blocks, J selection blocks, N chosen ones, X heads or groups that choose, D head width,
K distances, m branches; c is a query's own block.
"""

from typing import NamedTuple

import torch

from gpt2.model.mixers.nsa.projection import Projection
from gpt2.model.mixers.statistic import Statistic, mean, per_head
from gpt2.model.values import Positions
from kernels.nsa import BRANCHES, NsaSpec, grid
from kernels.nsa.reference import (
    Queries,
    choose,
    compressed_visible,
    compressed_weights,
    importance,
)

PIXELS = 24
"""Rows and columns of a map at most: means of what lies in one."""


class Choice(NamedTuple):
    """weights_BTHC: p^c, 0 where a block is not visible. scores_BTXJ: p^s, and
    blocks_BTXN, those that are read (-1: fewer); both None without selection. own_BT: c.
    """

    weights_BTHC: torch.Tensor
    scores_BTXJ: torch.Tensor | None
    blocks_BTXN: torch.Tensor | None
    own_BT: torch.Tensor


def choice_of(
    projection: Projection, x_BTE: torch.Tensor, positions: Positions
) -> Choice:
    """The weights and the choice that a forward pass makes of x, all queries at once."""
    spec, T = projection.spec, x_BTE.shape[1]
    made, starts_BT = projection(x_BTE, positions), positions.starts_BT
    rows = None if starts_BT is None else grid(starts_BT, spec)
    k_BCGD = projection.compressed(made.phi, 0, rows)[0]
    at = Queries.at(0, T, x_BTE.device, rows)
    q_BTHD = made.q_BnHD if made.q_cmp_BnHD is None else made.q_cmp_BnHD
    p_BGTgC = compressed_weights(q_BTHD, k_BCGD, compressed_visible(at, spec))
    weights_BTHC = p_BGTgC.transpose(1, 2).flatten(2, 3)
    own_BT = (at.u_Bm // spec.block).expand(x_BTE.shape[0], T)
    if "sel" not in spec.branches:
        return Choice(weights_BTHC, None, None, own_BT)
    scores = importance(p_BGTgC, at, spec)
    return Choice(weights_BTHC, scores, choose(p_BGTgC, at, spec), own_BT)


def choice_statistics(found: Choice, spec: NsaSpec) -> dict[str, Statistic]:
    """Of the queries that leave a block out (c >= n), none where all read every block.

    choice_distance: share of the blocks that were chosen, not forced, by c - j: 0, 1, 2–3,
    4–7, …; over all heads. choice_mass: share of p^s that those hold; choice_overlap:
    share of a query's blocks that the query before it reads as well; by X.
    """
    if found.blocks_BTXN is None:
        return {}
    score_BTXJ, own_BT11 = found.scores_BTXJ.double(), found.own_BT[..., None, None]
    j_J = torch.arange(score_BTXJ.shape[3], device=own_BT11.device)
    read_BTXJ = (found.blocks_BTXN[..., None] == j_J).any(dim=3)
    back_BTXJ = (own_BT11 - j_J).expand_as(read_BTXJ)
    free_BTXJ = read_BTXJ
    if spec.forced:
        near_BTXJ = (j_J == 0) | (back_BTXJ == 0) | (back_BTXJ == 1)
        free_BTXJ = read_BTXJ & ~near_BTXJ
    leaves_BT = found.own_BT >= spec.top
    free_BTXJ = free_BTXJ & leaves_BT[..., None, None]
    bins = (len(j_J) - 1).bit_length() + 1
    place_F = back_BTXJ[free_BTXJ].clamp(min=0)
    place_F = torch.frexp(place_F.double()).exponent.long()
    count_K = torch.bincount(place_F, minlength=bins).double()
    held_BTX = (score_BTXJ * free_BTXJ).sum(3) / score_BTXJ.sum(3).clamp(min=1e-30)
    both_BT = leaves_BT[:, 1:] & leaves_BT[:, :-1]
    again_BTX = (read_BTXJ[:, 1:] & read_BTXJ[:, :-1]).sum(dim=3) / spec.top
    return {
        "choice_distance": Statistic((count_K, count_K.sum())),
        "choice_mass": _mean_where(held_BTX, leaves_BT),
        "choice_overlap": _mean_where(again_BTX, both_BT),
    }


def gate_moments(gate_BTHm: torch.Tensor, names: tuple[str, ...]) -> dict:
    """gate_NAME and gate_NAME_sd: mean and deviation of γ over the queries, by head;
    gate_entropy: -Σ γ̂ ln γ̂ in nats, γ̂ = γ / Σ γ over the branches.
    """
    gate_BHTm = gate_BTHm.transpose(1, 2).double()
    found = {}
    for name, gate_BHT in zip(names, gate_BHTm.unbind(dim=3), strict=True):
        average = mean(gate_BHT)
        squares_H = per_head(gate_BHT.square())
        found[f"gate_{name}"] = average
        found[f"gate_{name}_sd"] = Statistic((*average.sums, squares_H), _deviation)
    share_BHTm = gate_BHTm / gate_BHTm.sum(dim=3, keepdim=True)
    found["gate_entropy"] = mean(torch.special.entr(share_BHTm).sum(dim=3))
    return found


def read_statistics(
    reads_BT3: torch.Tensor, starts_BT: torch.Tensor | None
) -> dict[str, Statistic]:
    """reads_NAME: keys that a query has read in a branch, counted where they were read;
    reads_all: those that dense attention reads, all tokens of its document up to its
    own. The mean over the queries, of a layer.
    """
    T = reads_BT3.shape[1]
    all_T = torch.arange(1, T + 1, device=reads_BT3.device)
    all_BT = all_T if starts_BT is None else all_T - starts_BT
    counted = (*reads_BT3.unbind(dim=2), all_BT.expand(reads_BT3.shape[:2]))
    found = {}
    for name, count_BT in zip((*BRANCHES, "all"), counted, strict=True):
        total = count_BT.sum(dtype=torch.float64)
        if total:
            found[f"reads_{name}"] = Statistic(
                (total, torch.full_like(total, count_BT.numel()))
            )
    return found


def maps_of(found: Choice) -> dict[str, torch.Tensor]:
    """p^c, queries down and compression blocks across, the mean over the heads; p^s,
    selection blocks across, as shares of their sum, the mean over what chooses: of the
    first sequence, at most PIXELS each way.
    """
    drawn = {"compressed": found.weights_BTHC[0].mean(dim=1)}
    if found.scores_BTXJ is not None:
        score_TXJ = found.scores_BTXJ[0]
        score_TXJ = score_TXJ / score_TXJ.sum(dim=2, keepdim=True).clamp(min=1e-30)
        drawn["selected"] = score_TXJ.mean(dim=1)
    return {name: _coarse(map_TS) for name, map_TS in drawn.items() if map_TS.numel()}


def _coarse(map_TS: torch.Tensor) -> torch.Tensor:
    size = tuple(min(n, PIXELS) for n in map_TS.shape)
    return torch.nn.functional.adaptive_avg_pool2d(map_TS[None, None], size)[0, 0]


def _mean_where(x_BTX: torch.Tensor, where_BT: torch.Tensor) -> Statistic:
    """The mean over the queries that are asked for, by X."""
    total_X = (x_BTX * where_BT[..., None]).sum(dim=(0, 1), dtype=torch.float64)
    return Statistic((total_X, torch.full_like(total_X, int(where_BT.sum()))))


def _deviation(
    total_H: torch.Tensor, count_H: torch.Tensor, squares_H: torch.Tensor
) -> torch.Tensor:
    variance_H = squares_H / count_H - (total_H / count_H).square()
    return variance_H.clamp(min=0).sqrt()
