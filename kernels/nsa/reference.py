"""Native sparse attention in plain torch, by gathers: the definition that fast paths
are held to.

The n queries are the last of S positions: query i stands at t = S - n + i. In training
n = S = T, in a decode n is the new tokens. They are taken some at a time, so that
nothing here grows with S² but the compressed scores of a few queries; what backward
needs of them is computed again.

Legend: B batch, n queries, S tokens so far, C compression blocks, J selection blocks, N
selected ones, H query heads, G key/value heads, g = H / G, X heads that choose (G, or H
where each chooses), K width of queries and keys, V of values, s tokens that are read,
t/s query/key position, u the position of a query in its document.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from kernels.nsa.blocks import Grid, gathered
from kernels.nsa.spec import BRANCHES, NsaSpec

AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Values that some queries gather and score at most, together."""
KEPT = 1 << 22
"""So few are kept for backward as they are."""
NONE = -1
"""In the place of a block that a query does not have."""

Tensor = torch.Tensor


class Memory(NamedTuple):
    """Keys and values of the branches, None where there is none. cmp: of the
    compression blocks (v None where they serve the choice alone); sel: of all tokens;
    win: of the last ones, those that the window of the first query holds at least.
    """

    k_cmp: Tensor | None = None
    v_cmp: Tensor | None = None
    k_sel: Tensor | None = None
    v_sel: Tensor | None = None
    k_win: Tensor | None = None
    v_win: Tensor | None = None


class Queries(NamedTuple):
    """The positions of some queries, which end before `end`, and the documents of their
    rows.
    """

    t_m: Tensor
    end: int
    rows: Grid | None = None

    @classmethod
    def at(cls, place: int, count: int, device: torch.device, rows: Grid | None):
        """From `place` on."""
        end = place + count
        return cls(torch.arange(place, end, device=device), end, rows)

    @property
    def starts_Bm(self) -> Tensor | None:
        """The first token of each one's document; None: of the row."""
        return None if self.rows is None else self.rows.starts_BT[:, self.t_m]

    @property
    def u_Bm(self) -> Tensor:
        """Positions in the document, (1, m) where a row is one."""
        return self.t_m[None] if self.rows is None else self.t_m - self.starts_Bm


class Mixed(NamedTuple):
    """What a query takes from every branch: o_BnHV by spec.branches; the blocks that
    were read, choice_BnXN (NONE: fewer), None without selection; and how many keys
    were, reads_Bn3 by BRANCHES, the mean over the heads that read.
    """

    o: tuple[Tensor, ...]
    choice: Tensor | None
    reads_Bn3: Tensor


def attend(
    q_BnHK: Tensor,
    memory: Memory,
    spec: NsaSpec,
    total: int,
    rows: Grid | None = None,
    q_cmp_BnHK: Tensor | None = None,
) -> Mixed:
    """All branches for the last n of `total` positions. rows: the documents of rows
    that are read from their beginning (n = S); None: each is one. q_cmp: what meets the
    compressed keys, where that is not q.

    Raises ValueError for sizes that do not fit each other.
    """
    spec.check()
    n = q_BnHK.shape[1]
    values = n * _values_per_query(q_BnHK, memory, spec, total)
    size = _at_once(n, values, q_BnHK.device.type)
    if isinstance(q_BnHK, FakeTensor):  # counted, not computed: nothing to spare
        size = max(1, n)
    learns = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (q_BnHK, *memory)
    )
    parts = []
    for first in range(0, n, size):
        q_BmHK, meets = q_BnHK[:, first : first + size], None
        if q_cmp_BnHK is not None:
            meets = q_cmp_BnHK[:, first : first + size]
        place = total - n + first
        some = partial(_some, spec=spec, place=place, total=total, rows=rows)
        if learns and values > KEPT:
            kept = {"use_reentrant": False, "preserve_rng_state": False}
            parts.append(checkpoint(some, q_BmHK, meets, *memory, **kept))
        else:
            parts.append(some(q_BmHK, meets, *memory))
    outs, choices, reads = zip(*parts)
    o = tuple(torch.cat(each, dim=1) for each in zip(*outs))
    choice = None if choices[0] is None else _widest(choices)
    return Mixed(o, choice, torch.cat(reads, dim=1))


def last_part(
    q_BTHK: Tensor,
    memory: Memory,
    spec: NsaSpec,
    q_cmp_BTHK: Tensor | None,
    device: str,
) -> tuple[Tensor, ...]:
    """o_BmHV by spec.branches of the last queries of whole rows, so many as `attend`
    takes at once on such a device; none where it keeps for backward what it gathers.
    """
    T = q_BTHK.shape[1]
    values = T * _values_per_query(q_BTHK, memory, spec, T)
    if values <= KEPT:
        return ()
    place = max(T - _at_once(T, values, device), 0)
    meets = None if q_cmp_BTHK is None else q_cmp_BTHK[:, place:]
    given = {"spec": spec, "place": place, "total": T, "rows": None}
    return _some(q_BTHK[:, place:], meets, *memory, **given)[0]


def _at_once(n: int, values: int, device: str) -> int:
    """Queries of n that gather and score `values` together."""
    return max(1, AT_ONCE[device] * n // max(values, 1))


def _values_per_query(q: Tensor, memory: Memory, spec: NsaSpec, total: int) -> int:
    """Values that a query gathers, and its scores."""
    B, _, H, K = q.shape
    values = 0
    if spec.scores:
        values += H * spec.compressed(total)
    if "sel" in spec.branches:
        read = min(spec.top * spec.block, total + spec.block)
        heads = H if spec.per_head else memory.k_sel.shape[2]
        values += read * (heads * (K + memory.v_sel.shape[3]) + H)
    if "win" in spec.branches:
        values += H * min(2 * spec.window, total)
    return B * values


def _widest(choices: tuple[Tensor, ...]) -> Tensor:
    """Early queries have fewer blocks: the same number of places for all."""
    most = max(choice.shape[3] for choice in choices)
    padded = (F.pad(c, (0, most - c.shape[3]), value=NONE) for c in choices)
    return torch.cat(tuple(padded), dim=1)


def _some(
    q_BmHK: Tensor,
    q_cmp_BmHK: Tensor | None,
    *tensors: Tensor | None,
    spec: NsaSpec,
    place: int,
    total: int,
    rows: Grid | None,
) -> tuple[tuple[Tensor, ...], Tensor | None, Tensor]:
    """The same for the queries at place, place + 1, …."""
    memory, shape = Memory(*tensors), q_BmHK.shape[:2]
    at = Queries.at(place, shape[1], q_BmHK.device, rows)
    o, choice, reads = [], None, dict.fromkeys(BRANCHES, at.t_m.new_zeros(1, 1))
    if spec.scores:
        seen = compressed_visible(at, spec)
        k_BCGK = memory.k_cmp[:, : seen.shape[-1]]
        meets = q_BmHK if q_cmp_BmHK is None else q_cmp_BmHK
        p_BGmgC = compressed_weights(meets, k_BCGK, seen)
        reads["cmp"] = seen.sum(dim=-1)
    if "cmp" in spec.branches:
        o.append(_mixed(p_BGmgC, memory.v_cmp[:, : seen.shape[-1]]))
    if "sel" in spec.branches:
        choice = choose(p_BGmgC, at, spec)
        o_BmHV, read_BmXs = selected(q_BmHK, memory, choice, at, spec)
        o.append(o_BmHV)
        reads["sel"] = read_BmXs.sum(dim=-1).float().mean(dim=-1)
    if "win" in spec.branches:
        o_BmHV, near = windowed(q_BmHK, memory, at, total, spec)
        o.append(o_BmHV)
        reads["win"] = near.sum(dim=-1)
    reads_Bm3 = torch.stack([r.float().expand(shape) for r in reads.values()], dim=-1)
    return tuple(o), choice, reads_Bm3


def compressed_visible(at: Queries, spec: NsaSpec) -> Tensor:
    """mask_mC or, with documents, mask_BmC: block i ends at or before t, i d + l - 1 <= t,
    and lies in t's document. C: as far as the last query sees.
    """
    count, t_m1 = spec.compressed(at.end), at.t_m[:, None]
    if at.rows is None:
        i_C = torch.arange(count, device=t_m1.device)
        return i_C * spec.stride + spec.length - 1 <= t_m1
    first_B1C = at.rows.first_BC[:, None, :count]
    ended_BmC = first_B1C + spec.length - 1 <= t_m1
    return ended_BmC & (first_B1C >= at.starts_Bm[..., None])


def compressed_weights(q_BmHK: Tensor, k_BCGK: Tensor, mask: Tensor) -> Tensor:
    """p_BGmgC = softmax over the visible blocks alone, in fp32 at least as the scores are:
    in 16 bits they would tie. All 0 where no block is visible.
    """
    wide = torch.promote_types(q_BmHK.dtype, torch.float32)
    mask = _for_heads(mask)
    p_BGmgC = _softmax(_scores(q_BmHK.to(wide), k_BCGK.to(wide)), mask)
    return p_BGmgC.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)


@torch.no_grad()
def choose(p_BGmgC: Tensor, at: Queries, spec: NsaSpec) -> Tensor:
    """The blocks choice_BmXN that a query reads, by falling importance, those that are
    forced first: block 0, its own c = ⌊u/b⌋ and c - 1, each once; min(n, c + 1) of them,
    NONE behind. Of equal ones the lower index.
    """
    most = spec.candidates(at.end)
    score_BmXJ = importance(p_BGmgC, at, spec)
    own_Bm11 = at.u_Bm[..., None, None] // spec.block
    j_J = torch.arange(most, device=own_Bm11.device)
    if spec.forced:
        near = (j_J == 0) | ((own_Bm11 - j_J >= 0) & (own_Bm11 - j_J <= 1))
        score_BmXJ = score_BmXJ.masked_fill(near, math.inf)
    score_BmXJ = score_BmXJ.masked_fill(j_J > own_Bm11, NONE)
    score, block = score_BmXJ.sort(dim=-1, descending=True, stable=True)
    taken = min(spec.top, most)
    return block[..., :taken].masked_fill(score[..., :taken] < 0, NONE)


def importance(p_BGmgC: Tensor, at: Queries, spec: NsaSpec) -> Tensor:
    """p^s_t[j] = Σ_i p^c_t[i] |block i ∩ block j| / l as score_BmXJ (eq. 9), summed over
    the heads of a group (eq. 10) unless each chooses.

    With d | l and d | b block j meets the same (b + l) / d - 1 compression blocks around
    it, with the same shares.
    """
    l, d, b = spec.length, spec.stride, spec.block
    if not spec.per_head:
        p_BGmgC = p_BGmgC.sum(dim=3, keepdim=True)
    p_BmXC = p_BGmgC.transpose(1, 2).flatten(2, 3)
    C = p_BmXC.shape[3]
    if at.rows is not None and C:
        place_BmC = at.rows.before_BT[:, at.t_m][..., None]
        place_BmC = place_BmC + torch.arange(C, device=place_BmC.device)
        there_Bm1C = (place_BmC < C)[:, :, None]
        place_Bm1C = place_BmC.clamp(max=C - 1)[:, :, None]
        p_BmXC = p_BmXC.gather(3, place_Bm1C.expand_as(p_BmXC)) * there_Bm1C
    early, meets, step = l // d - 1, (b + l) // d - 1, b // d
    late = (spec.candidates(at.end) - 1) * step + meets - early - C
    around_BmXJe = F.pad(p_BmXC, (early, late)).unfold(3, meets, step)
    begins = [(e - early) * d for e in range(meets)]
    shares = [(min(i + l, b) - max(i, 0)) / l for i in begins]
    return (around_BmXJe * around_BmXJe.new_tensor(shares)).sum(dim=-1)


def selected(
    q_BmHK: Tensor, memory: Memory, choice_BmXN: Tensor, at: Queries, spec: NsaSpec
) -> tuple[Tensor, Tensor]:
    """o_BmHV of the tokens up to t in the chosen blocks, and which of the places of
    these blocks were read, mask_BmXs.
    """
    inside_b = torch.arange(spec.block, device=at.t_m.device)
    token_BmXs = (choice_BmXN[..., None] * spec.block + inside_b).flatten(3)
    if at.rows is not None:
        token_BmXs = token_BmXs + at.starts_Bm[..., None, None]
    there_BmXs = (choice_BmXN != NONE).repeat_interleave(spec.block, dim=3)
    read_BmXs = there_BmXs & (token_BmXs <= at.t_m[:, None, None])
    token_BmXs = torch.where(read_BmXs, token_BmXs, 0)
    k_BmXsK = gathered(memory.k_sel, token_BmXs)
    v_BmXsV = gathered(memory.v_sel, token_BmXs)
    q_BmXgK = q_BmHK.unflatten(2, (token_BmXs.shape[2], -1))
    s_BmXgs = q_BmXgK @ k_BmXsK.transpose(3, 4) / math.sqrt(q_BmHK.shape[3])
    p_BmXgs = _softmax(s_BmXgs, read_BmXs[:, :, :, None])
    return (p_BmXgs.to(v_BmXsV.dtype) @ v_BmXsV).flatten(2, 3), read_BmXs


def windowed(
    q_BmHK: Tensor, memory: Memory, at: Queries, total: int, spec: NsaSpec
) -> tuple[Tensor, Tensor]:
    """o_BmHV of the last min(w, t + 1) tokens, of t's document alone, and which of those
    that the queries share each one reads, mask_ms or mask_Bms.
    """
    before = total - memory.k_win.shape[1]
    first = max(at.end - len(at.t_m) - spec.window + 1, before)
    s_s = torch.arange(first, at.end, device=at.t_m.device)
    back_ms = at.t_m[:, None] - s_s
    mask = (back_ms >= 0) & (back_ms < spec.window)
    if at.rows is not None:
        mask = mask & (s_s >= at.starts_Bm[..., None])
    held = slice(first - before, at.end - before)
    p_BGmgs = _softmax(_scores(q_BmHK, memory.k_win[:, held]), _for_heads(mask))
    return _mixed(p_BGmgs, memory.v_win[:, held]), mask


def _for_heads(mask: Tensor) -> Tensor:
    """mask_ms or mask_Bms beside scores of (B, G, m, g, s)."""
    return mask[..., None, :] if mask.dim() == 2 else mask[:, None, :, None]


def _scores(q_BmHK: Tensor, k_BsGK: Tensor) -> Tensor:
    """q · k / √K as s_BGmgs, in fp32 at least; head h reads key head h // g."""
    m, G = q_BmHK.shape[1], k_BsGK.shape[2]
    q_BGmgK = q_BmHK.unflatten(2, (G, -1)).transpose(1, 2)
    k_BGKs = k_BsGK.permute(0, 2, 3, 1)
    s_BGrs = q_BGmgK.flatten(2, 3) @ k_BGKs / math.sqrt(q_BmHK.shape[3])
    wide = torch.promote_types(s_BGrs.dtype, torch.float32)
    return s_BGrs.to(wide).unflatten(2, (m, -1))


def _softmax(s: Tensor, mask: Tensor) -> Tensor:
    """Over the last dimension where the mask is, in fp32 at least; 0 elsewhere in a row
    in which it is anywhere.
    """
    s = s.to(torch.promote_types(s.dtype, torch.float32))
    return s.masked_fill(~mask, torch.finfo(s.dtype).min).softmax(dim=-1)


def _mixed(p_BGmgs: Tensor, v_BsGV: Tensor) -> Tensor:
    """Σ p v as o_BmHV, in the values' type."""
    m = p_BGmgs.shape[2]
    p_BGrs = p_BGmgs.flatten(2, 3).to(v_BsGV.dtype)
    o_BGrV = p_BGrs @ v_BsGV.transpose(1, 2)
    return o_BGrV.unflatten(2, (m, -1)).transpose(1, 2).flatten(2, 3)
