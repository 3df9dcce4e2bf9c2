"""What computes the attention of a decode: resolved once, before a model is built, by
device and by what the model asks for.
"""

import torch

from gpt2.settings.run import ModelSettings
from kernels.decode import serves
from kernels.decode.configs import WIDEST, WIDEST_HEAD


def decode_obstacle(settings: ModelSettings, kind: str) -> str | None:
    """What keeps our kernels from decoding this model on a kind of device, or None."""
    attention, cuda = settings.attention, kind == "cuda"
    if attention not in settings.layers:
        return "decode a model without attention"
    obstacles = {
        f"run on {kind}": not cuda,
        "run on this GPU (kernels/decode/configs.py lists the targets)": (
            cuda and torch.cuda.is_available() and not serves(torch.device("cuda"))
        ),
        "gather the statistics of CONFIG_RA_CT": attention.ra_ct,
        "route for CONFIG_MLP_CROSS_TOKEN": settings.mlp.cross_token,
        f"hold heads {settings.head_width} wide (at most {WIDEST_HEAD})": (
            settings.head_width > WIDEST_HEAD
        ),
        f"hold a latent of {settings.latent} (at most {WIDEST})": (
            (settings.latent or 0) > WIDEST
        ),
    }
    return next((name for name, met in obstacles.items() if met), None)


def resolve_decoder(settings: ModelSettings, asked: str, kind: str) -> str:
    """reference or triton. `auto` is triton where it can serve. A step of more than
    16 new tokens, a prompt, is read by the reference either way.

    Raises ValueError for triton where it cannot.
    """
    obstacle = decode_obstacle(settings, kind)
    if asked == "auto":
        return "reference" if obstacle else "triton"
    if asked == "triton" and obstacle:
        raise ValueError(
            f"DECODE=triton: our kernels cannot {obstacle}; use DECODE=reference"
        )
    return asked
