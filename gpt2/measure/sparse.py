"""What the zeros of a trained network save at inference: measured, or nothing.

2:4 zeros are worth something where the GPU multiplies semi-structured matrices
(NVIDIA, compute capability 8.0 and later, fp16 and bf16). Everywhere else a zero
takes the memory and the time of any number.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.sparse import to_sparse_semi_structured

from gpt2.measure.timing import compared, milliseconds
from gpt2.model.gpt import GPT
from gpt2.settings.run import RunSettings
from gpt2.training import device as machine

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MULTIPLE = 64  # rows and columns that both of torch's sparse backends take
ROUNDS, CALLS = 9, 10


def two_of_four(weight: torch.Tensor) -> bool:
    """Whether of every four consecutive inputs of a row two at least are 0."""
    if weight.dim() != 2 or weight.shape[1] % 4:
        return False
    return int((weight != 0).view(-1, 4).sum(1).max()) <= 2


def covered(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the blocks, by name."""
    for name, module in model.named_modules():
        if name.startswith("h.") and isinstance(module, nn.Linear):
            yield name, module


def obstacle(kind: str, dtype: str) -> str | None:
    """Why this device cannot multiply semi-structured matrices, None if it can."""
    if kind == "cpu":
        return "torch multiplies zeros on a CPU like any number"
    if torch.version.hip:
        return "torch has no semi-structured product on ROCm"
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return f"compute capability {major}.{minor} has no sparse units, 8.0 has"
    if dtype == "fp32":
        return "the sparse units take fp16 and bf16, not fp32"
    return None


@torch.no_grad()
def measure(
    settings: RunSettings,
    weights: dict[str, torch.Tensor],
    kind: str,
    dtype: str,
    batch: int,
) -> dict[str, Any]:
    """A forward pass over `batch` full contexts, dense and semi-structured.

    dense_ms, sparse_ms: medians, in turns; dense_bytes, sparse_bytes: of the
    weights of the network, as the device holds them; error: of the logits, over
    the largest. verdict: what is saved, in words.
    """
    kind = machine.resolve(kind)
    device = torch.device(kind)
    model = GPT(settings.model)
    model.load_state_dict(weights)
    layers = dict(covered(model))
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers.values())
    total = sum(layer.weight.numel() for layer in layers.values())
    fitting = [name for name, layer in layers.items() if two_of_four(layer.weight)]
    model.eval().to(device, DTYPES[dtype])
    T = settings.model.block_size
    tokens_BT = torch.zeros(batch, T, dtype=torch.long, device=device)
    found: dict[str, Any] = {
        "schema": 1,
        "kind": "sparse inference",
        "device": machine.describe(kind).as_dict(),
        "torch": torch.__version__,
        "dtype": dtype,
        "batch": batch,
        "context": T,
        "sparsity": zeros / total,
        "matrices": len(layers),
        "two_of_four": len(fitting),
        "dense_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
    reason = obstacle(kind, dtype)
    if reason is None and not fitting:
        reason = (
            "no matrix holds two zeros in every four; train with CONFIG_PATTERN_2_4"
        )
    usable = [
        n for n in fitting if not any(s % MULTIPLE for s in layers[n].weight.shape)
    ]
    if reason is None and not usable:
        reason = f"no matrix has rows and columns in multiples of {MULTIPLE}"
    if reason is not None:
        times = [
            milliseconds(lambda: model(tokens_BT), CALLS, device) for _ in range(ROUNDS)
        ]
        found["dense_ms"] = statistics.median(times)
        found["verdict"] = f"the zeros save nothing here: {reason}"
        return found
    return found | _sparse(model, [layers[n] for n in usable], tokens_BT)


def _sparse(
    model: GPT, layers: list[nn.Linear], tokens_BT: torch.Tensor
) -> dict[str, Any]:
    """Both forms in turns, and what comes of it."""
    originals = [layer.weight for layer in layers]
    plain_BTV = model(tokens_BT)
    taken = torch.cuda.memory_allocated()
    packed = [
        nn.Parameter(to_sparse_semi_structured(weight.detach()), requires_grad=False)
        for weight in originals
    ]
    added = torch.cuda.memory_allocated() - taken

    def forward(weights: list[nn.Parameter]) -> torch.Tensor:
        for layer, weight in zip(layers, weights):
            layer.weight = weight
        return model(tokens_BT)

    error = (forward(packed) - plain_BTV).abs().max() / plain_BTV.abs().max()
    sparse_ms, dense_ms = compared(
        lambda: forward(packed),
        lambda: forward(originals),
        tokens_BT.device,
        ROUNDS,
        CALLS,
    )
    forward(originals)
    full = sum(p.numel() * p.element_size() for p in model.parameters())
    held = full - sum(w.numel() * w.element_size() for w in originals) + added
    ratios = {"time": sparse_ms / dense_ms, "weights' memory": held / full}
    words = " and ".join(_gain(ratio, what) for what, ratio in ratios.items())
    if min(ratios.values()) >= 1:
        words = f"the zeros save nothing here: {words}"
    return {
        "backend": type(packed[0]).__name__,
        "compressed": len(layers),
        "dense_ms": dense_ms,
        "sparse_ms": sparse_ms,
        "sparse_bytes": held,
        "error": error.item(),
        "verdict": words,
    }


def _gain(ratio: float, what: str) -> str:
    """2:4 against dense, in words."""
    if ratio < 1:
        return f"2:4 saves {1 - ratio:.1%} of the {what}"
    return f"2:4 takes {ratio:.2f} times the {what}"
