"""The gate over the branches of native sparse attention.

Legend: B batch, T tokens, E width, H query heads, D head width, m branches.
"""

import torch

from gpt2.check.proofs.sparse.part import mixers, options_of
from gpt2.check.subject import CONTEXT, SEED, Subject, require
from gpt2.model.mixers.nsa.nsa import Nsa
from gpt2.model.values import Positions

START = {
    "sigmoid": lambda m: 1 / 2,
    "softmax": lambda m: 1 / m,
    "fixed": lambda m: 1 / m,
}
TOLERANCE = 1e-12


def gate(subject: Subject) -> None:
    """γ starts at 1/2 (sigmoid) or 1/m (softmax, fixed) everywhere, since its last layer
    is 0. Away from there a softmax's shares sum to 1, the same for all heads of a group;
    every branch's share follows its input and the last layer's weights, but that of
    `fixed`, which has none.
    """
    options = options_of(subject)
    if options is None or len(options.branches) == 1:
        return
    start = START[options.gate](len(options.branches))
    for i, mixer in enumerate(mixers(subject.build().double())):
        off = (_shares(mixer) - start).abs().max().item()
        require(off <= TOLERANCE, f"γ of h.{i} starts {off:.2e} away from {start:.4f}")
    for i, mixer in enumerate(mixers(subject.randomised())):
        _acts(mixer, i, options.gate)


def _shares(mixer: Nsa) -> torch.Tensor:
    """γ_BTHm of random inputs."""
    width = mixer.projection.q.in_features
    stream = torch.Generator().manual_seed(SEED)
    x_BTE = torch.randn(2, CONTEXT, width, generator=stream, dtype=torch.float64)
    made = mixer.projection(x_BTE, Positions())
    return mixer.gate(x_BTE, made.q_BnHD).detach()


def _acts(mixer: Nsa, i: int, kind: str) -> None:
    shares_BTHm = _shares(mixer)
    low, high = shares_BTHm.min().item(), shares_BTHm.max().item()
    require(0 <= low and high <= 1, f"γ of h.{i} is {low:.3f} … {high:.3f}")
    moves = shares_BTHm.flatten(0, 1).std(dim=0).min().item()
    if kind == "fixed":
        require(moves == 0, f"the fixed γ of h.{i} differs between tokens")
        return
    require(moves > 1e-6, f"a branch of h.{i} has the same γ at every token")
    if kind == "softmax":
        off = (shares_BTHm.sum(dim=3) - 1).abs().max().item()
        require(off <= TOLERANCE, f"γ of h.{i} sums to 1 ± {off:.2e} over the branches")
        groups = mixer.projection.kv_heads
        apart = shares_BTHm.unflatten(2, (groups, -1)).diff(dim=3).abs()
        require(
            apart.numel() == 0 or apart.max().item() == 0,
            f"heads of one group of h.{i} have different γ",
        )
    with torch.no_grad():
        mixer.gate.outer.weight.zero_()
        mixer.gate.outer.bias.zero_()
    start = START[kind](shares_BTHm.shape[3])
    off = (_shares(mixer) - start).abs().max().item()
    require(off <= TOLERANCE, f"γ of h.{i} without its last layer is {off:.2e} off")
