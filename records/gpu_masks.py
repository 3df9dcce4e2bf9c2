"""The variables that hide GPUs from a process, as far as no driver need be asked.

A mask names GPUs by number or by UUID, separated by commas. What follows an entry that
names no GPU is hidden too; such an entry is a negative number, nothing, or Slurm's
NoDevFiles. What else stands there is a slip, and the runtimes hide every GPU for it
without a word: it is refused.
"""

import os
import re
from typing import Mapping

from records.files import shown

CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
NAMES = (CUDA, HIP, ROCR)
NONE = re.compile(r"|-\d+|NoDevFiles", re.IGNORECASE)
GPU = re.compile(r"\d+|(GPU|MIG)-[\w/-]*", re.ASCII | re.IGNORECASE)


class MaskError(ValueError):
    """A mask that cannot be followed; the message says what to write instead."""


def require(environment: Mapping[str, str] = os.environ) -> None:
    """Raise MaskError for an entry that is no number, UUID or sign for none."""
    for name in NAMES:
        for item in environment.get(name, "").split(","):
            if not NONE.fullmatch(item.strip()) and not GPU.fullmatch(item.strip()):
                raise MaskError(
                    f"{_written(environment, name)}: {shown(repr(item.strip()))} is "
                    "neither a GPU's number nor its UUID (GPU-…): write 0,1, -1 for "
                    "none, or unset it"
                )


def why_no_gpu(environment: Mapping[str, str] = os.environ) -> str:
    """Why torch finds no GPU, as far as the masks tell; "" where there is none.

    Raises MaskError.
    """
    require(environment)
    masks = [name for name in NAMES if name in environment]
    for name in masks:
        if NONE.fullmatch(environment[name].split(",")[0].strip()):
            return f"{_written(environment, name)} hides every GPU"
    return f"none is seen under {_written(environment, masks[0])}" if masks else ""


def _written(environment: Mapping[str, str], name: str) -> str:
    return shown(f"{name}={environment[name]}")
