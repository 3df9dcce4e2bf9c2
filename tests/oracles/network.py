"""GPT-2, plain, as functions of its parameters: initial values, loss, hash.

Shares no code with gpt2/. Dropout is drawn by hand, place by place, in the order of
the forward pass.

Legend: B sequences, T tokens, E width, H heads, F MLP width, V vocabulary rows.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """Of the network."""

    layers: int
    E: int
    H: int
    F: int
    T: int
    V: int


def initial(shape: Shape, seed: int, salt: str) -> Parameters:
    """fp32: every matrix from its own Philox stream, biases 0, norms 1."""
    E, F = shape.E, shape.F
    thin = 0.02 / math.sqrt(2 * shape.layers)

    def normal(name: str, rows: int, columns: int, deviation: float = 0.02) -> Tensor:
        key = hashlib.sha256(f"kablate-init\0{seed}\0{salt}\0{name}".encode()).digest()
        stream = np.random.Generator(
            np.random.Philox(key=int.from_bytes(key[:16], "big"))
        )
        drawn = stream.standard_normal((rows, columns), dtype=np.float32)
        return torch.from_numpy(drawn) * deviation

    found = {
        "wte.weight": normal("wte", shape.V, E),
        "wpe.weight": normal("wpe", shape.T, E),
        "norm_f.weight": torch.ones(E),
        "norm_f.bias": torch.zeros(E),
    }
    for i in range(shape.layers):
        qkv = [normal(f"h.{i}.attn.{name}", E, E) for name in "qkv"]
        matrices = {
            "attn.projection.qkv": torch.cat(qkv),
            "attn.o": normal(f"h.{i}.attn.o", E, E, thin),
            "mlp.inner": normal(f"h.{i}.mlp.in", F, E),
            "mlp.outer": normal(f"h.{i}.mlp.out", F, E, thin).T,
        }
        for name, matrix in matrices.items():
            found[f"h.{i}.{name}.weight"] = matrix
            found[f"h.{i}.{name}.bias"] = torch.zeros(len(matrix))
        for name in ("norm1", "norm2"):
            found[f"h.{i}.{name}.weight"] = torch.ones(E)
            found[f"h.{i}.{name}.bias"] = torch.zeros(E)
    return found


def digest(parameters: Parameters) -> str:
    """sha256 of names, shapes and fp32 bytes, by name."""
    found = hashlib.sha256()
    for name in sorted(parameters):
        value = parameters[name].detach().float().contiguous()
        found.update(f"{name}{tuple(value.shape)}".encode() + value.numpy().tobytes())
    return found.hexdigest()


def undropped(x: Tensor) -> Tensor:
    """What evaluation does."""
    return x


def loss(
    w: Parameters,
    shape: Shape,
    tokens_BT: Tensor,
    targets_BT: Tensor,
    starts_BT: Tensor | None,
    drop: Drop = undropped,
) -> Tensor:
    """Mean cross-entropy in nats/token, in the type of the norms."""
    logits_BTV = logits(w, shape, tokens_BT, starts_BT, drop)
    log_p_BTV = logits_BTV.to(w["norm_f.weight"].dtype).log_softmax(dim=-1)
    return -log_p_BTV.gather(2, targets_BT[..., None]).mean()


def logits(
    w: Parameters,
    shape: Shape,
    tokens_BT: Tensor,
    starts_BT: Tensor | None = None,
    drop: Drop = undropped,
) -> Tensor:
    """logits_BTV; starts_BT: the first token of every token's document."""
    B, T = tokens_BT.shape
    first_BT = torch.zeros(B, T, dtype=torch.long) if starts_BT is None else starts_BT
    seen_BTT = torch.zeros(B, T, T, dtype=torch.bool)
    for b in range(B):
        for t in range(T):
            seen_BTT[b, t, int(first_BT[b, t]) : t + 1] = True
    place_BT = torch.arange(T) - first_BT
    x_BTE = drop(w["wte.weight"][tokens_BT] + w["wpe.weight"][place_BT])
    for i in range(shape.layers):
        own = {n.removeprefix(f"h.{i}."): p for n, p in w.items()}
        x_BTE = x_BTE + drop(_attention(own, shape, x_BTE, seen_BTT, drop))
        x_BTE = x_BTE + drop(_mlp(own, _norm(own, "norm2", x_BTE)))
    return _norm(w, "norm_f", x_BTE) @ w["wte.weight"].T


def _attention(
    w: Parameters, shape: Shape, x_BTE: Tensor, seen_BTT: Tensor, drop: Drop
) -> Tensor:
    B, T, E = x_BTE.shape
    qkv = _linear(w, "attn.projection.qkv", _norm(w, "norm1", x_BTE))
    q, k, v = (part.view(B, T, shape.H, -1).transpose(1, 2) for part in qkv.split(E, 2))
    s_BHTT = (q @ k.transpose(2, 3)).to(w["norm1.weight"].dtype)
    s_BHTT = s_BHTT / math.sqrt(E // shape.H)
    p_BHTT = s_BHTT.masked_fill(~seen_BTT[:, None], -math.inf).softmax(dim=-1)
    o_BTE = (drop(p_BHTT).to(v.dtype) @ v).transpose(1, 2).reshape(B, T, E)
    return _linear(w, "attn.o", o_BTE)


def _mlp(w: Parameters, x_BTE: Tensor) -> Tensor:
    h = _linear(w, "mlp.inner", x_BTE)
    h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return _linear(w, "mlp.outer", h)


def _linear(w: Parameters, name: str, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(w: Parameters, name: str, x: Tensor) -> Tensor:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    x = x.to(weight.dtype)
    d = x - x.mean(-1, keepdim=True)
    return d / (d.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias
