"""What makes a compression block's key and value begins as the mean of its tokens.

Legend: B batch, C compression blocks, G key/value heads, l tokens of a block, D head
width.
"""

import torch

from gpt2.check.proofs.sparse.part import mixers, options_of
from gpt2.check.subject import SEED, Subject, require
from gpt2.model.mixers.nsa.nsa import Nsa

TOLERANCE = 1e-6
"""Of initial values that are fp32: 1/l is rounded."""


def phi(subject: Subject) -> None:
    """At the initial values every φ gives the mean, so that steps that differ in it begin
    as the same function; away from them all but `mean` give something else.
    """
    if options_of(subject) is None:
        return
    for started, model in ((True, subject.build()), (False, subject.randomised())):
        for i, mixer in enumerate(mixers(model.double())):
            for name, part in mixer.projection.phi.items():
                _is_mean(part, f"h.{i} φ of {name}", mixer, started)


def _is_mean(part: torch.nn.Module, name: str, mixer: Nsa, started: bool) -> None:
    made = mixer.projection
    stream = torch.Generator().manual_seed(SEED)
    shape = 2, 5, made.kv_heads, mixer.spec.length, made.head_width
    x_BCGlD = torch.randn(shape, generator=stream, dtype=torch.float64)
    with torch.no_grad():
        off = (part(x_BCGlD) - x_BCGlD.mean(dim=3)).abs().max().item()
    learns = any(True for _ in part.parameters())
    if started or not learns:
        require(off <= TOLERANCE, f"{name} starts {off:.2e} away from the mean")
    else:
        require(off > TOLERANCE, f"{name} is the mean whatever its weights are")
