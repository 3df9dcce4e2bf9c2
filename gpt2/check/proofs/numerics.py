"""What training on a GPU will ask of the model: bf16, one compiled graph."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt2.check.subject import Subject, require
from gpt2.model import precision
from gpt2.model.gpt import GPT

HALF = (torch.bfloat16, torch.float16)
# Operators of which a few thousand results in 16 bits lose what a model needs: what
# adds up, and what takes a small difference for a large one. Products add up in fp32
# whatever they read, and so do torch's own LayerNorm and attention.
WIDE = frozenset(
    "sum mean var var_mean std norm linalg_vector_norm prod cumsum logcumsumexp "
    "exp exp2 expm1 log log2 log1p logsumexp xlogy _softmax _log_softmax nll_loss "
    "nll_loss_forward sin cos tan pow sqrt rsqrt reciprocal square arange".split()
)


class Narrow(TorchDispatchMode):
    """While entered, notes which of the operators `wide` read or give 16 bits."""

    def __init__(self, wide: frozenset[str]):
        super().__init__()
        self.wide, self.found = wide, list[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs, result)) if torch.is_tensor(x)]
        if name in self.wide and any(x.dtype in HALF for x in tensors):
            self.found.append(name)
        return result


def bf16(subject: Subject) -> None:
    """Under bf16 autocast, with fp32 weights and with a bf16 copy of them, loss and
    gradients stay finite, and what docs promise in fp32 is: no sum, mean, exponential,
    logarithm, power, angle or position has 16 bits, nor, with fp32 weights, what a
    LayerNorm reads. By every implementation of
    attention that serves the step on a CPU.
    """
    model = subject.build()
    with torch.autocast("cpu", torch.bfloat16):
        loss = subject.loss(model)
    loss.backward()
    require(bool(torch.isfinite(loss)), f"the loss under bf16 is {loss.item()}")
    for name, parameter in model.named_parameters():
        finite = torch.isfinite(parameter.grad).all()
        require(bool(finite), f"the gradient of {name} under bf16 is not finite")
    for impl in subject.implementations(("sdpa", "reference")):
        model = subject.build(impl=impl)
        for param_dtype in ("fp32", "bf16"):
            _narrow(subject, model, param_dtype, impl)


@torch.no_grad()
def _narrow(subject: Subject, model: GPT, param_dtype: str, impl: str | None) -> None:
    read = precision.build(model, param_dtype).model
    wide = WIDE | {"native_layer_norm"} if param_dtype == "fp32" else WIDE
    with torch.autocast("cpu", torch.bfloat16), Narrow(wide) as narrow:
        loss = subject.loss(read, batch=1)
    kind = f"{param_dtype} weights under bf16, attention by {impl}"
    require(not narrow.found, f"{kind}: in 16 bits are {sorted(set(narrow.found))}")
    require(loss.dtype == torch.float32, f"{kind}: the loss is {loss.dtype}")


def one_graph(subject: Subject) -> None:
    """torch.compile traces the training step as one graph, without a break.

    Two layers where they are alike: one block gives, one reads, and tracing is most of
    a check.
    """
    torch._dynamo.reset()
    alike = len(set(subject.small.model.layers)) == 1
    model = subject.build(depth=2 if alike else None)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    rows = subject.tokens()
    loss = compiled(*subject.halves(rows))
    require(
        torch.allclose(loss, subject.loss(model)), "the traced graph gives another loss"
    )
