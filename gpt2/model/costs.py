"""What a configuration costs, counted from the built model.

Nothing here trusts a setting: parameters, widths and ratios are read off the
model's own tensors, so that a claim in `# Expect:` is checked against what
would train.
"""

from dataclasses import asdict, dataclass, replace
from functools import cache, partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from gpt2.model import precision
from gpt2.model.gpt import GPT, resolve_loss
from gpt2.model.mixers.attention.impl import resolve_attention
from gpt2.settings.run import ModelSettings, RunSettings
from kernels.linear_cross_entropy import CHUNK_ROWS

# Of a multiply-add in training: two forward, twice that backward.
FLOPS = 6
# Bytes per parameter that training holds in fp32: weight and gradient, and what
# the optimizer keeps of a weight of a block's matrix and of any other.
HELD_BYTES = 8
STATE_BYTES = {
    "sgd": (4, 4),
    "adam": (8, 8),
    "adamw": (8, 8),
    "adamwadv": (12, 12),
    "muon": (4, 8),
    "adamwspam": (8, 8),
}
# Per weight of a block's matrix: the mask, and the score of movement pruning.
PRUNING_BYTES = {"none": 0, "magnitude": 1, "movement": 5, "state": 1}
LOGIT_BYTES = 8
CHUNK_LOGIT_BYTES = 2
# The first and the last block differ from the others: one interior block at least.
INTERIOR = 3


@dataclass(frozen=True)
class Facts:
    """Counts of one model; cache in values per layer, FLOPs per trained token."""

    parameters: int
    parameters_no_embedding: int
    attn_mlp_ratio: float
    network_ratio: float
    flops_per_token: int
    flops_per_token_causal: int
    cache_per_token_layer: int
    cache_constant_layer: int
    layers: int
    width: int
    heads: int
    mlp_dim: int
    latent: int | None
    kv_heads: int
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

    attn:MLP ratio: MLP-side over attention-side matrix weights of an interior
    block (norms and biases left out); the network ratio sums over all blocks.
    FLOPs per token: six per weight that multiplies it (a multiply-add forward, two
    backward), 6 N with N the parameters without positions, and six per multiply-add
    of the blocks' `products`: 12 layers H D T of plain attention, counted full as
    MFU usually is, and what a mechanism adds (docs/mechanisms.md). The causal
    figure counts half of what meets all T tokens (PaLM, 2204.02311, appendix B).
    """
    layers, T = len(model.h), model.settings.block_size
    interior = (layers - 1) // 2
    block = model.h[interior]
    width = model.wte.weight.shape[1]
    total = sum(p.numel() for p in model.parameters())
    positions = 0 if model.wpe is None else model.wpe.weight.numel()
    with_all, others = map(sum, zip(*(block.products(T) for block in model.h)))
    flops = FLOPS * (total - positions + with_all + others)
    sides = [_sides(model, i) for i in range(layers)]
    attention_weights, mlp_weights = sides[interior]
    attn, mlp, projection = block.attn, block.mlp, block.attn.projection
    return Facts(
        parameters=total,
        parameters_no_embedding=total - positions - model.wte.weight.numel(),
        attn_mlp_ratio=mlp_weights / attention_weights,
        network_ratio=sum(m for _, m in sides) / sum(a for a, _ in sides),
        flops_per_token=flops,
        flops_per_token_causal=flops - FLOPS * with_all // 2,
        cache_per_token_layer=block.cache_per_token(),
        cache_constant_layer=block.cache_constant(),
        layers=layers,
        width=width,
        heads=projection.heads,
        mlp_dim=mlp.inner.out_features,
        latent=projection.latent_width(),
        kv_heads=projection.kv_heads,
        ra_alpha=None if attn.ra is None else attn.ra.start,
        ra_band=None if attn.ra is None else attn.ra.band,
        ra_ct=None if attn.ra_ct is None else attn.ra_ct.name,
        window=attn.window,
        vocab_rows=model.wte.weight.shape[0],
        positions=None if model.wpe is None else model.wpe.weight.shape[0],
        biases=attn.o.bias is not None and mlp.outer.bias is not None,
        gate_rank=None if mlp.attn_gate is None else mlp.attn_gate.up.in_features,
        cross_rank=None if mlp.cross_token is None else mlp.cross_token.up.in_features,
    )


def _sides(model: GPT, layer: int) -> tuple[int, int]:
    """(attention, MLP) matrix weights of one block."""
    totals = {"attn": 0, "mlp": 0}
    for matrix in model.h[layer].matrices(f"h.{layer}"):
        totals[matrix.side] += matrix.data.numel()
    return totals["attn"], totals["mlp"]


def memory_estimate(settings: RunSettings, micro_batch: int) -> int:
    """Estimated peak bytes of training with this micro-batch, run eagerly.

    Weights, gradients, optimizer state and masks (AdamW: 16 bytes per parameter,
    4 more for a bf16 copy and its gradient) + what autograd saves in a forward
    pass, counted storage by storage on fake tensors under the configured autocast
    + 8 bytes per logit for what the loss holds besides (the gradient in fp32 and,
    at its peak, the logits once more); with the chunked loss 2 bytes per logit of
    a chunk. `auto` is counted as it resolves on the configured device, cuda where
    that is auto. Compilation needs less.
    """
    model, system = settings.model, settings.system
    kind = "cpu" if system.device == "cpu" else "cuda"
    chunked = resolve_loss(model.loss, kind)
    impl = resolve_attention(model, kind, system.dtype != "fp32")
    attention = replace(model.attention, impl=impl)
    model = replace(model, loss=chunked, attention=attention)
    held = _forward_bytes(model, system.dtype, system.param_dtype, micro_batch)
    tokens_at_once = micro_batch * model.block_size
    if chunked == "chunked":
        logits = CHUNK_LOGIT_BYTES * min(tokens_at_once, CHUNK_ROWS)
    else:
        logits = LOGIT_BYTES * tokens_at_once
    state = _state(settings, meta_model(model))
    return state + held + logits * model.vocab_rows


def _forward_bytes(
    model: ModelSettings, dtype: str, param_dtype: str, micro_batch: int
) -> int:
    """What a forward pass leaves for backward, and a bf16 copy with its gradient.

    Interior blocks are alike: what one more of them adds is counted once.
    """
    layers = min(model.layers, INTERIOR)
    held = partial(_held, dtype=dtype, param_dtype=param_dtype, micro_batch=micro_batch)
    whole = held(replace(model, layers=layers))
    if model.layers > layers:
        block = whole - held(replace(model, layers=layers - 1))
        whole += (model.layers - layers) * block
    return whole


@cache
def _held(model: ModelSettings, dtype: str, param_dtype: str, micro_batch: int) -> int:
    """The same for few layers, storage by storage."""
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


def _state(settings: RunSettings, net: GPT) -> int:
    """Bytes of weights, gradients, optimizer state, masks and pruning scores."""
    matrix, other = STATE_BYTES[settings.optim.kind]
    if settings.optim.sgd_momentum == 0:
        matrix = other = 0
    matrix += PRUNING_BYTES[settings.pruning.kind]
    total = 0
    for name, parameter in net.named_parameters():
        covered = name.startswith("h.") and parameter.dim() == 2
        total += parameter.numel() * (HELD_BYTES + (matrix if covered else other))
    return total
