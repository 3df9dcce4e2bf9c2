"""Native sparse attention, query by query.

Legend: T tokens, E width, H heads, G key/value heads, D head width, l d b n w the sizes,
S tokens up to a query.
"""

import math

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Layer, sigmoid


def nsa(layer: Layer, x_TE: np.ndarray, gate_TH, latent_TL, drop: Drop):
    """(y_TE, None, None): it makes no single row of probabilities and no latent."""
    model, options, T = layer.model, layer.model.of("nsa"), len(x_TE)
    H, D, G = model.heads, model.head_width, model.grouped or model.heads
    plain = layer.linear(x_TE, "attn.q", "attn.projection.q.bias").reshape(T, H, D)
    q = np.stack([_turned(layer, plain[t], t) for t in range(T)])
    q_cmp = plain if options.phi_rope == "none" else q
    o_THD = np.zeros((T, H, D))
    for group in range(G):
        heads = range(group * (H // G), (group + 1) * (H // G))
        pairs = {
            name: _pair(layer, x_TE, name, group) for name in ("cmp", "sel", "win")
        }
        blocks = _compressed(layer, *pairs["cmp"])
        for t in range(T):
            met = q[t, heads], q_cmp[t, heads]
            read = _branches(layer, *met, pairs, blocks, t, group)
            shares = _shares(layer, x_TE[t], q[t, heads], heads)
            for place, h in enumerate(heads):
                o_THD[t, h] = sum(
                    shares[place][i] * read[name][place]
                    for i, name in enumerate(options.branches)
                )
    o_THD = layer.head_gates(o_THD, x_TE, gate_TH)
    return layer.linear(o_THD.reshape(T, H * D), "attn.o", "attn.o.bias"), None, None


def _sizes(layer: Layer) -> tuple[int, ...]:
    """l, d, b, n, w."""
    options, divisor = layer.model.of("nsa"), layer.model.length_divisor
    return (
        *(options.length // divisor, options.stride // divisor),
        *(options.block // divisor, options.top, options.window // divisor),
    )


def _pair(layer: Layer, x_TE: np.ndarray, branch: str, group: int):
    """k_TD, not rotated, and v_TD of a branch; (None, None) where it has none."""
    options, D = layer.model.of("nsa"), layer.model.head_width
    part = slice(group * D, (group + 1) * D)
    if options.shared_kv:
        k, v = "attn.k", "attn.v"
        bias = layer.w.get("attn.projection.v.shared.bias")
    elif branch in options.branches:
        k, v = f"attn.k_{branch}", f"attn.v_{branch}"
        bias = layer.w.get(f"attn.projection.v.{branch}.bias")
    else:
        return None, None
    v_TD = x_TE @ layer.w[v][part].T + (0 if bias is None else bias[part])
    return x_TE @ layer.w[k][part].T, v_TD


def _compressed(layer: Layer, k_TD, v_TD) -> list[tuple[np.ndarray, np.ndarray]]:
    """Key and value of block i, the tokens i d … i d + l - 1, as far as there are."""
    if k_TD is None:
        return []
    l, d, *_ = _sizes(layer)
    options, found = layer.model.of("nsa"), []
    for first in range(0, len(k_TD) - l + 1, d):
        keys = k_TD[first : first + l]
        if options.phi_rope == "none":
            key = _phi(layer, keys, "k")
        elif options.phi_rope == "after" or options.phi == "mlp":
            key = _turned(layer, _phi(layer, keys, "k"), first)
        else:
            turned = [_turned(layer, k, first + i) for i, k in enumerate(keys)]
            key = _phi(layer, np.stack(turned), "k")
        found.append((key, _phi(layer, v_TD[first : first + l], "v")))
    return found


def _phi(layer: Layer, x_lD: np.ndarray, of: str) -> np.ndarray:
    kind, own = layer.model.of("nsa").phi, f"attn.projection.phi.{of}"
    if kind == "conv":
        return (layer.w[f"{own}.weight_lD"].reshape(x_lD.shape) * x_lD).sum(axis=0)
    mean_D = x_lD.mean(axis=0)
    if kind == "mean":
        return mean_D
    flat = x_lD.reshape(-1) + layer.w[f"{own}.place_lD"]
    h = layer.w[f"attn.phi.{of}.inner"] @ flat
    cubic = math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)
    return mean_D + layer.w[f"{own}.outer.weight"] @ (h * (1 + np.tanh(cubic)) / 2)


def _branches(layer: Layer, q_gD, q_cmp_gD, pairs, blocks, t: int, group: int) -> dict:
    """Branch -> its output for every head of the group."""
    options, (l, d, b, _, w) = layer.model.of("nsa"), _sizes(layer)
    D, found = layer.model.head_width, {}
    seen = [kv for i, kv in enumerate(blocks) if i * d + l - 1 <= t]
    rows = [_softmax([q @ k / math.sqrt(D) for k, _ in seen]) for q in q_cmp_gD]
    if "cmp" in options.branches:
        found["cmp"] = [
            sum((p * v for p, (_, v) in zip(row, seen)), np.zeros(D)) for row in rows
        ]
    if "sel" in options.branches:
        k_TD, v_TD = pairs["sel"]
        scored = [[row] for row in rows] if options.per_head else [rows]
        chosen = [
            layer.held(("nsa", layer.i, group, i, t), _chosen(layer, each, t))
            for i, each in enumerate(scored)
        ]
        chosen = chosen if options.per_head else chosen * len(rows)
        tokens = [[s for s in range(t + 1) if s // b in blocks_] for blocks_ in chosen]
        found["sel"] = [
            _attended(layer, q, k_TD, v_TD, t, ts) for q, ts in zip(q_gD, tokens)
        ]
    if "win" in options.branches:
        k_TD, v_TD = pairs["win"]
        near = range(max(0, t - w + 1), t + 1)
        found["win"] = [_attended(layer, q, k_TD, v_TD, t, near) for q in q_gD]
    return found


def _chosen(layer: Layer, rows: list[np.ndarray], t: int) -> list[int]:
    """The blocks that query t reads, by the weights p^c of the heads that choose."""
    options, (l, d, b, n, _) = layer.model.of("nsa"), _sizes(layer)
    own = t // b
    score = dict.fromkeys(range(own + 1), 0.0)
    for row in rows:
        for i, p in enumerate(row):
            for token in range(i * d, i * d + l):
                score[token // b] += p / l
    forced = set() if not options.forced else {0, own, max(own - 1, 0)}
    free = sorted(score.keys() - forced, key=lambda j: (-score[j], j))
    return (sorted(forced) + free)[:n]


def _attended(layer: Layer, q_D, k_TD, v_TD, t: int, tokens) -> np.ndarray:
    keys = [_turned(layer, k_TD[s], s) for s in tokens]
    row = _softmax([q_D @ k / math.sqrt(layer.model.head_width) for k in keys])
    return sum(p * v_TD[s] for p, s in zip(row, tokens))


def _softmax(scores: list[float]) -> np.ndarray:
    if not scores:
        return np.zeros(0)
    e = np.exp(np.array(scores) - max(scores))
    return e / e.sum()


def _shares(layer: Layer, x_E, q_gD, heads) -> list[np.ndarray]:
    """γ of every head of the group over the branches that are there."""
    options = layer.model.of("nsa")
    m = len(options.branches)
    if m == 1:
        return [np.ones(1)] * len(q_gD)
    if options.force_branch is not None:
        one = [float(name == options.force_branch) for name in options.branches]
        return [np.array(one)] * len(q_gD)
    if options.gate == "fixed":
        return [np.full(m, 1 / m)] * len(q_gD)
    weight, bias = (layer.w[f"attn.gate.outer.{name}"] for name in ("weight", "bias"))
    if options.gate == "sigmoid":
        logits = (weight @ x_E + bias).reshape(-1, m)
        return [sigmoid(logits[h]) for h in heads]
    h = layer.w["attn.gate.inner"] @ q_gD.mean(axis=0) + layer.w["attn.gate.inner.bias"]
    return [_softmax(list(weight @ (h * sigmoid(h)) + bias))] * len(q_gD)


def _turned(layer: Layer, x: np.ndarray, place: int) -> np.ndarray:
    """Pairs (i, i + D/2) turned by place · base^(-2i/D), of one or more vectors."""
    if layer.model.position != "rope":
        return x
    half = layer.model.head_width // 2
    turns = place * layer.model.rope_base ** (-2 * np.arange(half) / (2 * half))
    a, b = x[..., :half], x[..., half:]
    turned = (
        a * np.cos(turns) - b * np.sin(turns),
        a * np.sin(turns) + b * np.cos(turns),
    )
    return np.concatenate(turned, axis=-1)
