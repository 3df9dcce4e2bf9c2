"""What a configuration costs, counted from the built model.

Nothing here trusts a setting: parameters, widths and ratios are read off the
model's own tensors, so that a claim in `# Expect:` is checked against what
would train.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import groupby
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from gpt2.model import precision
from gpt2.model.gpt import GPT, resolve_loss
from gpt2.model.initial import products as matrices_of
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.model.mixers.recurrence_impl import resolve_recurrence
from gpt2.model.values import Positions, Products
from gpt2.settings.run import ModelSettings, RunSettings
from kernels.linear_cross_entropy import CHUNK_ROWS

# Of a multiply-add in training: two forward, twice that backward.
FLOPS = 6
LOGIT_BYTES = 8
CHUNK_LOGIT_BYTES = 2
# The first and the last block differ from the others.
ENDS = 2
# Tokens at which a cache is measured: more than any window or band holds.
FAR = 1 << 24
# What a mixer tells of itself (Mixer.facts), beside what is counted here.
MIXER_FACTS = (
    *("heads", "kv_heads", "latent", "ra_alpha", "ra_band", "ra_learned", "ra_ct"),
    *("window", "biases"),
)


@dataclass(frozen=True)
class Facts:
    """Counts of one model; cache in values, FLOPs per trained token.

    What the blocks do not share is None: where layers have different mixers, the
    figures of one layer above all (`of_layer` has them).
    """

    parameters: int
    parameters_no_embedding: int
    attn_mlp_ratio: float | None
    network_ratio: float
    flops_per_token: int
    flops_per_token_causal: int
    cache_per_token_layer: int | None
    cache_constant_layer: int | None
    cache_per_token: int
    cache_constant: int
    cache_fp32: int
    layers: int
    mixers: str
    width: int
    heads: int | None
    mlp_dim: int
    latent: int | None
    kv_heads: int | None
    ra_alpha: float | None
    ra_band: int | None
    ra_ct: str | None
    window: int | None
    vocab_rows: int
    positions: int | None
    biases: bool
    gate_rank: int | None
    cross_rank: int | None

    def as_dict(self) -> dict:
        """For a metrics row."""
        return asdict(self)


def meta_model(settings: ModelSettings) -> GPT:
    """The model without memory behind it: shapes only."""
    with torch.device("meta"):
        return GPT(settings)


def count(model: GPT) -> Facts:
    """Facts of a built model, on any device.

    attn:MLP ratio: MLP-side over mixer-side matrix weights of an interior block (norms
    and biases left out); the network ratio sums over all blocks. FLOPs per token: six
    per weight that multiplies it (a multiply-add forward, two backward), 6 N with N the
    parameters without positions, and six per multiply-add of the blocks' `products`:
    12 layers H D T of plain attention, with all the keys that a query can see, as MFU
    usually is, and what a mechanism adds (docs/mechanisms.md). Filters of a convolution
    are not in N: they meet a channel each. The causal figure counts the keys that a query
    sees on average.
    """
    T, alike = model.settings.block_size, len(set(model.settings.layers)) == 1
    interior = (len(model.h) - 1) // 2
    total = sum(p.numel() for p in model.parameters())
    positions = 0 if model.wpe is None else model.wpe.weight.numel()
    multiplied = total - positions - _filters(model)
    products = Products(*map(sum, zip(*(block.products(T) for block in model.h))))
    sides = [_sides(model, i) for i in range(len(model.h))]
    mlp = model.h[interior].mlp
    layers = [of_layer(model, i) for i in range(len(model.h))]
    typical = layers[interior] if alike else {}
    mixers = {
        name: layers[0][name] if len({layer[name] for layer in layers}) == 1 else None
        for name in MIXER_FACTS
    }
    biases = mixers.pop("biases") and mlp.outer.bias is not None
    del mixers["ra_learned"]
    return Facts(
        parameters=total,
        parameters_no_embedding=total - positions - model.wte.weight.numel(),
        attn_mlp_ratio=typical.get("attn_mlp_ratio"),
        network_ratio=sum(m for _, m in sides) / sum(a for a, _ in sides),
        flops_per_token=FLOPS * multiplied + round(FLOPS * products.full),
        flops_per_token_causal=FLOPS * multiplied + round(FLOPS * products.causal),
        cache_per_token_layer=typical.get("cache_per_token"),
        cache_constant_layer=typical.get("cache_constant"),
        cache_per_token=sum(layer["cache_per_token"] for layer in layers),
        cache_constant=sum(layer["cache_constant"] for layer in layers),
        cache_fp32=sum(block.cache_size(FAR).fp32 for block in model.h),
        layers=len(model.h),
        mixers=_runs(layer["mixer"] for layer in layers),
        width=model.wte.weight.shape[1],
        mlp_dim=mlp.inner.out_features,
        vocab_rows=model.wte.weight.shape[0],
        positions=None if model.wpe is None else model.wpe.weight.shape[0],
        biases=biases,
        gate_rank=None if mlp.attn_gate is None else mlp.attn_gate.up.in_features,
        cross_rank=None if mlp.cross_token is None else mlp.cross_token.up.in_features,
        **mixers,
    )


def of_layer(model: GPT, layer: int) -> dict[str, Any]:
    """What one block costs and what its mixer is: attn_mlp_ratio, cache_per_token and
    cache_constant (values; 0 where a part of what grows begins some tokens late), mixer,
    and the facts of mixers, None where it has none.
    """
    block = model.h[layer]
    mixer, mlp = _sides(model, layer)
    far = block.cache_size(FAR).total
    grows = (block.cache_size(2 * FAR).total - far) // FAR
    return {
        **dict.fromkeys(MIXER_FACTS),
        **block.attn.facts(),
        "mixer": block.attn.kind,
        "attn_mlp_ratio": mlp / mixer,
        "cache_per_token": grows,
        "cache_constant": max(far - grows * FAR, 0),
    }


def _runs(names: Iterable[str]) -> str:
    """Names in a row, as "attention" or "3 linear, 1 attention, 3 linear"."""
    runs = [(len(list(run)), name) for name, run in groupby(names)]
    if len(runs) == 1:
        return runs[0][1]
    return ", ".join(f"{count} {name}" for count, name in runs)


def _filters(model: GPT) -> int:
    """Weights of convolutions: what has two dimensions and is no product."""
    weights = {name: p for name, p in model.named_parameters() if p.dim() >= 2}
    return sum(weights[name].numel() for name in weights.keys() - matrices_of(model))


def _sides(model: GPT, layer: int) -> tuple[int, int]:
    """(attention, MLP) matrix weights of one block."""
    totals = {"attn": 0, "mlp": 0}
    for matrix in model.h[layer].matrices(f"h.{layer}"):
        totals[matrix.side] += matrix.data.numel()
    return totals["attn"], totals["mlp"]


def activation_bytes(settings: RunSettings, micro_batch: int) -> int:
    """Estimated peak bytes of what a micro-batch adds to a training run's weights,
    run eagerly: a bf16 copy with its gradient (4 bytes per parameter of it) included.

    What autograd saves in a forward pass, counted storage by storage on fake tensors
    under the configured autocast, + the larger of what the loss holds besides, 8 bytes
    per logit (the gradient in fp32 and, at its peak, the logits once more; with the
    chunked loss 2 bytes per logit of a chunk), and, later, of what a mixer makes again.
    `auto` is counted as it resolves on the
    configured device, cuda where that is auto. Compilation needs less.
    """
    model, system = settings.model, settings.system
    kind = "cpu" if system.device == "cpu" else "cuda"
    chunked = resolve_loss(model.loss, kind)
    model = replace(model, loss=chunked)
    if model.attention in model.layers:
        impl = resolve_attention(model, kind, system.dtype != "fp32")
        model = model.with_attention(impl=impl)
    if model.recurrences:
        model = replace(model, mixer_impl=resolve_recurrence(model, kind))
    held = _forward_bytes(model, system.dtype, system.param_dtype, micro_batch)
    again = _recomputed_bytes(model, system.dtype, kind, micro_batch)
    tokens_at_once = micro_batch * model.block_size
    if chunked == "chunked":
        logits = CHUNK_LOGIT_BYTES * min(tokens_at_once, CHUNK_ROWS)
    else:
        logits = LOGIT_BYTES * tokens_at_once
    return held + max(logits * model.vocab_rows, again)


def _forward_bytes(
    model: ModelSettings, dtype: str, param_dtype: str, micro_batch: int
) -> int:
    """What a forward pass leaves for backward, and a bf16 copy with its gradient.

    Interior blocks repeat: what one more turn of the pattern adds is counted once.
    """
    turn = len(model.pattern)
    least = max(turn + ENDS, 2 * turn)
    depth = min(model.depth, least + (model.depth - least) % turn)
    held = partial(_held, dtype=dtype, param_dtype=param_dtype, micro_batch=micro_batch)
    whole = held(replace(model, depth=depth))
    if model.depth > depth:
        added = whole - held(replace(model, depth=depth - turn))
        whole += (model.depth - depth) // turn * added
    return whole


@cache
def _recomputed_bytes(
    model: ModelSettings, dtype: str, device: str, micro_batch: int
) -> int:
    """The most bytes that the mixer of a layer makes again in the backward pass."""
    torch.clear_autocast_cache()  # what failed in an autocast may have left casts
    with FakeTensorMode(), torch.device("cpu"):
        net, found = GPT(replace(model, depth=len(model.pattern))), [0]
        tokens = torch.zeros(micro_batch, model.block_size, dtype=torch.long)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            x_BTE = net.embed(tokens, Positions())
            for block in net.h:
                x = block.norm1(x_BTE)
                found.append(block.attn.recomputed_bytes(x, device))
    return max(found)


@cache
def _held(model: ModelSettings, dtype: str, param_dtype: str, micro_batch: int) -> int:
    """The same for few layers, storage by storage."""
    torch.clear_autocast_cache()  # see above
    with FakeTensorMode(), torch.device("cpu"):
        net = GPT(model)
        weights = precision.build(net, param_dtype)
        tokens = torch.zeros(micro_batch, model.block_size, dtype=torch.long)
        starts = tokens.int() if model.documents_apart else None
        saved: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            saved[storage._cdata] = storage
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                weights.model(tokens, tokens, starts)
        held = {*net.parameters(), *weights.model.parameters()}
        for parameter in held:
            saved.pop(parameter.untyped_storage()._cdata, None)
        copies = held - set(net.parameters())
        return sum(storage.nbytes() for storage in saved.values()) + sum(
            2 * p.numel() * p.element_size() for p in copies
        )
