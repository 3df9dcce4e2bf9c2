"""What computes the attention of a training step: resolved once, by device and by
what the model asks for (`ModelSettings.obstacle`).
"""

import torch

from gpt2.settings import ModelSettings
from kernels.attention.configs import serves


def resolve_attention(settings: ModelSettings, kind: str) -> str:
    """The implementation on a kind of device, "cpu" or "cuda".

    `auto` is sdpa where it can serve; else on a GPU our kernels where they can and
    have tiles for it (one that is not there is taken to have them: a forecast); else
    the reference. What is asked for by name is taken.
    """
    asked = settings.attention.impl
    if asked != "auto":
        return asked
    if not settings.obstacle("sdpa"):
        return "sdpa"
    if kind == "cuda" and not settings.obstacle("triton"):
        there = torch.cuda.is_available()
        if not there or serves(torch.device("cuda"), settings.head_width):
            return "triton"
    return "reference"
