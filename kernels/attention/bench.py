"""Forward and backward of the fused op beside what else computes attention.

Every contender gets the same strided views of one fused projection and returns
gradients of q, k, v (and alpha). The contenders of a group of shapes take turns,
round after round, each timed by device events; the anchor of a shape is its
first contender (SDPA on cuDNN where there is one): clocks drift, so only the
times of one round are compared.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kernels.attention.fused import attention_fused
from kernels.attention.reference import attention
from kernels.attention.spec import AttentionSpec
from kernels.topk_routing.op import topk_routing

BAND = 64
# (softpick, reciprocal) of each of our rows.
OURS = {
    "plain": ("softmax", False),
    "Softpick": ("softpick", False),
    f"RA, W={BAND}": ("softmax", True),
    "RA + Softpick": ("softpick", True),
}
# RA-CT, as it takes its statistic from the rows, and the routing beside plain.
STATISTICS = {"plain + top 8": "topk", "plain + entropy": "entropy"}
KEPT = 8
# Largest T of the contender that holds T x T tensors.
PLAIN_LONGEST = 1024
# Cycles that the device waits while the host submits a step: about 2 ms.
SLEEP = 4_000_000


class Shape(NamedTuple):
    """Batch, positions, heads, head width."""

    B: int
    T: int
    H: int
    D: int

    @property
    def name(self) -> str:
        """T, B, H and D."""
        return f"T={self.T} B={self.B} H={self.H} D={self.D}"


# Shapes that take turns: an aligned T, and beside it one that no block divides.
GROUPS = (
    (Shape(32, 1024, 12, 64), Shape(32, 1000, 12, 64)),
    (Shape(8, 4096, 12, 64), Shape(8, 4000, 12, 64)),
    (Shape(2, 16384, 12, 64),),
    (Shape(32, 1024, 16, 128), Shape(32, 1000, 16, 128)),
)
Contender = Callable[..., torch.Tensor]


def contenders(shape: Shape, kind: str = "cuda") -> dict[str, Contender]:
    """o_BTHD from q, k, v_BTHD and alpha_H; those that serve this shape, the anchor
    first.
    """

    def sdpa(backend: SDPBackend):
        def run(q, k, v, alpha):
            with sdpa_kernel(backend):
                heads = (x.transpose(1, 2) for x in (q, k, v))
                o = F.scaled_dot_product_attention(*heads, is_causal=True)
            return o.transpose(1, 2)

        return run

    def ours(normaliser: str, reciprocal: bool):
        def run(q, k, v, alpha):
            extra = {"alpha": alpha, "band": BAND} if reciprocal else {}
            return attention_fused(q, k, v, AttentionSpec(normaliser, **extra))

        return run

    def gated(statistic: str):
        def run(q, k, v, alpha):
            top = KEPT if statistic == "topk" else None
            spec = AttentionSpec(statistics=(statistic,), top=top)
            o, rows = attention_fused(q, k, v, spec)
            return o * rows[statistic].transpose(1, 2)[..., None].to(o.dtype)

        return run

    def routing(q, k, v, alpha):
        spec = AttentionSpec(statistics=("lse",))
        o, rows = attention_fused(q, k, v, spec)
        topk_routing(q, k, rows["lse"], KEPT, spec)
        return o

    def plain(q, k, v, alpha):
        return attention(q, k, v, AttentionSpec())[0]

    if kind == "cpu":
        return {"SDPA math": sdpa(SDPBackend.MATH), "plain torch": plain}
    found = {}
    if not torch.version.hip:
        found["SDPA cuDNN"] = sdpa(SDPBackend.CUDNN_ATTENTION)
    found["SDPA flash"] = sdpa(SDPBackend.FLASH_ATTENTION)
    found["FlexAttention"] = flex(shape)
    if shape.T <= PLAIN_LONGEST:
        found["plain torch"] = plain
    found |= {name: ours(*what) for name, what in OURS.items()}
    found |= {name: gated(statistic) for name, statistic in STATISTICS.items()}
    return found | {"plain + routing": routing}


def flex(shape: Shape) -> Callable[..., torch.Tensor]:
    """FlexAttention, causal, compiled."""
    T = shape.T
    mask = create_block_mask(lambda b, h, t, s: t >= s, None, None, T, T, "cuda")
    compiled = torch.compile(flex_attention, dynamic=False)

    def run(q, k, v, alpha):
        heads = (x.transpose(1, 2) for x in (q, k, v))
        return compiled(*heads, block_mask=mask).transpose(1, 2)

    return run


def measure(
    group: tuple[Shape, ...],
    kind: str = "cuda",
    rounds: int = 30,
    warmup: int = 3,
    prepare: Callable[[Shape, str], dict] | None = None,
) -> Iterator[dict]:
    """A record's row for every contender at every shape of a group, in turns. prepare:
    what makes the contenders of a shape, attention's unless given.
    """
    # Every shape's FlexAttention is one function to dynamo, which would give up.
    torch._dynamo.config.recompile_limit = 64
    steps = {
        (shape, name): step
        for shape in group
        for name, step in (prepare or prepared)(shape, kind).items()
    }
    taken = {which: [] for which in steps}
    for number in range(warmup + rounds):
        for which, ms in timed(steps, kind).items():
            if number >= warmup:
                taken[which].append(round(ms, 5))
    anchors = {shape: name for shape, name in reversed(steps)}
    for (shape, name), times in taken.items():
        anchor = anchors[shape]
        yield {
            "group": shape.name,
            "name": name,
            "anchor": anchor,
            "shape": shape._asdict(),
            "beside": group[0].name if shape != group[0] else None,
            "ms_rounds": times,
            "anchor_rounds": taken[shape, anchor],
        }


def prepared(shape: Shape, kind: str) -> dict[str, Callable[[], None]]:
    """name -> forward and backward of that contender on inputs of its own shape."""
    qkv = torch.randn(shape.B, shape.T, 3, *shape[2:], device=kind).bfloat16()
    do = torch.randn(*shape, device=kind).bfloat16()
    alpha = torch.full((shape.H,), 0.3, device=kind, requires_grad=True)
    leaves = [x.detach().requires_grad_() for x in qkv.unbind(2)]

    def stepped(run: Contender) -> Callable[[], None]:
        def step() -> None:
            o = run(*leaves, alpha)
            torch.autograd.grad(o, [*leaves, alpha], do, allow_unused=True)

        return step

    return {name: stepped(run) for name, run in contenders(shape, kind).items()}


def timed(steps: dict, kind: str) -> dict:
    """Milliseconds of each step, once around."""
    if kind == "cpu":
        taken = {}
        for which, step in steps.items():
            began = time.perf_counter()
            step()
            taken[which] = (time.perf_counter() - began) * 1e3
        return taken
    events = {}
    for which, step in steps.items():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # The queue must hold the work before it starts, or the host is timed.
        torch.cuda._sleep(SLEEP)
        start.record()
        step()
        end.record()
        events[which] = start, end
    torch.cuda.synchronize()
    return {which: start.elapsed_time(end) for which, (start, end) in events.items()}
