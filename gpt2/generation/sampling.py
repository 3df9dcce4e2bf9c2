"""From logits to a token: temperature, filters, one draw.

Every filter is a pure function on the logits of one position, z_V over a real
vocabulary (rows that only pad the embedding are cut off before): what it
removes becomes -inf, what it keeps stays as it is. Written p = softmax(z). No
filter removes the most probable token, so something is always left.

Legend: V tokens of the vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. Applied in this order: temperature, top-k, top-p,
    min-p, each on what the one before it left.

    temperature 0 is greedy: the most probable token, the lowest index of equal
    ones. top_k 0, top_p 1 and min_p 0 keep everything. Raises ValueError for a
    value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, value, fits, wanted in (
            ("temperature", self.temperature, self.temperature >= 0, "at least 0"),
            ("top-k", self.top_k, self.top_k >= 0, "at least 0 (0: off)"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1 (1: off)"),
            ("min-p", self.min_p, 0 <= self.min_p <= 1, "0 to 1 (0: off)"),
        ):
            if not (fits and math.isfinite(value)):
                raise ValueError(f"{name} {value:g}: it must be {wanted}")

    def filtered(self, logits_V: torch.Tensor) -> torch.Tensor:
        """What is drawn from: (z - max z) / temperature, filtered (temperature > 0)."""
        cooled_V = (logits_V - logits_V.max()) / self.temperature
        return min_p(top_p(top_k(cooled_V, self.top_k), self.top_p), self.min_p)

    def choose(self, logits_V: torch.Tensor, uniform: float) -> int:
        """The token that `uniform` in [0, 1) falls on, by inverse distribution:
        the first i with p_0 + … + p_i > uniform. Greedy ignores it.

        Raises ArithmeticError for logits that are not finite.
        """
        if not logits_V.isfinite().all():
            raise ArithmeticError("the model's logits are not finite")
        if self.temperature == 0:
            return int((logits_V == logits_V.max()).nonzero()[0])
        cumulative_V = self.filtered(logits_V.double()).softmax(dim=-1).cumsum(dim=-1)
        total = cumulative_V[-1]  # 1, but for rounding
        return int((cumulative_V > uniform * total).nonzero()[0])


def top_k(logits_V: torch.Tensor, k: int) -> torch.Tensor:
    """Keep the k largest logits, of equal ones the lower index; all with k = 0
    or k >= V.
    """
    if k == 0 or k >= logits_V.shape[0]:
        return logits_V
    return _keep(logits_V, _descending(logits_V)[:k])


def top_p(logits_V: torch.Tensor, p: float) -> torch.Tensor:
    """Keep the smallest set of most probable tokens whose mass is at least p
    (nucleus, 1904.09751); of equal ones the lower index; all with p = 1.

    The token of rank r is kept where p_(1) + … + p_(r-1) < p.
    """
    if p == 1:
        return logits_V
    order_V = _descending(logits_V)
    sorted_V = logits_V[order_V].softmax(dim=-1)
    before_V = F.pad(sorted_V.cumsum(dim=-1)[:-1], (1, 0))
    return _keep(logits_V, order_V[before_V < p])


def min_p(logits_V: torch.Tensor, p: float) -> torch.Tensor:
    """Keep the tokens with p_i >= p · max_j p_j (2407.01082), which is
    e^(z_i - max z) >= p; all with p = 0.
    """
    ratio_V = (logits_V - logits_V.max()).exp()
    return logits_V.masked_fill(ratio_V < p, -math.inf)


def _descending(logits_V: torch.Tensor) -> torch.Tensor:
    return logits_V.sort(descending=True, stable=True).indices


def _keep(logits_V: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    found_V = torch.full_like(logits_V, -math.inf)
    found_V[kept] = logits_V[kept]
    return found_V
