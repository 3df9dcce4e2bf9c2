"""GPT-2 weights in Hugging Face's names and layout, into this model.

The baseline is GPT-2: a state dict of transformers' GPT2LMHeadModel gives the
same logits here.
"""

from collections.abc import Mapping

import torch

from gpt2.model import GPT

# ours -> theirs; theirs keeps linear weights as (in, out).
OUTER = {
    "wte.weight": "transformer.wte.weight",
    "wpe.weight": "transformer.wpe.weight",
    "norm_f.weight": "transformer.ln_f.weight",
    "norm_f.bias": "transformer.ln_f.bias",
}
BLOCK = {
    "norm1": "ln_1",
    "attn.projection.qkv": "attn.c_attn",
    "attn.o": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.inner": "mlp.c_fc",
    "mlp.outer": "mlp.c_proj",
}


@torch.no_grad()
def load_gpt2(model: GPT, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a GPT2LMHeadModel state dict into a baseline model.

    The vocabulary's padding rows are set to zero. Raises KeyError for a name
    that is missing and ValueError for a shape that does not fit.
    """
    names = dict(OUTER)
    for layer in range(len(model.h)):
        for ours, theirs in BLOCK.items():
            for part in ("weight", "bias"):
                names[f"h.{layer}.{ours}.{part}"] = (
                    f"transformer.h.{layer}.{theirs}.{part}"
                )
    for name, parameter in model.named_parameters():
        source = state[names[name]]
        if ".norm" not in name and name.startswith("h.") and source.dim() == 2:
            source = source.T
        if name == "wte.weight":
            parameter.zero_()
            parameter = parameter[: source.shape[0]]
        if parameter.shape != source.shape:
            raise ValueError(
                f"{name}: {tuple(parameter.shape)} here, {tuple(source.shape)} in "
                f"{names[name]}"
            )
        parameter.copy_(source)
