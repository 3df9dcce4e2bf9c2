"""One step of a decode in plain torch: the definition the kernels are held to.

Legend: B batch, n new tokens, S tokens so far with the new ones, H query heads, G
key/value heads, C width of the score's product, V width of the values, D head
width; w queries kept for the band, J heads of the new keys. Heads with keys of
their own have C = V = D; MLA absorbed has G = 1 and C = V = L, its latent width,
k the key latents and v the value latents (2405.04434, section 2.1.2).
"""

import math

import torch

from kernels.attention.reference import mix, normalise, reciprocal, visible
from kernels.attention.spec import AttentionSpec


def check_spec(spec: AttentionSpec) -> None:
    """ValueError where a spec asks for what a decode has not, or has no scale: an
    absorbed query does not tell how wide its head is.
    """
    if spec.scale is None:
        raise ValueError("scale: a decode needs it, 1 / sqrt(width of a head)")
    if spec.starts is not None or spec.statistics or spec.top is not None:
        raise ValueError("starts, statistics and top: a decode has none of them")


def decode(
    q_BnHC: torch.Tensor,
    k_BSGC: torch.Tensor,
    v_BSGV: torch.Tensor,
    spec: AttentionSpec,
    queries_BwHD: torch.Tensor | None = None,
    keys_BnJD: torch.Tensor | None = None,
) -> torch.Tensor:
    """o_BnHV of the last n of S positions as the spec says, with its scale given. The
    band's second term is alpha_h queries_s · keys_t: queries are those of the last
    w >= min(S, n + band) positions, keys those of the new tokens, both before MLA
    absorbs. Head h reads k, v of head h // (H / G) and keys of head h // (H / J).
    Raises ValueError for values that have no meaning.
    """
    check_spec(spec)
    spec.check()
    (n, H), S = q_BnHC.shape[1:3], k_BSGC.shape[1]
    k_BSHC = k_BSGC.repeat_interleave(H // k_BSGC.shape[2], dim=2)
    x_BHnS = spec.scale * torch.einsum("bthc,bshc->bhts", q_BnHC, k_BSHC)
    if spec.alpha is not None:
        # `reciprocal` scales by the width of what it multiplies.
        rate_H = spec.scale * math.sqrt(keys_BnJD.shape[3]) * spec.alpha
        r_BHnS = reciprocal(queries_BwHD, keys_BnJD, S, spec.band)
        x_BHnS = x_BHnS + rate_H[:, None, None] * r_BHnS
    mask_nS = visible(n, S, spec.window, q_BnHC.device)
    return mix(normalise(x_BHnS, mask_nS, spec.normaliser), v_BSGV)
