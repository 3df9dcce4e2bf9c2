"""Initial values: their size, and what they may depend on."""

import hashlib
import math
from dataclasses import replace

import torch

from gpt2.check.subject import SEED, Broken, Subject, require
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import ModelSettings

# Standard errors that a measured deviation or mean may be away.
ERRORS = 6
# Layers of the models whose initial values are compared between steps.
PAIRED_DEPTH = 5
# Numbers that two matrices may not have in common.
PREFIX = 16
ZEROS = ("bias", "place_lD", "gate.outer.weight", "phi.k.outer.weight")
ZEROS += ("phi.v.outer.weight", "decay_offset")
ONES = ("norm1.weight", "norm2.weight", "norm_f.weight", "scale_H", "read_H", "write_H")
ONES += ("attn.norm.weight", "D_skip")
# sqrt(n) times the largest distance of n numbers' distribution from the law's: by chance
# one case in eight thousand has more (Kolmogorov and Smirnov).
DISTANCE = 2.2
ROUNDED = 1e-5


def initial_values(subject: Subject) -> None:
    """Every matrix is normal with the deviation of its kind, filters, rates and steps are
    distributed as their law says, between its ends, every other parameter is at its start.
    Seed, salt and name each change the values, nothing else does: a wider MLP begins with
    a narrower one.
    """
    model, shape = subject.build(), subject.small.model
    for name, value in _matrices(model).items():
        _normal(name, value, deviation(name, shape))
    values = _drawn(model)
    _lawful(model, shape)
    _vectors(model, shape)
    _bases(model, subject.build(seed=SEED + 1))
    again, seed = _drawn(subject.build()), _drawn(subject.build(seed=SEED + 1))
    salted = GPT(shape)
    initialise(salted, SEED, subject.settings.train.init_salt + "x")
    salt, first = _drawn(salted), {}
    for name, value in values.items():
        require(torch.equal(value, again[name]), f"{name} is drawn anew each time")
        require(not torch.equal(value, seed[name]), f"{name} ignores the seed")
        require(not torch.equal(value, salt[name]), f"{name} ignores the salt")
        drawn = (value / value.std()).flatten()[:PREFIX]
        start = tuple(round(number, 2) for number in drawn.tolist())
        other = first.setdefault(start, name)
        require(other == name, f"{name} begins with the values of {other}")
    _wider(values, shape, subject)


def deviation(name: str, shape: ModelSettings) -> float:
    """0.02; 0.02 / sqrt(2 layers) for what writes to the residual stream; 1 / sqrt(L)
    for what makes keys and values of a latent.
    """
    if name.endswith(("attn.o", "mlp.out")):
        return 0.02 / math.sqrt(2 * shape.depth)
    if name.endswith(("attn.k_up", "attn.v_up")):
        return shape.latent**-0.5
    return 0.02


def digests(subject: Subject) -> dict[tuple, str]:
    """(salt, name, depth and shape) -> SHA-256 of the initial values, matrix by matrix.

    Of a model as deep as all steps' are, or as its pattern: what writes to the residual
    stream starts by the depth.
    """
    salt = subject.settings.train.init_salt
    depth = max(PAIRED_DEPTH, len(subject.small.model.pattern))
    return {
        (salt, name, depth, *value.shape): hashlib.sha256(
            value.numpy().tobytes()
        ).hexdigest()
        for name, value in _drawn(subject.build(depth=depth)).items()
    }


def require_shared(
    step: str, own: dict[tuple, str], seen: dict[tuple, tuple[str, str]]
) -> None:
    """Steps of a study share the initial value of every matrix they share.

    seen: (salt, name, depth and shape) -> (digest, step that had it first). Raises Broken.
    """
    for key, digest in own.items():
        first, other = seen.setdefault(key, (digest, step))
        if digest != first:
            raise Broken(f"{key[1]} has other initial values than in {other}")


def _matrices(model: GPT) -> dict[str, torch.Tensor]:
    return {matrix.name: matrix.data.contiguous() for matrix in model.matrices()}


def _drawn(model: GPT) -> dict[str, torch.Tensor]:
    """The matrices, and what another law gives."""
    others = {name: p.data for name, p in model.named_parameters() if _law_of(name)}
    return _matrices(model) | others


def _law_of(name: str) -> str | None:
    """What a parameter that is neither normal nor constant is: filters, rate or step."""
    laws = {"A_log": "rate", "dt_offset": "step"}
    if ".conv_" in name and name.endswith("weight"):
        return "filters"
    return laws.get(name.rpartition(".")[2])


def _share_below(law: str, mixer: str, value: torch.Tensor) -> torch.Tensor:
    """The law's distribution function, unlimited: below 0 and above 1 nothing may be."""
    if law == "filters":  # U(-1/2, 1/2)
        return value + 0.5
    if law == "rate":  # e^A is U(1, 16), of Gated DeltaNet U(0, 16)
        slowest = 0.0 if mixer == "gdn" else 1.0
        return (value.exp() - slowest) / (16 - slowest)
    return (value.exp().log1p() / 0.001).log() / math.log(
        100
    )  # ln Δ is U(ln .001, ln .1)


def _lawful(model: GPT, shape: ModelSettings) -> None:
    """Filters, rates and steps lie between the ends of their law, and fill what is
    between as it says: over all layers of a mixer together.
    """
    shares: dict[tuple[str, str], list[torch.Tensor]] = {}
    for name, value in model.named_parameters():
        law = _law_of(name)
        if law is None:
            continue
        mixer = shape.layers[int(name.split(".")[1])].name
        share = _share_below(law, mixer, value.detach().double()).flatten()
        inside = -ROUNDED <= share.min().item() and share.max().item() <= 1 + ROUNDED
        ends = f"{value.min().item():.4g} to {value.max().item():.4g}"
        require(inside, f"{name}: {ends} is not between the ends of its law")
        shares.setdefault((mixer, name.split(".", 2)[2]), []).append(share)
    for (mixer, name), found in shares.items():
        share_N = torch.cat(found).sort().values
        n = len(share_N)
        steps_N = torch.arange(n, dtype=share_N.dtype) / n
        above, below = share_N - steps_N, steps_N + 1 / n - share_N
        distance = max(above.max().item(), below.max().item())
        require(
            distance * math.sqrt(n) <= DISTANCE and len(share_N.unique()) > n / 2,
            f"{mixer}'s {name} is not distributed by its law: {n} numbers from "
            f"{share_N[0]:.3f} to {share_N[-1]:.3f} of it, {distance:.2f} away",
        )


def _normal(name: str, value: torch.Tensor, wanted: float) -> None:
    n, found, mean = value.numel(), value.std().item(), value.mean().item()
    require(
        abs(found - wanted) <= ERRORS * wanted / math.sqrt(2 * n)
        and abs(mean) <= ERRORS * wanted / math.sqrt(n),
        f"{name} starts with deviation {found:.4g} and mean {mean:.2g}, the deviation "
        f"of its kind is {wanted:.4g}",
    )


def _vectors(model: GPT, shape: ModelSettings) -> None:
    """Norms and factors at 1, biases at 0, RA-CT open at σ(2), RA at its α, places at 0,
    a convolution at the mean; a matrix that no seed draws at 0.
    """
    drawn = {id(matrix.parameter) for matrix in model.matrices()}
    for name, value in model.named_parameters():
        if id(value) in drawn or _law_of(name):
            continue
        start = 0.0 if name.endswith(ZEROS) else None
        if name.endswith(ONES):
            start = 1.0
        elif name.endswith("weight_lD"):
            start = torch.tensor(shape.head_width / value.numel()).item()
        elif name.endswith("shift_H"):
            start = 2.0
        elif name.endswith("alpha_H"):
            start = torch.tensor(shape.attention.ra_alpha).item()
        if start is None:
            raise Broken(f"{name}: nothing says where it starts")
        require(bool((value == start).all()), f"{name} does not start at {start:g}")


def _bases(model: GPT, other: GPT) -> None:
    """Fixed bases: Q^T Q = I, one for all layers and seeds."""
    bases = [
        buffer
        for net in (model, other)
        for name, buffer in net.named_buffers()
        if name.endswith("basis_FL")
    ]
    for basis_FL in bases:
        error = (basis_FL.T @ basis_FL - torch.eye(basis_FL.shape[1])).abs().max()
        require(bool(error < 1e-5), f"Q^T Q is not I: off by {error:.2g}")
        require(torch.equal(basis_FL, bases[0]), "layers or seeds differ in Q")


def _wider(
    values: dict[str, torch.Tensor], shape: ModelSettings, subject: Subject
) -> None:
    wide = GPT(replace(shape, mlp=replace(shape.mlp, dim=2 * shape.mlp.dim)))
    initialise(wide, SEED, subject.settings.train.init_salt)
    wide_values, F = _drawn(wide), shape.mlp_dim
    for name, value in values.items():
        rows = {"in": slice(F), "gate": slice(F)}.get(name.rpartition("mlp.")[2])
        part = wide_values[name]
        part = part[:, :F] if name.endswith("mlp.out") else part[rows] if rows else part
        same = part.shape != value.shape or torch.equal(part, value)
        require(same, f"{name} of a wider MLP does not begin with that of a narrower")
