"""Initial values that depend only on (seed, salt, name, shape).

Every logical matrix (`h.3.attn.q`, `h.3.mlp.in`, `wte` …) is drawn on the CPU
in fp32 from its own Philox stream, keyed by sha256(seed, salt, name). Two steps
of a study therefore share the initial value of every matrix they share, in
whatever order and fusion they hold it, and a wider matrix begins with the rows
of a narrower one: normal numbers are drawn row by row. `mlp.out` is drawn as
(F, E) and transposed for that reason.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

STD = 0.02  # GPT-2's, for every matrix that names no other
HALF_A_STEP = 2.0**-25
"""Between two of the 2²⁴ numbers that a uniform one is taken from."""


def residual_std(layers: int) -> float:
    """Of the matrices that write to the residual stream: 0.02 / sqrt(2 layers)."""
    return STD / math.sqrt(2 * layers)


@dataclass(frozen=True)
class Matrix:
    """One logical matrix inside a (possibly fused) parameter.

    name: full logical name. parameter: the tensor that holds it. rows: the
    slice of the parameter's first dimension, None for all of it. std: standard
    deviation of the normal initial values. transposed: draw as (columns, rows).
    side: "attn" or "mlp" for the attn:MLP ratio, "" for neither. product: see `products`.
    """

    name: str
    parameter: nn.Parameter
    std: float
    rows: slice | None = None
    transposed: bool = False
    side: str = ""
    product: bool = True

    @property
    def data(self) -> torch.Tensor:
        """The view of the parameter that this matrix is."""
        data = self.parameter.data
        return data if self.rows is None else data[self.rows]


@dataclass(frozen=True)
class Constant:
    """Where a parameter that is no matrix starts: the same value everywhere."""

    name: str
    parameter: nn.Parameter
    value: float
    product: bool = True

    def fill(self, seed: int, salt: str) -> None:
        """The value, whatever the seed."""
        self.parameter.fill_(self.value)


@dataclass(frozen=True)
class InitialLaw:
    """A parameter that starts at numbers of another distribution than the normal:
    quantile(u), u uniform in (0, 1), float64 (gpt2/model/quantiles.py).
    """

    name: str
    parameter: nn.Parameter
    quantile: Callable[[np.ndarray], np.ndarray]
    product: bool = False

    def fill(self, seed: int, salt: str) -> None:
        """Numbers that the arguments and the name decide."""
        u = uniform(seed, salt, self.name, tuple(self.parameter.shape))
        values = self.quantile(u).astype(np.float32)
        self.parameter.copy_(torch.from_numpy(values))


def products(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a GPT, by name, that multiply as matrices: of two dimensions or
    more, and no filters of a convolution, whose rows meet a channel each. What decays, is
    pruned, made orthogonal, counted in 6 N or read in 16 bits is asked here.
    """
    others = {id(of.parameter) for of in _places(model) if not of.product}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() >= 2 and id(parameter) not in others
    }


def _places(model: nn.Module) -> list[Matrix | Constant | InitialLaw]:
    return [*model.matrices(), *model.initial_laws()]


def _stream(seed: int, salt: str, name: str) -> np.random.Generator:
    key = hashlib.sha256(f"kablate-init\0{seed}\0{salt}\0{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16])))


def draw(seed: int, salt: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float32, a function of the arguments alone."""
    return _stream(seed, salt, name).standard_normal(shape, dtype=np.float32)


def uniform(seed: int, salt: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers (i + ½) / 2²⁴, float64, uniform over 0 <= i < 2²⁴: neither 0 nor 1."""
    steps = _stream(seed, salt, name).random(shape, dtype=np.float32)
    return steps.astype(np.float64) + HALF_A_STEP


@torch.no_grad()
def initialise(model: nn.Module, seed: int, salt: str = "") -> str:
    """Fill a GPT's parameters; return the sha256 of all of them.

    Matrices as `model.matrices()` lists them, other parameters by
    `model.initial_laws()`, biases zero. Raises ValueError for a parameter, or a part of
    one, of which nothing says where it starts.
    """
    covered: dict[int, int] = {}
    for matrix in model.matrices():
        view = matrix.data
        shape = tuple(view.shape)
        values = draw(
            seed, salt, matrix.name, shape[::-1] if matrix.transposed else shape
        )
        values = torch.from_numpy(values) * matrix.std
        view.copy_(values.T if matrix.transposed else values)
        key = id(matrix.parameter)
        covered[key] = covered.get(key, 0) + view.numel()
    for law in model.initial_laws():
        law.fill(seed, salt)
        covered[id(law.parameter)] = law.parameter.numel()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and id(parameter) not in covered:
            parameter.zero_()
        elif covered.get(id(parameter)) != parameter.numel():
            raise ValueError(
                f"{name} {tuple(parameter.shape)}: {covered.get(id(parameter), 0)} of "
                f"{parameter.numel()} values have a place to start at"
            )
    return weights_sha256(model)


def weights_sha256(model: nn.Module) -> str:
    """sha256 over names, shapes and fp32 bytes of all parameters, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        values = parameter.detach().to("cpu", torch.float32).contiguous()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
