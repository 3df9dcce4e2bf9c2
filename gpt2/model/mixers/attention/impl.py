"""What computes the attention of a training step: resolved once, by device and by
what the model asks for (`ModelSettings.obstacle`).
"""

import torch

from gpt2.settings.run import ModelSettings
from kernels.attention.configs import serves
from kernels.targets import target_of

# Up to so many tokens our kernels outrun torch's plain attention in 16 bits, where q,
# k and v come from one product: the join of their gradients, 0.2 ms per layer at 65,536
# tokens, is spared (results/bench). Beyond it and elsewhere torch's is faster.
OURS_UP_TO = {"cuda:90": 4096}


def resolve_attention(settings: ModelSettings, kind: str, half: bool) -> str:
    """The implementation on a kind of device, "cpu" or "cuda", in 16 bits or fp32.

    `auto` is sdpa where it can serve; else on a GPU our kernels where they can and
    have tiles for it (one that is not there is taken to have them: a forecast); else
    the reference. With documents apart sdpa needs a mask of B x T x T, and our
    kernels come first, as they do where they are faster. What is asked for by name
    is taken; where no layer is attention it is "none".
    """
    if settings.attention not in settings.layers:
        return "none"
    asked = settings.attention.impl
    if asked != "auto":
        return asked
    order = ["sdpa", "triton"]
    faster = kind == "cuda" and half and _ours_is_faster(settings)
    if settings.documents_apart or faster:
        order.reverse()
    return next((n for n in order if _can(settings, n, kind, half)), "reference")


def _can(settings: ModelSettings, name: str, kind: str, half: bool) -> bool:
    """Whether an implementation computes this model on that kind of device."""
    if settings.obstacle(name):
        return False
    if name == "sdpa" or kind != "cuda" or not torch.cuda.is_available():
        return name == "sdpa" or kind == "cuda"
    attention = settings.attention
    return serves(
        torch.device("cuda"),
        settings.head_width,
        torch.bfloat16 if half else torch.float32,
        attention.ra,
        attention.normaliser == "softpick",
    )


def _ours_is_faster(settings: ModelSettings) -> bool:
    """Whether our kernels outrun torch's at plain attention on this machine's GPU."""
    packs = settings.attention.projection != "mla" and settings.position != "rope"
    if not packs or not torch.cuda.is_available():
        return False
    return settings.block_size <= OURS_UP_TO.get(target_of(torch.device("cuda")), 0)
