"""Hidden layers that read those of other tokens.

Legend: B batch, n new tokens, S tokens so far, F MLP width, r rank.
"""

from collections.abc import Iterator

import torch
from torch import nn

from gpt2.model.cache import GrowingCache
from gpt2.model.initial import Matrix, STD
from gpt2.model.values import MixerToMlp, Products, mean_keys
from gpt2.settings.run import ModelSettings


class CrossToken(nn.Module):
    """h_t ← h_t + α (Σ_s P̄_ts h_s W_down) W_up.

    P̄ is the mean over heads of the block's final probabilities, reduced by the
    routing mode and, by default, a constant for backward. h W_down is mixed and
    cached: r values per token.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        options = settings.mlp
        self.mode, self.k = options.cross_token_mode, options.cross_token_k
        self.tau, self.alpha = options.cross_token_tau, options.cross_token_alpha
        self.gradient, self.longest = options.cross_token_gradient, settings.block_size
        self.down = nn.Linear(settings.mlp_dim, settings.cross_rank, bias=False)
        self.up = nn.Linear(settings.cross_rank, settings.mlp_dim, bias=False)

    def forward(
        self,
        new_Bnr: torch.Tensor,
        given: MixerToMlp,
        mixed: GrowingCache | None,
    ) -> tuple[torch.Tensor, GrowingCache | None]:
        """(α r_Bnr, the grown cache) from h W_down."""
        if given.routed is not None:
            from kernels.topk_routing.op import routed_mix

            index_Bnk, weight_Bnk = given.routed
            r_Bnr = routed_mix(new_Bnr, index_Bnk, _renormalised(weight_Bnk))
            return self.alpha * r_Bnr, None
        routing_BnS, all_BSr = given.routing_BnS, new_Bnr
        if mixed is not None:
            mixed = mixed.append(new_Bnr)
            all_BSr = mixed.tensor
        if not self.gradient:
            routing_BnS = routing_BnS.detach()
        weights_BnS = route(routing_BnS, given.seen_n, self.mode, self.k, self.tau)
        r_Bnr = weights_BnS.to(all_BSr.dtype) @ all_BSr
        return self.alpha * r_Bnr, mixed

    def read_weight(self) -> torch.Tensor:
        """W_down as (r, F)."""
        return self.down.weight

    def write_weight(self) -> torch.Tensor:
        """W_up as (F, r)."""
        return self.up.weight

    def empty_mixed(self, new_B0r: torch.Tensor) -> GrowingCache:
        """The cache of no tokens."""
        return GrowingCache.of(new_B0r, self.longest)

    def cache_per_token(self) -> int:
        """Values a decode caches per token and layer."""
        return self.down.out_features

    def products(self, T: int, keys: int) -> Products:
        """P̄ (h W_down) takes r with each of the keys that are seen: the k that topk
        keeps, else all.
        """
        r = self.down.out_features
        if self.mode == "topk":
            return Products(*(r * min(self.k, keys),) * 2)
        return Products(r * keys, r * mean_keys(T, keys))

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """W_down (r, F) and W_up (F, r)."""
        yield Matrix(f"{prefix}.cross_down", self.down.weight, STD, side="mlp")
        yield Matrix(f"{prefix}.cross_up", self.up.weight, STD, side="mlp")


def route(
    p_BnS: torch.Tensor,
    seen_n: torch.Tensor,
    mode: str,
    k: int | None = None,
    tau: float | None = None,
) -> torch.Tensor:
    """Routing weights of the head-averaged probabilities (0 where masked).

    none: all; topk: the k largest of a row; rms: P̄_ts >= τ sqrt(mean_s P̄²), the
    mean over the seen_n (or seen_Bn) keys that are visible. Renormalised to sum to 1; a row
    of zeros stays zero.
    """
    if mode == "topk" and k < p_BnS.shape[-1]:
        top_Bnk = p_BnS.topk(k, dim=-1)
        p_BnS = torch.zeros_like(p_BnS).scatter(-1, top_Bnk.indices, top_Bnk.values)
    elif mode == "rms":
        mean_Bn1 = p_BnS.square().sum(dim=-1, keepdim=True) / seen_n[..., None]
        p_BnS = torch.where(p_BnS >= tau * mean_Bn1.sqrt(), p_BnS, 0.0)
    return _renormalised(p_BnS)


def _renormalised(p_Bnk: torch.Tensor) -> torch.Tensor:
    """Rows that sum to 1; a row of zeros stays zero."""
    total_Bn1 = p_Bnk.sum(dim=-1, keepdim=True)
    return p_Bnk / torch.where(total_Bn1 > 0, total_Bn1, 1.0)
