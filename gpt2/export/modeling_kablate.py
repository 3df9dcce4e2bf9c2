"""Models trained by kablate, for transformers:

    AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

One file beside config.json that needs torch and transformers alone, and what a block is
made of is said there: multi-head, grouped-query or latent attention (MLA), reciprocal
attention (RA), softmax or softpick, a sliding window, linear attention; gates of the heads
(RA-CT, of the MLP of the block before, of the input); GELU, SwiGLU or squared ReLU, the
cross-token MLP; learned or rotary positions; LayerNorm or RMSNorm. The head is tied. For
inference: plain n x S scores, no dropout, nothing that training holds constant.

Legend: B batch, n new tokens, S tokens that are seen, w queries that are remembered, E
width, H query heads, G key/value heads, D = E / H, L latent width, F MLP width, r rank;
t/s query/key position. kept: what a decode remembers of a layer, or None.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple


class KablateConfig(PreTrainedConfig):
    """What fills the slots; None: the mechanism is not there."""

    model_type = "kablate"

    vocab_size: int = 257
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int = 12
    max_position_embeddings: int = 1024
    tie_word_embeddings: bool = True
    mixers: list[str] | None = None  # attention or linear, of every layer
    position: str = "learned"  # rope, none
    rope_base: float | None = None
    norm: str = "layernorm"  # rmsnorm
    norm_eps: float = 1e-5
    bias: bool = True
    mla_latent: int | None = None
    mla_shared_latent: bool = False  # one latent for keys and values
    mla_shared_up: bool = False  # one expansion for all heads
    ra_alpha: float | None = None
    ra_band: int | None = None
    ra_learned: bool = False
    normaliser: str = "softmax"  # softpick, softpick_unsafe
    window: int | None = None
    ra_ct_statistic: str | None = None  # topk, max, entropy, rms
    ra_ct_k: int | None = None
    ra_ct_apply: str | None = None  # output, weights
    ra_ct_alpha: float | None = None
    ra_ct_head_average: bool = False
    output_gate: str = "none"  # elementwise, headwise
    mlp: str = "gelu"  # swiglu, relu2
    attn_gate_rank: int | None = None
    attn_gate_alpha: float | None = None
    attn_gate_mean: bool = False
    cross_token_rank: int | None = None
    cross_token_alpha: float | None = None
    cross_token_mode: str | None = None  # none, topk, rms
    cross_token_k: int | None = None
    cross_token_tau: float | None = None


class KablateLayer(dict):
    """What a decode remembers of a layer: keys and values, or latents (of the last `window`
    tokens, if any); the last `ra_band` queries; what the cross-token MLP mixes; sums.
    """

    is_compileable = is_croppable = supports_early_init = False
    length = 0

    def append(self, name: str, new_Bn: torch.Tensor, most: int | None) -> torch.Tensor:
        """What is kept with the new tokens behind it, of which the last `most` stay."""
        if name in self:
            new_Bn = torch.cat([self[name], new_Bn], dim=1)
        first = 0 if most is None else max(0, new_Bn.shape[1] - most)
        self[name] = new_Bn[:, first:]
        return new_Bn

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """The sequences in another order, for beams."""
        self.update({name: x[beam_idx.to(x.device)] for name, x in self.items()})

    def reset(self) -> None:
        """No tokens."""
        self.clear()
        self.length = 0


class KablateCache(Cache):
    """Of all layers. The caches of transformers hold keys and values alone."""

    def __init__(self, config: KablateConfig):
        super().__init__([KablateLayer() for _ in range(config.num_hidden_layers)])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen, also where fewer are remembered."""
        return self.layers[layer_idx].length


class Tokens(NamedTuple):
    """The new tokens of a forward pass. real: of new and of all tokens, False for padding;
    count: real tokens up to each, its own included.
    """

    position_Bn: torch.Tensor
    count_Bn: torch.Tensor
    real_Bn: torch.Tensor
    real_BS: torch.Tensor


def distance(n: int, total: int, device: torch.device) -> torch.Tensor:
    """t - s of the last n positions and all of `total`."""
    t_n1 = torch.arange(total - n, total, device=device)[:, None]
    return t_n1 - torch.arange(total, device=device)


def rotated(x_BnHD: torch.Tensor, position_Bn: torch.Tensor, base: float):
    """The pair (i, i + D/2) rotated by position * base^(-2i/D)."""
    half = x_BnHD.shape[3] // 2
    index_i = torch.arange(half, device=x_BnHD.device, dtype=torch.float32)
    angle_Bni = position_Bn.float()[..., None] * (1.0 / base ** (index_i / half))
    cos, sin = angle_Bni.cos()[:, :, None], angle_Bni.sin()[:, :, None]
    a, b = x_BnHD[..., :half], x_BnHD[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_BnHD.dtype)


def probabilities(s_BHnS: torch.Tensor, mask: torch.Tensor, kind: str) -> torch.Tensor:
    """Over the keys of the mask, 0 elsewhere. softmax; or softpick, relu(e) / (sum |e| +
    1e-6) with e = e^(x-m) - e^(-m), m = max(0, max x), or 0 in the unsafe form.
    """
    if kind == "softmax":
        return s_BHnS.float().masked_fill(~mask, -math.inf).softmax(dim=-1)
    x_BHnS = s_BHnS.float().masked_fill(~mask, 0.0)
    m_BHn1 = x_BHnS.amax(dim=-1, keepdim=True).clamp(min=0.0)
    m_BHn1 = m_BHn1.detach() if kind == "softpick" else torch.zeros_like(m_BHn1)
    floor_BHn1 = torch.exp(-m_BHn1)
    small = floor_BHn1 * torch.expm1(x_BHnS.clamp(max=1.0))
    e_BHnS = torch.where(x_BHnS < 1, small, torch.exp(x_BHnS - m_BHn1) - floor_BHn1)
    e_BHnS = e_BHnS.masked_fill(~mask, 0.0)
    return e_BHnS.relu() / (e_BHnS.abs().sum(dim=-1, keepdim=True) + 1e-6)


class Projection(nn.Module):
    """q, k, v by one matrix, with G < H key/value heads shared; or MLA: c^k, c^v = x W_dk,
    x W_dv, k_h = c^k A_h, v_h = c^v U_h. Memory: k and v, or the latents.
    """

    def __init__(self, config: KablateConfig):
        super().__init__()
        E, L, H = config.hidden_size, config.mla_latent, config.num_attention_heads
        G, self.heads, self.width = config.num_key_value_heads, H, E // H
        self.base = config.rope_base if config.position == "rope" else None
        self.latent, self.parts = L, (H, G, G)
        if L is None:
            self.qkv = nn.Linear(E, sum(self.parts) * self.width, config.bias)
            return
        up = self.width if config.mla_shared_up else E
        self.q = nn.Linear(E, E, config.bias)
        self.down = nn.Linear(E, L if config.mla_shared_latent else 2 * L, bias=False)
        self.k_up, self.v_up = (nn.Linear(L, up, bias=False) for _ in "kv")

    def forward(self, x_BnE, position_Bn) -> tuple:
        """(q_BnHD, memory of the new tokens)."""
        if self.latent is not None:
            latents = self.down(x_BnE).split(self.latent, dim=-1)
            return self.q(x_BnE).unflatten(2, (self.heads, self.width)), latents
        qkv_BnND = self.qkv(x_BnE).unflatten(2, (-1, self.width))
        q, k, v = qkv_BnND.split(self.parts, dim=2)
        if self.base is not None:
            q, k = (rotated(x, position_Bn, self.base) for x in (q, k))
        return q, (k, v)

    def expand(self, memory) -> list[torch.Tensor]:
        """k_BSHD, v_BSHD: head h reads key/value head h // (H / G)."""
        if self.latent is not None:
            memory = self.k_up(memory[0]), self.v_up(memory[-1])
            memory = [x.unflatten(2, (-1, self.width)) for x in memory]
        return [x.repeat_interleave(self.heads // x.shape[2], dim=2) for x in memory]


def statistic(p: torch.Tensor, seen: torch.Tensor, kind: str, k: int) -> torch.Tensor:
    """How concentrated p is over the keys that are seen, (B, H, n, 1)."""
    if kind == "topk":
        return p.topk(min(k, p.shape[-1]), dim=-1).values.sum(dim=-1, keepdim=True)
    if kind == "max":
        return p.amax(dim=-1, keepdim=True)
    if kind == "rms":
        return (p.square().sum(dim=-1, keepdim=True) / seen).sqrt()
    entropy = torch.special.entr(p).sum(dim=-1, keepdim=True)
    return torch.where(seen > 1, 1 - entropy / seen.clamp(min=2).log(), 0.0)


class Mixer(nn.Module):
    """What both mixers end with: the gate of the block before, σ(x W), W_o."""

    def __init__(self, config: KablateConfig):
        super().__init__()
        self.config, E = config, config.hidden_size
        self.o = nn.Linear(E, E, config.bias)
        if config.output_gate != "none":
            headwise = config.output_gate == "headwise"
            width = config.num_attention_heads if headwise else E
            self.out_gate = nn.ModuleDict({"linear": nn.Linear(E, width, bias=False)})

    def finish(self, o_BnHD, x_BnE, gate_BnH) -> torch.Tensor:
        """y_BnE."""
        if gate_BnH is not None:
            o_BnHD = o_BnHD * gate_BnH[..., None]
        if self.config.output_gate != "none":
            gate = torch.sigmoid(self.out_gate["linear"](x_BnE))
            o_BnHD = o_BnHD * gate.unflatten(2, (o_BnHD.shape[2], -1))
        return self.o(o_BnHD.flatten(2))


class Attention(Mixer):
    """Scores q_t k_s / sqrt(D), with RA α q_s k_t / sqrt(D) beside them for
    0 <= t - s <= band; probabilities, RA-CT, values.
    """

    def __init__(self, config: KablateConfig):
        super().__init__(config)
        self.projection = Projection(config)
        ones_H = torch.ones(config.num_attention_heads)
        if config.ra_learned:
            self.ra = nn.ParameterDict({"alpha_H": config.ra_alpha * ones_H})
        if config.ra_ct_statistic is not None:
            self.ra_ct = nn.ParameterDict({"scale_H": ones_H, "shift_H": 2 * ones_H})

    def forward(self, x_BnE, gate_BnH, tokens: Tokens, kept) -> tuple:
        """(y_BnE, (probabilities averaged over heads, visible keys of each query))."""
        config, n = self.config, x_BnE.shape[1]
        q_BnHD, memory = self.projection(x_BnE, tokens.position_Bn)
        queries_BwHD = q_BnHD
        if kept is not None:
            named = [(f"memory{i}", x) for i, x in enumerate(memory)]
            memory = [kept.append(name, x, config.window) for name, x in named]
            if config.ra_alpha is not None:
                queries_BwHD = kept.append("queries", q_BnHD, config.ra_band)
        k_BSHD, v_BSHD = self.projection.expand(memory)
        s_BHnS = torch.einsum("bthd,bshd->bhts", q_BnHD, k_BSHD)
        s_BHnS = s_BHnS / math.sqrt(self.projection.width)
        if config.ra_alpha is not None:
            s_BHnS = s_BHnS + self._transposed(queries_BwHD, k_BSHD, n)
        mask = self._visible(n, k_BSHD.shape[1], tokens)
        p_BHnS, factor = probabilities(s_BHnS, mask, config.normaliser), None
        if config.ra_ct_statistic is not None:
            factor = self._gate(p_BHnS, mask)
            if config.ra_ct_apply == "weights":
                p_BHnS = probabilities(factor * s_BHnS, mask, config.normaliser)
                factor = None
        o_BnHD = torch.einsum("bhts,bshd->bthd", p_BHnS.to(v_BSHD.dtype), v_BSHD)
        if factor is not None:
            o_BnHD = (o_BnHD * factor.transpose(1, 2)).to(o_BnHD.dtype)
        routing = p_BHnS.mean(dim=1), mask.sum(dim=-1)[:, 0]
        return self.finish(o_BnHD, x_BnE, gate_BnH), routing

    def _transposed(self, queries_BwHD, k_BSHD, n: int) -> torch.Tensor:
        """α q_s k_t / sqrt(D) inside the band, (B, H, n, S)."""
        S, w, config = k_BSHD.shape[1], queries_BwHD.shape[1], self.config
        r_BHnw = torch.einsum("bshd,bthd->bhts", queries_BwHD, k_BSHD[:, -n:])
        back_nw = distance(n, w, k_BSHD.device)
        outside_nw = (back_nw < 0) | (back_nw > config.ra_band)
        r_BHnw = r_BHnw.masked_fill(outside_nw, 0.0) / math.sqrt(self.projection.width)
        learned = config.ra_learned
        alpha = self.ra["alpha_H"][:, None, None] if learned else config.ra_alpha
        return alpha * F.pad(r_BHnw, (S - w, 0))

    def _gate(self, p_BHnS: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """RA-CT: (1 - α) + α σ(a_h stat + b_h), (B, H, n, 1)."""
        config, seen = self.config, mask.sum(dim=-1, keepdim=True)
        if config.ra_ct_head_average:
            p_BHnS = p_BHnS.mean(dim=1, keepdim=True)
        stat = statistic(p_BHnS, seen, config.ra_ct_statistic, config.ra_ct_k)
        a_H, b_H = self.ra_ct["scale_H"], self.ra_ct["shift_H"]
        gate = torch.sigmoid(a_H[:, None, None] * stat + b_H[:, None, None])
        return (1 - config.ra_ct_alpha) + config.ra_ct_alpha * gate

    def _visible(self, n: int, S: int, tokens: Tokens) -> torch.Tensor:
        """s <= t, t - s < window, and no padding but a token itself."""
        back_nS = distance(n, S, tokens.position_Bn.device)
        near_nS = (back_nS >= 0) & (back_nS < (self.config.window or math.inf))
        return near_nS & (tokens.real_BS[:, None, None, -S:] | (back_nS == 0))


class LinearAttention(Mixer):
    """o_t = Σ_{s<=t} (φ(q_t) φ(k_s)) v_s / (Σ_{s<=t} φ(q_t) φ(k_s) + 1e-6), φ = elu + 1,
    in fp32. A decode remembers Σ φ(k_s) [v_s, 1].
    """

    def __init__(self, config: KablateConfig):
        super().__init__(config)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, config.bias)

    def forward(self, x_BnE, gate_BnH, tokens: Tokens, kept) -> tuple:
        """(y_BnE, None: it has no probabilities)."""
        heads = 3, self.config.num_attention_heads, -1
        q, k, v = self.qkv(x_BnE).float().unflatten(2, heads).unbind(2)
        q, k = F.elu(q) + 1, (F.elu(k) + 1) * tokens.real_Bn[..., None, None]
        v = F.pad(v, (0, 1), value=1.0)
        weights_BHnn = torch.einsum("bthd,bshd->bhts", q, k).tril()
        sums = torch.einsum("bhts,bshv->bthv", weights_BHnn, v)
        if kept is not None:
            state = torch.einsum("bshd,bshv->bhdv", k, v)
            if "state" in kept:
                sums = sums + torch.einsum("bthd,bhdv->bthv", q, kept["state"])
                state = state + kept["state"]
            kept["state"] = state
        o_BnHD = (sums[..., :-1] / (sums[..., -1:] + 1e-6)).to(x_BnE.dtype)
        return self.finish(o_BnHD, x_BnE, gate_BnH), None


class Mlp(nn.Module):
    """y = h W_out, h = act(x W_in), and what reads that h:

    attn_gate, γ_t = σ(c̄_t W_h + 2), c = gelu(h W_g), c̄_t its mean over s <= t, or c_t
    itself: the next block's heads are scaled by (1 - α) + α γ; none in the last block;
    cross_token, h_t += α (Σ_s P_ts h_s W_down) W_up, P the head-averaged probabilities:
    all, the k largest of a row, or those of at least τ times its root mean square; then
    made to sum to 1.
    """

    def __init__(self, config: KablateConfig, last: bool):
        super().__init__()
        E, width = config.hidden_size, config.intermediate_size
        self.config, ranks = config, (config.attn_gate_rank, config.cross_token_rank)
        self.inner = nn.Linear(E, width, config.bias)
        if config.mlp == "swiglu":
            self.gate = nn.Linear(E, width, config.bias)
        self.outer = nn.Linear(width, E, config.bias)
        self.gates = ranks[0] is not None and not last
        if self.gates:
            self.attn_gate = pair(width, ranks[0], config.num_attention_heads)
        if ranks[1] is not None:
            self.cross_token = pair(width, ranks[1], width)

    def forward(self, x_BnE, routing, tokens: Tokens, kept) -> tuple:
        """(y_BnE, the factor of each of the next block's heads)."""
        h_BnF, gate_BnH, kind = self.inner(x_BnE), None, self.config.mlp
        if kind == "gelu":
            h_BnF = F.gelu(h_BnF, approximate="tanh")
        elif kind == "swiglu":
            h_BnF = F.silu(self.gate(x_BnE)) * h_BnF
        else:
            h_BnF = h_BnF.relu().square()
        if self.gates:
            gate_BnH = self._gate(h_BnF, tokens, kept)
        if self.config.cross_token_rank is not None:
            h_BnF = h_BnF + self._crossed(h_BnF, *routing, kept)
        return self.outer(h_BnF), gate_BnH

    def _gate(self, h_BnF, tokens: Tokens, kept) -> torch.Tensor:
        """factor_BnH."""
        c_Bnr = F.gelu(self.attn_gate["down"](h_BnF), approximate="tanh")
        if self.config.attn_gate_mean:
            sum_Bnr = (c_Bnr.float() * tokens.real_Bn[..., None]).cumsum(dim=1)
            if kept is not None:
                sum_Bnr = sum_Bnr + kept.get("gate_sum", 0.0)
                kept["gate_sum"] = sum_Bnr[:, -1:]
            c_Bnr = (sum_Bnr / tokens.count_Bn[..., None]).to(c_Bnr.dtype)
        gate, alpha = self.attn_gate["up"](c_Bnr) + 2.0, self.config.attn_gate_alpha
        return (1 - alpha) + alpha * torch.sigmoid(gate)

    def _crossed(self, h_BnF, p_BnS, seen_Bn, kept) -> torch.Tensor:
        """What the cross-token MLP adds to h."""
        config, values_BSr = self.config, self.cross_token["down"](h_BnF)
        if kept is not None:
            values_BSr = kept.append("cross", values_BSr, config.window)
        k, mode = config.cross_token_k, config.cross_token_mode
        if mode == "topk" and k < p_BnS.shape[-1]:
            top = p_BnS.topk(k, dim=-1)
            p_BnS = torch.zeros_like(p_BnS).scatter(-1, top.indices, top.values)
        elif mode == "rms":
            rms_Bn = (p_BnS.square().sum(dim=-1) / seen_Bn).sqrt()
            least_Bn1 = config.cross_token_tau * rms_Bn[..., None]
            p_BnS = torch.where(p_BnS >= least_Bn1, p_BnS, 0.0)
        total_Bn1 = p_BnS.sum(dim=-1, keepdim=True)
        p_BnS = p_BnS / torch.where(total_Bn1 > 0, total_Bn1, 1.0)
        r_Bnr = p_BnS.to(values_BSr.dtype) @ values_BSr
        return self.cross_token["up"](config.cross_token_alpha * r_Bnr)


def pair(width: int, rank: int, out: int) -> nn.ModuleDict:
    """Two matrices, through a rank."""
    down, up = nn.Linear(width, rank, bias=False), nn.Linear(rank, out, bias=False)
    return nn.ModuleDict({"down": down, "up": up})


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: KablateConfig, layer: int):
        super().__init__()
        self.norm1, self.norm2 = build_norm(config), build_norm(config)
        linear = config.mixers is not None and config.mixers[layer] == "linear"
        self.attn = LinearAttention(config) if linear else Attention(config)
        self.mlp = Mlp(config, last=layer == config.num_hidden_layers - 1)

    def forward(self, x_BnE, gate_BnH, tokens: Tokens, kept) -> tuple:
        """(x_BnE, the gate of the next block)."""
        y_BnE, routing = self.attn(self.norm1(x_BnE), gate_BnH, tokens, kept)
        x_BnE = x_BnE + y_BnE
        y_BnE, gate_BnH = self.mlp(self.norm2(x_BnE), routing, tokens, kept)
        return x_BnE + y_BnE, gate_BnH


def build_norm(config: KablateConfig) -> nn.Module:
    """LayerNorm or RMSNorm."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.bias)


class KablateForCausalLM(PreTrainedModel, GenerationMixin):
    """Embeddings, blocks, tied head."""

    config_class = KablateConfig
    _no_split_modules = ["Block"]
    _tied_weights_keys = {"lm_head.weight": "wte.weight"}
    _input_embed_layer = "wte"

    def __init__(self, config: KablateConfig):
        super().__init__(config)
        E, learned = config.hidden_size, config.position == "learned"
        self.wte = nn.Embedding(config.vocab_size, E)
        self.wpe = nn.Embedding(config.max_position_embeddings, E) if learned else None
        depth = range(config.num_hidden_layers)
        self.h = nn.ModuleList(Block(config, layer) for layer in depth)
        self.norm_f = build_norm(config)
        self.lm_head = nn.Linear(E, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """generate() is to leave the making of the cache to `forward`."""
        return False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: KablateCache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits of the new tokens (the last `logits_to_keep`; 0: all), the loss with
        labels, the cache with `use_cache` or where one is given.

        attention_mask: (B, tokens so far), 0 where one is padding. Raises ValueError
        for another mask or cache, and beyond max_position_embeddings.
        """
        makes = past_key_values is None and use_cache
        cache = KablateCache(self.config) if makes else past_key_values
        if cache is not None and not isinstance(cache, KablateCache):
            raise ValueError(f"past_key_values: a {type(cache).__name__}, not ours")
        start = 0 if cache is None else cache.get_seq_length()
        tokens = self._tokens(input_ids, start, attention_mask, position_ids)
        x_BnE, gate_BnH = self.wte(input_ids), None
        if self.wpe is not None:
            x_BnE = x_BnE + self.wpe(tokens.position_Bn)
        states = [x_BnE]
        for i, block in enumerate(self.h):
            kept = None if cache is None else cache.layers[i]
            x_BnE, gate_BnH = block(x_BnE, gate_BnH, tokens, kept)
            states.append(x_BnE)
            if kept is not None:
                kept.length += x_BnE.shape[1]
        states[-1] = self.norm_f(x_BnE)
        logits_BnV, loss = self.lm_head(states[-1][:, -logits_to_keep:]), None
        if labels is not None:
            rows = self.config.vocab_size
            loss = self.loss_function(logits_BnV, labels, vocab_size=rows, **kwargs)
        shown = tuple(states) if output_hidden_states else None
        return CausalLMOutputWithPast(loss, logits_BnV, cache, shown)

    def _tokens(self, input_ids, start: int, mask, position_ids) -> Tokens:
        """Where they stand. Raises ValueError."""
        wanted = len(input_ids), start + input_ids.shape[1]
        if wanted[1] > (most := self.config.max_position_embeddings):
            raise ValueError(f"{wanted[1]} tokens exceed the context of {most}")
        if mask is not None and mask.shape != wanted:
            raise ValueError(f"attention_mask: {tuple(mask.shape)}, not {wanted}")
        real_BS = input_ids.new_ones(wanted) if mask is None else mask
        count_Bn = real_BS.long().cumsum(dim=1)[:, start:].clamp(min=1)
        position_Bn = count_Bn - 1 if position_ids is None else position_ids
        return Tokens(position_Bn, count_Bn, real_BS[:, start:].bool(), real_BS.bool())
