"""Our tensors under the names and in the layouts of other programs.

A dialect maps each of our modules to its name there. Every tensor of theirs is
a view of one of ours: rows of it, its transpose, or its rows in another order,
so that one table writes and reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from gpt2.model.gpt import GPT
from gpt2.settings.run import ModelSettings

State = dict[str, torch.Tensor]
QKV = "attn.projection.qkv"


@dataclass(frozen=True)
class Dialect:
    """names: module of ours -> theirs, {} the layer; q, k and v are rows of qkv.

    transposed: linear weights lie as (in, out). biased: every linear layer and
    norm has a bias, zero where ours has none. paired: rotary dimensions i and
    i + D/2 of a head lie side by side. ours: every tensor as this code names it.
    """

    names: Mapping[str, str]
    transposed: bool = False
    biased: bool = False
    paired: bool = False
    ours: bool = False


_GPT2_HF = {
    "wte": "transformer.wte",
    "wpe": "transformer.wpe",
    "norm1": "transformer.h.{}.ln_1",
    QKV: "transformer.h.{}.attn.c_attn",
    "attn.o": "transformer.h.{}.attn.c_proj",
    "norm2": "transformer.h.{}.ln_2",
    "mlp.inner": "transformer.h.{}.mlp.c_fc",
    "mlp.outer": "transformer.h.{}.mlp.c_proj",
    "norm_f": "transformer.ln_f",
}
_LLAMA_HF = {
    "wte": "model.embed_tokens",
    "norm1": "model.layers.{}.input_layernorm",
    "q": "model.layers.{}.self_attn.q_proj",
    "k": "model.layers.{}.self_attn.k_proj",
    "v": "model.layers.{}.self_attn.v_proj",
    "attn.o": "model.layers.{}.self_attn.o_proj",
    "norm2": "model.layers.{}.post_attention_layernorm",
    "mlp.gate": "model.layers.{}.mlp.gate_proj",
    "mlp.inner": "model.layers.{}.mlp.up_proj",
    "mlp.outer": "model.layers.{}.mlp.down_proj",
    "norm_f": "model.norm",
}
_GPT2_GGUF = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "norm1": "blk.{}.attn_norm",
    QKV: "blk.{}.attn_qkv",
    "attn.o": "blk.{}.attn_output",
    "norm2": "blk.{}.ffn_norm",
    "mlp.inner": "blk.{}.ffn_up",
    "mlp.outer": "blk.{}.ffn_down",
    "norm_f": "output_norm",
}
_LLAMA_GGUF = {
    "wte": "token_embd",
    "norm1": "blk.{}.attn_norm",
    "q": "blk.{}.attn_q",
    "k": "blk.{}.attn_k",
    "v": "blk.{}.attn_v",
    "attn.o": "blk.{}.attn_output",
    "norm2": "blk.{}.ffn_norm",
    "mlp.gate": "blk.{}.ffn_gate",
    "mlp.inner": "blk.{}.ffn_up",
    "mlp.outer": "blk.{}.ffn_down",
    "norm_f": "output_norm",
}
DIALECTS = {
    ("hf", "gpt2"): Dialect(_GPT2_HF, transposed=True, biased=True),
    ("hf", "llama"): Dialect(_LLAMA_HF),
    ("hf", "kablate"): Dialect({}, ours=True),
    ("gguf", "gpt2"): Dialect(_GPT2_GGUF, biased=True),
    ("gguf", "llama"): Dialect(_LLAMA_GGUF, paired=True),
}


@dataclass(frozen=True)
class Piece:
    """A tensor of theirs as a view of one of ours, or zeros for a bias of theirs
    that our model does not have.
    """

    theirs: str
    ours: str
    rows: slice | None = None  # of ours; None: all
    transposed: bool = False
    paired: int = 0  # heads whose rotary halves are interleaved

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows, of ours."""
        return tensor if self.rows is None else tensor[self.rows]

    def given(self, tensor: torch.Tensor) -> torch.Tensor:
        """Theirs, of ours."""
        tensor = self.view(tensor)
        if self.paired:
            tensor = tensor.unflatten(0, (self.paired, 2, -1))
            tensor = tensor.transpose(1, 2).flatten(0, 2)
        return tensor.T if self.transposed else tensor

    def taken(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows of ours, of theirs."""
        tensor = tensor.T if self.transposed else tensor
        if self.paired:
            tensor = tensor.unflatten(0, (self.paired, -1, 2))
            tensor = tensor.transpose(1, 2).flatten(0, 2)
        return tensor


def pieces(model: GPT, dialect: Dialect, vocabulary: int) -> Iterator[Piece]:
    """Every tensor of theirs; of the embedding the rows that tokens use."""
    settings, used = model.settings, slice(vocabulary)
    for name in model.state_dict() if dialect.ours else ():
        yield Piece(name, name, used if name == "wte.weight" else None)
    for module, name in dialect.names.items():
        layered = "{}" in name
        for layer in range(settings.depth) if layered else (0,):
            theirs, where = name.format(layer), f"h.{layer}." if layered else ""
            if module in ("wte", "wpe"):
                rows = used if module == "wte" else None
                yield Piece(f"{theirs}.weight", f"{module}.weight", rows)
                continue
            yield from _layer(settings, dialect, module, theirs, where)


def _layer(
    settings: ModelSettings, dialect: Dialect, module: str, theirs: str, where: str
) -> Iterator[Piece]:
    """Weight and bias of a linear layer or a norm."""
    norm = module.startswith("norm")
    rows, heads = _rows(settings, module)
    paired = heads if dialect.paired and module in ("q", "k") else 0
    ours = where + (QKV if module in ("q", "k", "v") else module)
    turned = dialect.transposed and not norm
    yield Piece(f"{theirs}.weight", f"{ours}.weight", rows, turned, paired)
    biased = settings.bias and not (norm and settings.norm == "rmsnorm")
    if biased or dialect.biased:
        yield Piece(f"{theirs}.bias", f"{ours}.bias", rows, False, paired)


def _rows(settings: ModelSettings, module: str) -> tuple[slice | None, int]:
    """The rows of qkv that q, k or v is, and its heads; (None, 0) for the rest."""
    H, G, D = settings.heads, settings.kv_heads, settings.head_width
    first = {"q": 0, "k": H, "v": H + G}
    if module not in first:
        return None, 0
    heads = H if module == "q" else G
    return slice(first[module] * D, (first[module] + heads) * D), heads


def give(model: GPT, dialect: Dialect, vocabulary: int) -> State:
    """Their tensors, of a model of ours."""
    ours, theirs = model.state_dict(), {}
    for piece in pieces(model, dialect, vocabulary):
        tensor = ours.get(piece.ours)
        if tensor is None:
            weight = ours[piece.ours.removesuffix("bias") + "weight"]
            tensor = weight.new_zeros(len(weight))
        theirs[piece.theirs] = piece.given(tensor).contiguous()
    return theirs


@torch.no_grad()
def take(model: GPT, theirs: State, dialect: Dialect, vocabulary: int) -> None:
    """Fill a model of ours; rows of the embedding that no token uses become zero.

    Raises ValueError for a tensor that is missing, has no place here, does not
    fit, or is a bias that the model does not have.
    """
    model.wte.weight.zero_()
    ours, left = model.state_dict(), dict(theirs)
    for piece in pieces(model, dialect, vocabulary):
        if piece.theirs not in left:
            raise ValueError(f"{piece.theirs} is missing")
        tensor = left.pop(piece.theirs)
        if piece.ours not in ours:
            if tensor.any():
                raise ValueError(f"{piece.theirs} is not zero: there is no bias here")
            continue
        place, tensor = piece.view(ours[piece.ours]), piece.taken(tensor)
        if place.shape != tensor.shape:
            raise ValueError(
                f"{piece.ours}: {tuple(place.shape)} here, {tuple(tensor.shape)} in "
                f"{piece.theirs}"
            )
        place.copy_(tensor)
    if left:
        raise ValueError(f"{min(left)} has no place here")
