"""The model a second time, in numpy, as the formulas of docs/mechanisms.md read.

It shares no code with the first: no masks, no fused tensors, no batches. Row by
row, a query sees the keys it may see because no others are handed to it. What
the proof of formulas compares the model with; much too slow for anything else.

Legend: T tokens, E width, H heads, L latent width, V vocabulary.
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from gpt2.check.proofs.by_hand.layer import Drop, Held, Layer, Weights, norm
from gpt2.check.proofs.by_hand.mlp import mlp
from gpt2.settings.run import ModelSettings


def mixer(name: str) -> Callable:
    """The formula of a mixer: the function of its name in the file of its name."""
    return getattr(import_module(f"gpt2.check.proofs.by_hand.{name}"), name)


def whole(x: np.ndarray) -> np.ndarray:
    """A dropout that rests."""
    return x


def logits(
    model: ModelSettings,
    w: Weights,
    tokens_T: np.ndarray,
    held: Held,
    drop: Drop = whole,
) -> np.ndarray:
    """logits_TV of one sequence. w: logical matrices (out, in) and vectors; drop:
    the dropout of what the embedding gives, of every probability (a factor), and of
    what each branch adds, in the order of the blocks.
    """
    x_TE = w["wte"][tokens_T]
    if model.position == "learned":
        x_TE = x_TE + w["wpe"][: len(tokens_T)]
    x_TE, gate_TH, latent_TL = drop(x_TE), None, None
    for i in range(model.depth):
        layer, formula = Layer(model, w, i, held), mixer(model.layers[i].name)
        normed_TE = layer.norm(x_TE, "norm1")
        y_TE, p_TT, ck_TL = formula(layer, normed_TE, gate_TH, latent_TL, drop)
        x_TE = x_TE + drop(y_TE)
        normed_TE = layer.norm(x_TE, "norm2")
        y_TE, gate_TH, latent_TL = mlp(layer, normed_TE, p_TT, ck_TL)
        x_TE = x_TE + drop(y_TE)
    return norm(model, x_TE, w["norm_f.weight"], w.get("norm_f.bias")) @ w["wte"].T


def loss(logits_TV: np.ndarray, targets_T: np.ndarray) -> float:
    """Mean cross-entropy in nats/token."""
    exponents_TV = logits_TV - logits_TV.max(axis=1, keepdims=True)
    log_p_TV = exponents_TV - np.log(np.exp(exponents_TV).sum(axis=1, keepdims=True))
    return -log_p_TV[np.arange(len(targets_T)), targets_T].mean()
