"""Dropout, place by place."""

import numpy as np
import torch

from gpt2.check.proofs.by_hand import model as by_hand
from gpt2.check.proofs.formulas import TOKENS, TOLERANCE, named
from gpt2.check.subject import Subject, require

RATE, DRAWS = 0.25, 4
# What trains with dropout on a CPU; on a GPU the same two do.
IMPLEMENTATIONS = ("sdpa", "reference")


def dropout(subject: Subject) -> None:
    """Dropout acts in training on what the embedding gives, on the probabilities and
    on what each branch adds, once in each place and nowhere else: logits are those of
    the second implementation (gpt2/check/proofs/by_hand/model.py) under the same draws, a kept unit
    over 1 - p, another one 0. In evaluation it rests, bit for bit.

    By every implementation of attention that serves the step with dropout.
    """
    rate = subject.settings.model.dropout or RATE
    for impl in subject.implementations(IMPLEMENTATIONS):
        _acts(subject, rate, impl)
        _rests(subject, rate, impl)


def _acts(subject: Subject, rate: float, impl: str | None) -> None:
    model = subject.randomised(rate, impl)
    tokens_BT, weights = subject.tokens(batch=1)[:, :TOKENS], named(model, _plain)

    def drop(x: np.ndarray) -> np.ndarray:
        kept = torch.empty(x.shape, dtype=torch.float64).bernoulli_(1 - rate)
        return x * kept.numpy() / (1 - rate)

    torch.manual_seed(DRAWS)
    found_TV = model(tokens_BT)[0].detach().numpy()
    torch.manual_seed(DRAWS)
    shape, tokens_T = subject.small.model, tokens_BT[0].numpy()
    wanted_TV = by_hand.logits(shape, weights, tokens_T, by_hand.Held(), drop)
    error = np.abs(found_TV - wanted_TV).max()
    require(
        error <= TOLERANCE * np.abs(wanted_TV).max(),
        f"with dropout {rate} of embedding, probabilities and both branches, attention "
        f"by {impl}, logits differ from the formulas by {error:.2e}, where the largest "
        f"is {np.abs(wanted_TV).max():.2e}",
    )


def _rests(subject: Subject, rate: float, impl: str | None) -> None:
    tokens_BT = subject.tokens()[:, :-1]
    dropping = subject.build(dropout=rate, impl=impl).eval()
    plain = subject.build(impl=impl).eval()
    with torch.no_grad():
        same = torch.equal(dropping(tokens_BT), plain(tokens_BT))
    require(same, f"dropout acts in evaluation, attention by {impl}")


def _plain(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach()
