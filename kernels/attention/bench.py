"""Forward and backward of the fused op beside what else computes attention.

Every contender gets the same strided views of one fused projection and returns
gradients of q, k, v (and alpha). Contenders take turns, round after round, each
timed by device events; the figure is the median, the ratio is to SDPA on cuDNN
in the same rounds: clocks drift, so figures of different calls do not compare.
"""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kernels.attention.fused import attention_fused
from kernels.attention.reference import attention
from kernels.topk_routing.op import topk_routing

BAND = 64
ANCHOR = "SDPA cuDNN"
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


SHAPES = (
    Shape(32, 1024, 12, 64),
    Shape(8, 4096, 12, 64),
    Shape(2, 16384, 12, 64),
    Shape(32, 1024, 16, 128),
    Shape(32, 1000, 12, 64),
)


class Figure(NamedTuple):
    """Median ms of forward + backward and its ratio to the anchor."""

    shape: Shape
    name: str
    ms: float
    ratio: float


def contenders(shape: Shape) -> dict[str, Callable[..., torch.Tensor]]:
    """o_BTHD from q, k, v_BTHD and alpha_H; those that serve this shape."""

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
            return attention_fused(q, k, v, normaliser=normaliser, **extra)

        return run

    def gated(statistic: str):
        def run(q, k, v, alpha):
            top = KEPT if statistic == "topk" else None
            options = {"statistics": (statistic,), "top": top}
            o, rows = attention_fused(q, k, v, normaliser="softmax", **options)
            return o * rows[statistic].transpose(1, 2)[..., None].to(o.dtype)

        return run

    def routing(q, k, v, alpha):
        options = {"normaliser": "softmax"}
        o, rows = attention_fused(q, k, v, statistics=("lse",), **options)
        topk_routing(q, k, rows["lse"], KEPT, **options)
        return o

    def plain(q, k, v, alpha):
        return attention(q, k, v)[0]

    found = {
        ANCHOR: sdpa(SDPBackend.CUDNN_ATTENTION),
        "SDPA flash": sdpa(SDPBackend.FLASH_ATTENTION),
        "FlexAttention": flex(shape),
    }
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


def measure(shape: Shape, rounds: int = 30, warmup: int = 3) -> list[Figure]:
    """Every contender at one shape, in turns."""
    qkv = torch.randn(shape.B, shape.T, 3, *shape[2:], device="cuda").bfloat16()
    do = torch.randn(*shape, device="cuda").bfloat16()
    alpha = torch.full((shape.H,), 0.3, device="cuda", requires_grad=True)
    leaves = [x.detach().requires_grad_() for x in qkv.unbind(2)]

    def step(run) -> None:
        o = run(*leaves, alpha)
        inputs = [*leaves, alpha]
        torch.autograd.grad(o, inputs, do, allow_unused=True)

    runs = contenders(shape)
    taken = {name: [] for name in runs}
    for number in range(warmup + rounds):
        events = {}
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # The queue must hold the work before it starts, or the host is timed.
            torch.cuda._sleep(SLEEP)
            start.record()
            step(run)
            end.record()
            events[name] = start, end
        torch.cuda.synchronize()
        if number >= warmup:
            for name, (start, end) in events.items():
                taken[name].append(start.elapsed_time(end))
    medians = {name: median(times) for name, times in taken.items()}
    return [
        Figure(shape, name, ms, ms / medians[ANCHOR]) for name, ms in medians.items()
    ]


def table(figures: list[Figure]) -> str:
    """Markdown: a row per contender, a column per shape."""
    shapes = list(dict.fromkeys(figure.shape for figure in figures))
    names = list(dict.fromkeys(figure.name for figure in figures))
    cells = {(figure.shape, figure.name): figure for figure in figures}
    heads = [f"T={s.T} B={s.B} H={s.H} D={s.D}" for s in shapes]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        row = [cells.get((shape, name)) for shape in shapes]
        text = [f"{f.ms:.3f} · {f.ratio:.2f}" if f else "–" for f in row]
        lines.append(f"| {name} | {' | '.join(text)} |")
    return "\n".join(lines)
