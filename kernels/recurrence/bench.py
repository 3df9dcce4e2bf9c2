"""Forward and backward of the recurrence beside attention on cuDNN and, where it is
installed, flash-linear-attention. The keys have length 1; heads are as wide as attention's.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.attention import bench as attention
from kernels.attention.bench import Shape
from kernels.recurrence import peers
from kernels.recurrence.chunked import chunks
from kernels.recurrence.op import recurrence

GROUPS = (
    (Shape(32, 1024, 12, 64), Shape(32, 1000, 12, 64)),
    (Shape(8, 4096, 12, 64),),
    (Shape(2, 16384, 12, 64),),
    (Shape(32, 1024, 8, 128),),
)
# name -> (decays, erases): linear attention, Mamba-2 and RetNet, DeltaNet, GDN.
RULES = {
    "sum": (False, False),
    "decay": (True, False),
    "delta": (False, True),
    "delta + decay": (True, True),
}
# Largest T of torch's form, which is slow and holds much.
PLAIN_LONGEST = 1024


def measure(group: tuple[Shape, ...], kind: str = "cuda", **count: int) -> Iterator:
    """A record's row for every contender at every shape of a group, in turns."""
    yield from attention.measure(group, kind, prepare=prepared, **count)


def prepared(shape: Shape, kind: str) -> dict[str, Callable[[], None]]:
    """name -> forward and backward of that contender on inputs of its own shape."""
    q, k, v, do = torch.randn(4, *shape, device=kind).bfloat16().unbind()
    k = F.normalize(k.float(), dim=-1).bfloat16()
    g = -0.1 * torch.rand(*shape[:3], device=kind)
    beta = torch.rand(*shape[:3], device=kind)
    leaves = [x.requires_grad_() for x in (q * shape.D**-0.5, k, v, g, beta)]

    def stepped(run: Callable, decays: bool, erases: bool) -> Callable[[], None]:
        q, k, v, g, beta = leaves
        its = q, k, v, g if decays else None, beta if erases else None
        wanted = [x for x in its if x is not None]

        def step() -> None:
            torch.autograd.grad(run(*its), wanted, do)

        return step

    found = {name: stepped(run, False, False) for name, run in attended(kind).items()}
    rules = {"ours": peers.by(recurrence)} if kind == "cuda" else {}
    if shape.T <= PLAIN_LONGEST or kind == "cpu":
        rules["torch"] = peers.by(chunks)
    if peers.installed() and kind == "cuda":
        rules["fla"] = peers.fla()
    for name, which in RULES.items():
        found |= {
            f"{name}, {by}": stepped(rule, *which)
            for by, rule in rules.items()
            if by != "fla" or any(which)
        }
    return found


def attended(kind: str) -> dict[str, Callable]:
    """The anchor: causal attention by cuDNN, else by what the device has."""
    backend = SDPBackend.CUDNN_ATTENTION
    if torch.version.hip:
        backend = SDPBackend.FLASH_ATTENTION
    if kind == "cpu":
        backend = SDPBackend.MATH

    def run(q, k, v, g, beta):
        heads = (x.transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(backend):
            o = F.scaled_dot_product_attention(*heads, is_causal=True)
        return o.transpose(1, 2)

    names = {SDPBackend.CUDNN_ATTENTION: "cuDNN", SDPBackend.MATH: "math"}
    return {f"SDPA {names.get(backend, 'flash')}": run}
