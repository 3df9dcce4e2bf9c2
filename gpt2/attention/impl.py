"""What computes the attention of a training step: resolved once, by device and by
what the model asks for (`ModelSettings.obstacle`).
"""

import torch

from gpt2.settings import ModelSettings
from kernels.attention.configs import serves, target_of

# Up to so many tokens our kernels outrun torch's plain attention, where q, k and v
# come from one product: the join of their gradients, 0.2 ms per layer at 65,536
# tokens, is spared (results/bench). Beyond it and elsewhere torch's is faster.
OURS_UP_TO = {"cuda:90": 4096}


def resolve_attention(settings: ModelSettings, kind: str) -> str:
    """The implementation on a kind of device, "cpu" or "cuda".

    `auto` is sdpa where it can serve; else on a GPU our kernels where they can and
    have tiles for it (one that is not there is taken to have them: a forecast); else
    the reference. With documents apart sdpa needs a mask of B x T x T, and our
    kernels come first, as they do where they are faster. What is asked for by name
    is taken.
    """
    asked = settings.attention.impl
    if asked != "auto":
        return asked
    order = ["sdpa", "triton"]
    if settings.documents_apart or kind == "cuda" and _ours_is_faster(settings):
        order.reverse()
    return next((name for name in order if _can(settings, name, kind)), "reference")


def _can(settings: ModelSettings, name: str, kind: str) -> bool:
    """Whether an implementation computes this model on that kind of device."""
    if settings.obstacle(name):
        return False
    if name == "sdpa":
        return True
    there = torch.cuda.is_available()
    tiles = not there or serves(torch.device("cuda"), settings.head_width)
    return kind == "cuda" and tiles


def _ours_is_faster(settings: ModelSettings) -> bool:
    """Whether our kernels outrun torch's at plain attention on this machine's GPU."""
    packs = settings.attention.projection != "mla" and settings.position != "rope"
    if not packs or not torch.cuda.is_available():
        return False
    return settings.block_size <= OURS_UP_TO.get(target_of(torch.device("cuda")), 0)
