"""What computes the recurrences of a model: resolved once, by device and by what its
mixers decay.
"""

import torch

from gpt2.settings.model import WIDEST_KEYS, ModelSettings
from kernels.targets import RECURRENT, target_of


def resolve_recurrence(settings: ModelSettings, kind: str) -> str:
    """The implementation on a kind of device, "cpu" or "cuda".

    `auto` is our kernels on a GPU where a layer decays by head and they have tiles for
    its heads (one that is not there is taken to have them: a forecast), else the reference.
    What is asked for by name is taken. Layers that decay by channel are computed by the
    reference in any case. Where no layer is recurrent it is "none".
    """
    kinds = settings.recurrences
    if not kinds:
        return "none"
    if settings.mixer_impl != "auto":
        return settings.mixer_impl
    ours = kind == "cuda" and "head" in kinds and settings.widest_keys <= WIDEST_KEYS
    if ours and torch.cuda.is_available():
        ours = target_of(torch.device("cuda")) in RECURRENT
    return "triton" if ours else "reference"


def by_device(settings: ModelSettings) -> dict[str, str]:
    """Kind of device -> the implementation there."""
    return {kind: resolve_recurrence(settings, kind) for kind in ("cpu", "cuda")}
