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


def decode(
    q_BnHC: torch.Tensor,
    k_BSGC: torch.Tensor,
    v_BSGV: torch.Tensor,
    *,
    normaliser: str,
    scale: float,
    window: int | None = None,
    alpha_H: torch.Tensor | None = None,
    band: int | None = None,
    queries_BwHD: torch.Tensor | None = None,
    keys_BnJD: torch.Tensor | None = None,
) -> torch.Tensor:
    """o_BnHV = sum_s p_ts v_s with p = normaliser(x) over the keys that t sees and

        x_ts = scale (q_t · k_s + [0 <= t - s <= band] alpha_h queries_s · keys_t)

    for the last n of S positions t; t sees s where 0 <= t - s < window. The second
    term is RA's: queries are those of the last w >= min(S, n + band) positions, keys
    those of the new tokens, both before MLA absorbs. Head h reads k, v of head
    h // (H / G) and keys of head h // (H / J).
    """
    (n, H), S = q_BnHC.shape[1:3], k_BSGC.shape[1]
    k_BSHC = k_BSGC.repeat_interleave(H // k_BSGC.shape[2], dim=2)
    x_BHnS = scale * torch.einsum("bthc,bshc->bhts", q_BnHC, k_BSHC)
    if alpha_H is not None:
        # `reciprocal` scales by the width of what it multiplies.
        rate_H11 = (scale * math.sqrt(keys_BnJD.shape[3]) * alpha_H)[:, None, None]
        x_BHnS = x_BHnS + rate_H11 * reciprocal(queries_BwHD, keys_BnJD, S, band)
    p_BHnS = normalise(x_BHnS, visible(n, S, window, q_BnHC.device), normaliser)
    return mix(p_BHnS, v_BSGV)
