"""What the proofs of native sparse attention look at: its part of a step.

Legend: T tokens, H query heads, G key/value heads, D head width, C compression blocks.
"""

from dataclasses import replace

import torch

from gpt2.check.subject import Subject
from gpt2.model.mixers.nsa.nsa import Nsa
from gpt2.settings.mixers.nsa import NsaSettings
from gpt2.settings.model import ModelSettings
from kernels.nsa import Memory, NsaSpec


def options_of(subject: Subject) -> NsaSettings | None:
    """Its settings of native sparse attention, None where no layer has it."""
    layers = subject.small.model.layers
    return next((layer for layer in layers if layer.name == NsaSettings.name), None)


def model_of(
    subject: Subject, options: NsaSettings, T: int, depth: int = 2
) -> ModelSettings:
    """The small model with that mixer in every layer, sizes as they stand in options,
    and a context of T.
    """
    return replace(
        subject.small.model,
        mixer=NsaSettings.name,
        mixer_layers="",
        others=(options,),
        length_divisor=1,
        depth=depth,
        block_size=T,
    )


def undivided(subject: Subject, options: NsaSettings, **changes) -> NsaSettings:
    """The options with the lengths of the small model written out, and changes."""
    l, d, b, n, w = options.sizes(subject.small.model)
    sizes = {"length": l, "stride": d, "block": b, "top": n, "window": w}
    return replace(options, **(sizes | changes))


def mixers(model: torch.nn.Module) -> list[Nsa]:
    """Those of a model."""
    return [block.attn for block in model.h if block.attn.kind == Nsa.kind]


def drawn(T: int, H: int, G: int, D: int, C: int, seed: int = 0):
    """q_1THD and a memory of random keys whose values are the rows of a unit matrix: an
    output is then the row of weights that made it.
    """
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=stream, dtype=torch.float64)

    def unit(count: int) -> torch.Tensor:
        rows = torch.eye(count, dtype=torch.float64)[None, :, None]
        return rows.expand(1, count, G, count)

    pairs = (normal(C, G, D), unit(C), normal(T, G, D), unit(T))
    return normal(T, H, D), Memory(*pairs, normal(T, G, D), unit(T))


def read_by(spec: NsaSpec, memory: Memory) -> Memory:
    """The memory of the branches that are there."""
    k_cmp, v_cmp, *rest = memory
    compressed = (k_cmp if spec.scores else None, v_cmp if has(spec, "cmp") else None)
    selected = rest[:2] if has(spec, "sel") else (None, None)
    window = rest[2:] if has(spec, "win") else (None, None)
    return Memory(*compressed, *selected, *window)


def has(spec: NsaSpec, branch: str) -> bool:
    """Whether the branch is there."""
    return branch in spec.branches
