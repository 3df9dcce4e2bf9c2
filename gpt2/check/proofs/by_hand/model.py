"""The model a second time, in numpy, as the formulas of docs/mechanisms.md read.

It shares no code with the first: no masks, no fused tensors, no batches. Row by
row, a query sees the keys it may see because no others are handed to it. What
the proof of formulas compares the model with; much too slow for anything else.

Legend: T tokens, E width, H heads, G key/value heads, D head width, L latent
width, F MLP width, r rank, V vocabulary, S keys that one query sees.
"""

import math
from collections.abc import Callable

import numpy as np

from gpt2.settings.run import ModelSettings

Weights = dict[str, np.ndarray]
Drop = Callable[[np.ndarray], np.ndarray]


class Held:
    """Values that backward takes for constants.

    The first evaluation keeps them, later ones get them back: a difference of
    two evaluations then leaves them out, as a gradient does.
    """

    def __init__(self):
        self.kept: dict[tuple, np.ndarray] = {}

    def __call__(self, key: tuple, value: np.ndarray) -> np.ndarray:
        return self.kept.setdefault(key, value)


def whole(x: np.ndarray) -> np.ndarray:
    """A dropout that rests."""
    return x


def logits(
    model: ModelSettings,
    w: Weights,
    tokens_T: np.ndarray,
    held: Held,
    drop: Drop = whole,
) -> np.ndarray:
    """logits_TV of one sequence. w: logical matrices (out, in) and vectors; drop:
    the dropout of what the embedding gives, of every probability (a factor), and of
    what each branch adds, in the order of the blocks.
    """
    x_TE = w["wte"][tokens_T]
    if model.position == "learned":
        x_TE = x_TE + w["wpe"][: len(tokens_T)]
    x_TE, gate_TH, latent_TL = drop(x_TE), None, None
    for i in range(model.layers):
        layer = _Layer(model, w, i, held)
        kept_HTT = drop(np.ones((model.heads, len(x_TE), len(x_TE))))
        y_TE, p_TT, ck_TL = layer.attention(
            layer.norm(x_TE, "norm1"), gate_TH, latent_TL, kept_HTT
        )
        x_TE = x_TE + drop(y_TE)
        y_TE, gate_TH, latent_TL = layer.mlp(layer.norm(x_TE, "norm2"), p_TT, ck_TL)
        x_TE = x_TE + drop(y_TE)
    return _norm(model, x_TE, w["norm_f.weight"], w.get("norm_f.bias")) @ w["wte"].T


def loss(logits_TV: np.ndarray, targets_T: np.ndarray) -> float:
    """Mean cross-entropy in nats/token."""
    exponents_TV = logits_TV - logits_TV.max(axis=1, keepdims=True)
    log_p_TV = exponents_TV - np.log(np.exp(exponents_TV).sum(axis=1, keepdims=True))
    return -log_p_TV[np.arange(len(targets_T)), targets_T].mean()


class _Layer:
    """One block's formulas over its own weights."""

    def __init__(self, model: ModelSettings, w: Weights, i: int, held: Held):
        self.model, self.i, self.held = model, i, held
        self.w = {
            n.split(".", 2)[2]: a for n, a in w.items() if n.startswith(f"h.{i}.")
        }
        self.last = i == model.layers - 1

    def norm(self, x_TE: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        return _norm(self.model, x_TE, weight, bias)

    def _linear(self, x: np.ndarray, name: str, bias: str = "") -> np.ndarray:
        return x @ self.w[name].T + self.w.get(bias, 0.0)

    # attention

    def attention(self, x_TE: np.ndarray, gate_TH, latent_TL, kept_HTT: np.ndarray):
        """(y_TE, head-averaged final p_TT, c^k_TL). kept_HTT: what dropout makes of
        a probability when it meets its value, and nowhere else.
        """
        model, options, H = self.model, self.model.attention, self.model.heads
        q, k, v, ck_TL = self._projected(x_TE, latent_TL)
        T, D = len(x_TE), model.head_width
        o_THD, p_TT = np.zeros((T, H, D)), np.zeros((T, T))
        for t in range(T):
            first = max(0, t - options.window + 1) if options.window else 0
            s_HS = [self._scores(q[:, h], k[:, h], h, t, first) for h in range(H)]
            p_HS = [self._normalised(s_S, ("p", h, t)) for h, s_S in enumerate(s_HS)]
            factor_H = self._cross_token_gate(p_HS, t) if options.ra_ct else np.ones(H)
            if options.ra_ct_apply == "weights":
                p_HS = [
                    self._normalised(factor_H[h] * s_S, ("gated", h, t))
                    for h, s_S in enumerate(s_HS)
                ]
                factor_H = np.ones(H)
            for h in range(H):
                kept_S = kept_HTT[h, t, first : t + 1] * p_HS[h]
                o_THD[t, h] = factor_H[h] * (kept_S @ v[first : t + 1, h])
            p_TT[t, first : t + 1] = np.mean(p_HS, axis=0)
        if gate_TH is not None:
            o_THD = o_THD * gate_TH[:, :, None]
        if options.output_gate != "none":
            gates = _sigmoid(self._linear(x_TE, "attn.out_gate"))
            o_THD = o_THD * gates.reshape(T, H, -1)
        y_TE = self._linear(o_THD.reshape(T, H * D), "attn.o", "attn.o.bias")
        return y_TE, p_TT, ck_TL

    def _projected(self, x_TE: np.ndarray, latent_TL):
        """q, k, v as (T, H, D) each, and c^k_TL or None."""
        model, H, D, T = self.model, self.model.heads, self.model.head_width, len(x_TE)
        if model.attention.projection == "mla":
            ck_TL = self._linear(x_TE, "attn.k_down")
            if latent_TL is not None:
                ck_TL = ck_TL + latent_TL
            shared = model.attention.mla_shared_latent
            cv_TL = ck_TL if shared else self._linear(x_TE, "attn.v_down")
            q = self._linear(x_TE, "attn.q", "attn.projection.q.bias")
            k, v = self._linear(ck_TL, "attn.k_up"), self._linear(cv_TL, "attn.v_up")
            if model.attention.mla_shared_up:
                k, v = np.tile(k, H), np.tile(v, H)
            return *(a.reshape(T, H, D) for a in (q, k, v)), ck_TL
        G = model.kv_heads
        biases = self.w.get("attn.projection.qkv.bias", np.zeros((H + 2 * G) * D))
        cuts = np.split(biases, [H * D, (H + G) * D])
        q, k, v = (
            (self._linear(x_TE, f"attn.{n}") + bias).reshape(T, -1, D)
            for n, bias in zip("qkv", cuts)
        )
        if model.position == "rope":
            q, k = _rotated(q, model.rope_base), _rotated(k, model.rope_base)
        of_head = [h // (H // G) for h in range(H)]
        return q, k[:, of_head], v[:, of_head], None

    def _scores(self, q_TD, k_TD, h: int, t: int, first: int) -> np.ndarray:
        """s_S of query t with the keys first … t."""
        options = self.model.attention
        s_S = k_TD[first : t + 1] @ q_TD[t]
        if options.ra:
            alpha = np.float64(np.float32(options.ra_alpha))  # a buffer in fp32
            if options.ra_learned:
                alpha = self.w["attn.ra.alpha_H"][h]
            for s in range(max(first, t - options.ra_band), t + 1):
                s_S[s - first] += alpha * (q_TD[s] @ k_TD[t])
        return s_S / math.sqrt(self.model.head_width)

    def _normalised(self, s_S: np.ndarray, row: tuple[str, int, int]) -> np.ndarray:
        options = self.model.attention
        if options.normaliser == "softmax":
            e_S = np.exp(s_S - s_S.max())
            return e_S / e_S.sum()
        m = 0.0
        if not options.softpick_unsafe:  # a constant for backward
            m = self.held(("m", self.i, *row), max(0.0, s_S.max()))
        e_S = np.exp(s_S - m) - math.exp(-m)
        return np.maximum(e_S, 0) / (np.abs(e_S).sum() + 1e-6)

    def _cross_token_gate(self, p_HS: list[np.ndarray], t: int) -> np.ndarray:
        """(1 - α) + α σ(a_h stat_h + b_h) of the ungated rows of query t."""
        options = self.model.attention
        rows = p_HS
        if options.ra_ct_head_average:
            rows = [np.mean(p_HS, axis=0)] * len(p_HS)
        stat_H = np.array([self._statistic(p_S) for p_S in rows])
        if options.ra_ct_detach:
            stat_H = self.held(("stat", self.i, t), stat_H)
        scale_H, shift_H = self.w["attn.ra_ct.scale_H"], self.w["attn.ra_ct.shift_H"]
        alpha = options.ra_ct_alpha
        return 1 - alpha + alpha * _sigmoid(scale_H * stat_H + shift_H)

    def _statistic(self, p_S: np.ndarray) -> float:
        options, seen = self.model.attention, len(p_S)
        if options.ra_ct_statistic == "topk":
            return np.sort(p_S)[-options.ra_ct_k :].sum()
        if options.ra_ct_statistic == "max":
            return p_S.max()
        if options.ra_ct_statistic == "rms":
            return math.sqrt((p_S**2).mean())
        return 1 + (p_S * np.log(p_S)).sum() / math.log(seen) if seen > 1 else 0.0

    # MLP

    def mlp(self, x_TE: np.ndarray, p_TT: np.ndarray, ck_TL):
        """(y_TE, the gate and the latent that the next block hears)."""
        options = self.model.mlp
        h_TF = self._linear(x_TE, "mlp.in", "mlp.inner.bias")
        if options.kind == "swiglu":
            gate_TF = self._linear(x_TE, "mlp.gate", "mlp.gate.bias")
            h_TF = gate_TF * _sigmoid(gate_TF) * h_TF
        else:
            h_TF = _gelu(h_TF) if options.kind == "gelu" else np.maximum(h_TF, 0) ** 2
        hidden_TF, gate_TH, latent_TL = h_TF, None, None
        if options.attn_gate and not self.last:
            gate_TH = self._attn_gate(h_TF)
        if options.cross_token:
            hidden_TF = hidden_TF + self._cross_token(h_TF, p_TT)
        if options.latent_recip:
            heard_TF, latent_TL = self._latent(h_TF, ck_TL)
            hidden_TF = hidden_TF + heard_TF
        return self._linear(hidden_TF, "mlp.out", "mlp.outer.bias"), gate_TH, latent_TL

    def _attn_gate(self, h_TF: np.ndarray) -> np.ndarray:
        options = self.model.mlp
        c_Tr = _gelu(self._linear(h_TF, "mlp.gate_down"))
        if options.attn_gate_mean:
            c_Tr = np.stack([c_Tr[: t + 1].mean(axis=0) for t in range(len(c_Tr))])
        gamma_TH = _sigmoid(self._linear(c_Tr, "mlp.gate_up") + 2)
        return 1 - options.attn_gate_alpha + options.attn_gate_alpha * gamma_TH

    def _cross_token(self, h_TF: np.ndarray, p_TT: np.ndarray) -> np.ndarray:
        options, window = self.model.mlp, self.model.attention.window
        if not options.cross_token_gradient:
            p_TT = self.held(("routing", self.i), p_TT)
        mixed_Tr, r_Tr = self._linear(h_TF, "mlp.cross_down"), []
        for t in range(len(h_TF)):
            first = max(0, t - window + 1) if window else 0
            weights_S = p_TT[t, first : t + 1].copy()
            if options.cross_token_mode == "topk":
                weights_S[np.argsort(weights_S)[: -options.cross_token_k]] = 0
            elif options.cross_token_mode == "rms":
                limit = options.cross_token_tau * math.sqrt((weights_S**2).mean())
                weights_S[weights_S < limit] = 0
            total = weights_S.sum()
            r_Tr.append(weights_S @ mixed_Tr[first : t + 1] / (total or 1))
        return options.cross_token_alpha * self._linear(np.stack(r_Tr), "mlp.cross_up")

    def _latent(self, h_TF: np.ndarray, ck_TL: np.ndarray):
        """(what h hears, what the next block's c^k is told)."""
        options, L, H = self.model.mlp, self.model.latent, self.model.heads
        alpha = options.latent_alpha
        if options.latent_tying == "per_head_scalar":
            head_L = [j * H // L for j in range(L)]
            basis_FL = self.w["mlp.latent.basis_FL"]
            heard_TF = (
                alpha * (self.w["mlp.latent.read_H"][head_L] * ck_TL) @ basis_FL.T
            )
            if self.last:
                return heard_TF, None
            told_TL = self.w["mlp.latent.write_H"][head_L] * (h_TF @ basis_FL)
            return heard_TF, alpha * told_TL
        read_FL = self.w["mlp.latent_read"]
        tied = options.latent_tying == "tied_transpose"
        heard_TF = alpha * ck_TL @ read_FL.T
        if self.last:
            return heard_TF, None
        write_FL = read_FL if tied else self.w["mlp.latent_write"]
        return heard_TF, alpha * h_TF @ write_FL


def _norm(model: ModelSettings, x_TE: np.ndarray, weight_E, bias_E) -> np.ndarray:
    if model.norm == "layernorm":
        x_TE = x_TE - x_TE.mean(axis=1, keepdims=True)
    x_TE = x_TE / np.sqrt((x_TE**2).mean(axis=1, keepdims=True) + 1e-5) * weight_E
    return x_TE if bias_E is None else x_TE + bias_E


def _rotated(x_THD: np.ndarray, base: float) -> np.ndarray:
    """Pairs (i, i + D/2) as complex numbers, turned by t · base^(-2i/D)."""
    T, _, D = x_THD.shape
    turns_TD = np.outer(np.arange(T), base ** (-2 * np.arange(D // 2) / D))
    z = (x_THD[..., : D // 2] + 1j * x_THD[..., D // 2 :]) * np.exp(
        1j * turns_TD[:, None]
    )
    return np.concatenate([z.real, z.imag], axis=2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
