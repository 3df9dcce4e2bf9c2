"""A whole NSA layer (2502.11089) over one sequence, query by query and head by head.

Float64, from the formulas alone; shares no code with gpt2/ or kernels/. Autograd runs
through all of it but the choice of blocks. Legend: options.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.oracles.nsa.blocks import block_scores, choice, chosen_tokens
from tests.oracles.nsa.blocks import compressed_blocks, group_scores, window_tokens
from tests.oracles.nsa.compression import compressed, compressed_key, rotated
from tests.oracles.nsa.options import Options, Weights
from tests.oracles.scalars import sigmoid


@dataclass
class Heads:
    """Of one token. q: H queries as the branches meet them (rotated where there is
    RoPE); q_cmp: as K^c meets them. k, v: of a branch, G vectors each; raw: the keys
    that φ reads, its values are v["cmp"].
    """

    q: list[Tensor]
    q_cmp: list[Tensor]
    raw: list[Tensor]
    k: dict[str, list[Tensor]] = field(default_factory=dict)
    v: dict[str, list[Tensor]] = field(default_factory=dict)


def split(y: Tensor, count: int) -> list[Tensor]:
    """Equal parts: head h is the h-th."""
    width = y.shape[0] // count
    return [y[h * width : (h + 1) * width] for h in range(count)]


def heads(x_E: Tensor, t: int, weights: Weights, options: Options) -> Heads:
    """q = x W_q + b_q, k and v of each branch from matrices of its own (§3.3.3), of
    token t of its document. RoPE turns q and every k by t; v never.
    """

    def projected(name: str, count: int) -> list[Tensor]:
        bias = weights[f"{name}.bias"] if options.bias else None
        return split(affine(x_E, weights[name], bias), count)

    def turned(vectors: list[Tensor]) -> list[Tensor]:
        return [rotated(x_D, t, options.rope_base) for x_D in vectors]

    plain = projected("q", options.H)
    found = Heads(turned(plain), turned(plain), [])
    for branch in options.branches:
        key = projected(options.name("k", branch), options.G)
        found.k[branch] = turned(key)
        found.v[branch] = projected(options.name("v", branch), options.G)
        reads = branch == ("cmp" if "cmp" in options.branches else "sel")
        if reads:
            found.raw = turned(key) if options.phi_rope == "before" else key
    if options.phi_rope == "none":
        found.q_cmp = plain
    return found


def softmax(x: Tensor) -> Tensor:
    """e^{x_i} / Σ_j e^{x_j} of a row."""
    exps = torch.exp(x - max(x.tolist()))
    return exps / exps.sum()


def probabilities(q_D: Tensor, keys: Sequence[Tensor]) -> Tensor:
    """softmax(q·k_i / √d_k) over these keys; an empty row of none (Eq. 8, with the
    scale that it does not print). Equal keys have equal probabilities, bit for bit.
    """
    if not keys:
        return q_D.new_zeros(0)
    return softmax((torch.stack(list(keys)) * q_D).sum(1) / math.sqrt(q_D.shape[0]))


def weighted(p: Tensor, values: Sequence[Tensor], width: int) -> Tensor:
    """Σ_i p_i v_i, a vector of this width; 0 where there is nothing to sum."""
    assert p.shape[0] == len(values), "one weight for each value"
    return p @ torch.stack(list(values)) if values else p.new_zeros(width)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y_o = Σ_i weight_oi x_i + bias_o."""
    return weight @ x if bias is None else weight @ x + bias


def gates(x_E: Tensor, q: list[Tensor], weights: Weights, options: Options) -> Tensor:
    """γ_Hm of one token (Eq. 5).

    sigmoid: σ(W_h x + b_h). softmax: of W2 silu(W1 q̄ + b1) + b2, q̄ the mean of the
    rotated queries of the head's group, τ = 1. fixed: 1/m; also a softmax of one.
    force_branch: 1 for it, 0 for the others, whatever the gate.
    """
    o, m = options, len(options.branches)
    if o.force_branch is not None:
        row = [float(name == o.force_branch) for name in o.branches]
        return x_E.new_tensor([row] * o.H)
    if not o.gated:
        return x_E.new_full((o.H, m), 1 / m)
    if o.gate == "sigmoid":
        heads = zip(weights["gate.w"], weights["gate.b"])
        return torch.stack([sigmoid(affine(x_E, *head)) for head in heads])
    rows = []
    for group in range(o.G):
        members = q[group * o.group : (group + 1) * o.group]
        mean_D = sum(members) / o.group
        u = affine(mean_D, weights["gate.w1"], weights["gate.b1"])
        row = affine(u * sigmoid(u), weights["gate.w2"], weights["gate.b2"])
        rows += [softmax(row)] * o.group
    return torch.stack(rows)


def chosen_blocks(
    p_cmp: Sequence[Tensor], t: int, options: Options
) -> tuple[list[list[float]], list[list[int]]]:
    """p^s (Eq. 9, 10) and the choice (Eq. 11) of every head for query t from the heads'
    p^c; equal for the heads of a group, but with per_head. Constants: no gradient
    passes.
    """
    o, c = options, t // options.b
    alone = [block_scores(row.tolist(), c + 1, o.l, o.d, o.b) for row in p_cmp]
    scores = []
    for h in range(o.H):
        first = h // o.group * o.group
        together = group_scores(alone[first : first + o.group])
        scores.append(alone[h] if o.per_head else together)
    return scores, [choice(row, o.n, o.forced) for row in scores]


@dataclass
class Forward:
    """y_TE, and what it is made of: out[branch] and mixed (T, H, d_v), gates (T, H, m);
    of query t and head h: p_cmp[t][h], p^c over its C(S) blocks; p_sel[t][h], the
    scores that its choice is by; chosen[t][h], blocks of its document (empty without
    sel). K_cmp, V_cmp: {(document's first token, i): G vectors}.
    """

    y_TE: Tensor
    out: dict[str, Tensor]
    mixed: Tensor
    gates: Tensor
    p_cmp: list[list[Tensor]]
    p_sel: list[list[list[float]]]
    chosen: list[list[list[int]]]
    K_cmp: dict[tuple[int, int], list[Tensor]]
    V_cmp: dict[tuple[int, int], list[Tensor]]


def forward(
    x_TE: Tensor,
    weights: Weights,
    options: Options,
    starts_T: Sequence[int] | None = None,
) -> Forward:
    """y_t = W_o (Σ_c γ^c_t o^c_t) + b_o (Eq. 5) with

    o^c over the C(S) compressed blocks that end at or before t, 0 before the first;
    o^s over the tokens <= t of the chosen blocks with k^s, v^s; o^w over the last
    min(w, S) with k^w, v^w. γ is never renormalised. starts_T[t]: the first token of
    t's document, where its positions, blocks and windows begin.
    """
    T, o = x_TE.shape[0], options
    starts = [0] * T if starts_T is None else [int(first) for first in starts_T]
    of = [heads(x_TE[t], t - starts[t], weights, o) for t in range(T)]
    K_cmp, V_cmp = _compressed(of, starts, weights, o) if o.compresses else ({}, {})
    out = {branch: [] for branch in o.branches}
    mixed, gamma, p_cmp, p_sel, chosen, y = [], [], [], [], [], []
    for row, first in enumerate(starts):
        t = row - first
        M = compressed_blocks(t + 1, o.l, o.d) if o.compresses else 0
        K = [K_cmp[first, i] for i in range(M)]
        p = [
            probabilities(of[row].q_cmp[h], [k[h // o.group] for k in K])
            for h in range(o.H)
        ]
        scores, choices = [[] for _ in range(o.H)], [[] for _ in range(o.H)]
        if "sel" in o.branches:
            scores, choices = chosen_blocks(p, t, o)
        V = [V_cmp[first, i] for i in range(M)] if "cmp" in o.branches else []
        outputs = _outputs(of[first : row + 1], p, V, choices, o)
        gamma.append(gates(x_TE[row], of[row].q, weights, o))
        mixed.append(mixture(outputs, gamma[-1], o))
        bias = weights["o.bias"] if o.bias else None
        y.append(affine(torch.cat(mixed[-1]), weights["o"], bias))
        for branch, vectors in outputs.items():
            out[branch].append(torch.stack(vectors))
        p_cmp.append(p)
        p_sel.append(scores)
        chosen.append(choices)
    mixed_THD = torch.stack([torch.stack(vectors) for vectors in mixed])
    outputs = {branch: torch.stack(rows) for branch, rows in out.items()}
    made = p_cmp, p_sel, chosen, K_cmp, V_cmp
    return Forward(torch.stack(y), outputs, mixed_THD, torch.stack(gamma), *made)


def _outputs(
    of: list[Heads],
    p: list[Tensor],
    V: list[list[Tensor]],
    choices: list[list[int]],
    o: Options,
) -> dict[str, list[Tensor]]:
    """o^c, o^s, o^w of every head of the last of these tokens, its document's so far."""
    t = len(of) - 1
    out = {branch: [] for branch in o.branches}
    for h in range(o.H):
        group = h // o.group
        if "cmp" in o.branches:
            values = [v[group] for v in V]
            out["cmp"].append(weighted(p[h], values, o.d_v))
        seen = {"sel": chosen_tokens(choices[h], o.b, t), "win": window_tokens(t, o.w)}
        for branch in ("sel", "win"):
            if branch in o.branches:
                keys = [of[s].k[branch][group] for s in seen[branch]]
                values = [of[s].v[branch][group] for s in seen[branch]]
                p_s = probabilities(of[t].q[h], keys)
                out[branch].append(weighted(p_s, values, o.d_v))
    return out


def mixture(
    outputs: dict[str, list[Tensor]], gamma_Hm: Tensor, options: Options
) -> list[Tensor]:
    """Σ_c γ^c o^c of every head (Eq. 5)."""
    return [
        sum(
            gamma_Hm[h, i] * outputs[name][h] for i, name in enumerate(options.branches)
        )
        for h in range(options.H)
    ]


def _compressed(of: list[Heads], starts: list[int], weights: Weights, o: Options):
    """K^c and V^c of every block of every document; V^c only with cmp."""
    K_cmp, V_cmp = {}, {}
    for first in sorted(set(starts)):
        for i in range(compressed_blocks(starts.count(first), o.l, o.d)):
            at = range(first + i * o.d, first + i * o.d + o.l)
            K_cmp[first, i] = [
                compressed_key(torch.stack([of[s].raw[g] for s in at]), i, weights, o)
                for g in range(o.G)
            ]
            if "cmp" in o.branches:
                V_cmp[first, i] = [
                    compressed(
                        torch.stack([of[s].v["cmp"][g] for s in at]), "v", weights, o
                    )
                    for g in range(o.G)
                ]
    return K_cmp, V_cmp
