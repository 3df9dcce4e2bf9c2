"""The model computes its formulas, forward and backward."""

from collections.abc import Callable

import numpy as np
import torch

from gpt2.check.proofs.by_hand import model as by_hand
from gpt2.check.subject import Subject, require, spread
from gpt2.model.gpt import GPT

# Longer than the band and the window of a small model, and quick; at least. More where
# a mixer needs them to show what it does.
TOKENS = 14
# Of float64 logits, relative to the largest, and of the loss; of its directional
# derivative against a central difference, relative to it or to what random signs leave
# of its terms, where they happen to cancel. STEP: below the distance to most kinks.
TOLERANCE = 1e-9
SLOPE_TOLERANCE = 1e-6
STEP = 1e-7


def formulas(subject: Subject) -> None:
    """Logits, loss and gradient are those of a second implementation, written
    row by row from the formulas and the settings (gpt2/check/proofs/by_hand/model.py).

    In float64, with every parameter away from its initial value, so that a bias,
    a gate or a weight per head that is left out or mistaken for another shows.
    The gradient of the loss is taken in one random direction; what a setting detaches stays
    constant there.
    """
    model = subject.randomised()
    small = subject.small.model
    needed = max(TOKENS, *(layer.tokens(small) for layer in small.layers))
    rows = subject.tokens(batch=1)[:, : needed + 1]
    tokens_BT, targets_BT = rows[:, :-1], rows[:, 1:]
    held, weights = by_hand.Held(), named(model, lambda p: p.detach())
    shape, tokens_T = subject.small.model, tokens_BT[0].numpy()
    wanted_TV = by_hand.logits(shape, weights, tokens_T, held)
    found_BTV = model(tokens_BT)
    error = np.abs(found_BTV[0].detach().numpy() - wanted_TV).max()
    require(
        error <= TOLERANCE * np.abs(wanted_TV).max(),
        f"logits differ from the formulas by {error:.2e}, where the largest is "
        f"{np.abs(wanted_TV).max():.2e}",
    )
    wanted = by_hand.loss(wanted_TV, targets_BT[0].numpy())
    loss = model(tokens_BT, targets_BT)
    require(
        abs(loss.item() - wanted) <= TOLERANCE * wanted,
        f"the loss is {loss.item():.9f}, by the formula {wanted:.9f}",
    )
    loss.backward()
    stream = torch.Generator().manual_seed(3)
    direction = {
        p: spread(p) * torch.randn(p.shape, generator=stream)
        for p in model.parameters()
    }
    terms = [p.grad * d for p, d in direction.items()]
    found = sum(term.sum().item() for term in terms)
    left = sum(term.square().sum().item() for term in terms) ** 0.5
    ends = []
    for sign in (1, -1):
        moved = named(model, lambda p: p.detach() + sign * STEP * direction.get(p, 0))
        rows_TV = by_hand.logits(shape, moved, tokens_T, held)
        ends.append(by_hand.loss(rows_TV, targets_BT[0].numpy()))
    wanted = (ends[0] - ends[1]) / (2 * STEP)
    require(
        abs(found - wanted) <= SLOPE_TOLERANCE * max(abs(wanted), left),
        f"the gradient along a random direction is {found:.8g}, that of the formulas "
        f"{wanted:.8g}",
    )


def named(
    model: GPT, value: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, np.ndarray]:
    """value(tensor) of every logical matrix by its logical name, of any other
    parameter and buffer by its own.
    """
    found = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[name] = value(tensor).numpy()
    for matrix in model.matrices():
        whole = value(matrix.parameter)
        rows = whole if matrix.rows is None else whole[matrix.rows]
        found[matrix.name] = rows.numpy()
    return found
