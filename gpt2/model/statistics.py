"""What every head does on a few fixed windows, for metrics.jsonl.

A walk over the blocks in evaluation mode, without gradients, in the type of the
weights (fp32; no autocast): it draws no random number and leaves nothing behind,
so that a run trains to the same bits with it and without. Windows go through one
by one, which bounds the T x T tensors to those of one sequence.

Legend: B batch (one window), T tokens, E width, H heads, D head width; t/s
query/key position. All means are over the queries of all windows.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpt2.data.documents import starts_of
from gpt2.model.gpt import GPT
from gpt2.model.mixers.attention.attention import Attention
from gpt2.model.values import BlockToBlock
from gpt2.settings.run import ModelSettings
from kernels.attention import normalise, reciprocal, scores, visible

WINDOWS = 8
SINK = 0.3
DIGITS = 6

# What is summed over windows before the last formula: float64, (H,) or ().
Sums = tuple[torch.Tensor, ...]


@torch.no_grad()
def attention_stats(
    model: GPT, windows: np.ndarray, kind: str, separator: int | None = None
) -> dict[str, Any]:
    """The statistics on the first WINDOWS rows of windows, int64 (n, T+1).

    Lists by layer, of lists by head (kurtosis: of numbers). None is what is not
    defined: a statistic of nothing, a gate that no block before gives.

    entropy      mean over t of -Σ_s p̂_ts ln p̂_ts in nats, p̂_ts = p_ts / Σ_s p_ts;
                 rows of zeros (softpick) are left out
    reciprocity  Σ S_ts S_st / √(Σ S_ts² · Σ S_st²) over all pairs s < t, with
                 S_ts = q_t · k_s before RA, masks and normaliser: 1 where the
                 transposed score repeats the score, 0 where it is foreign to it,
                 -1 where it is its opposite
    sink_rate    share of the queries t >= 1 with p_t0 > 0.3
    sparsity     share of the visible p_ts that are exactly 0
    kurtosis     of the residual stream x after the block, over all of its elements:
                 mean (x - x̄)⁴ / (mean (x - x̄)²)² - 3, 0 for a normal distribution
    ra_alpha, ra_ct_gate, mlp_attn_gate, output_gate
                 α; means of g, γ (as it meets this block's heads) and of the gate;
                 only where the model has them

    p are the final probabilities. Entropy in nats; the others are pure numbers.
    With a separator (documents apart) the pairs are those of one document, and the
    first token, 0, is the document's.
    """
    was_training = model.training
    model.eval()
    windows = windows[:WINDOWS]
    totals: list[dict[str, Sums]] = [{} for _ in model.h]
    for window in windows:
        tokens_BT = torch.from_numpy(window[None, :-1]).to(kind)
        for total, found in zip(
            totals, _walk(model, tokens_BT, separator), strict=True
        ):
            for name, sums in found.items():
                before = total.get(name, (0,) * len(sums))
                total[name] = tuple(a + b for a, b in zip(before, sums))
    model.train(was_training)
    names = dict.fromkeys(name for total in totals for name in total)
    return {"windows": len(windows)} | {
        name: [_value(name, total.get(name)) for total in totals] for name in names
    }


def _walk(
    model: GPT, tokens_BT: torch.Tensor, separator: int | None
) -> list[dict[str, Sums]]:
    """The sums of every block for these tokens."""
    starts_BT = starts_of(tokens_BT, separator)
    x_BTE, context, layers = model.embed(tokens_BT, 0, starts_BT), BlockToBlock(), []
    for block in model.h:
        normed_BTE = block.norm1(x_BTE)
        found = _head_sums(block.attn, normed_BTE, context, model.settings, starts_BT)
        x_BTE, y_BTE, context, _ = block(x_BTE, None, context, starts_BT=starts_BT)
        x_BTE = x_BTE + y_BTE
        layers.append(found | {"kurtosis": _powers(x_BTE)})
    return layers


def _head_sums(
    attn: Attention,
    x_BTE: torch.Tensor,
    context: BlockToBlock,
    settings: ModelSettings,
    starts_BT: torch.Tensor | None,
) -> dict[str, Sums]:
    """The sums of one attention that reads x, its normed input."""
    q_BTHD, memory = attn.projection(x_BTE, context.latent_BnL, 0)
    k_BTGD, _ = attn.projection.expand(memory)
    s_BHTT, T = scores(q_BTHD, k_BTGD), q_BTHD.shape[1]
    if starts_BT is None:
        starts_BT = x_BTE.new_zeros(x_BTE.shape[:2], dtype=torch.int32)
    mask_B1TT = visible(T, T, attn.window, x_BTE.device, starts_BT)
    same_B1TT = visible(T, T, None, x_BTE.device, starts_BT)
    p_BHTT = attn.probabilities(x_BTE, context, starts_BT)
    found = {
        "entropy": _entropy(p_BHTT),
        "reciprocity": _reciprocity(s_BHTT, same_B1TT),
        "sink_rate": _sinks(p_BHTT, starts_BT),
        "sparsity": _share(p_BHTT == 0, mask_B1TT),
    }
    if attn.ra is not None:
        r_BHTT = reciprocal(q_BTHD, k_BTGD, T, attn.ra.band)
        s_BHTT = s_BHTT + attn.ra.alpha_H[:, None, None] * r_BHTT
        found["ra_alpha"] = _mean(attn.ra.alpha_H[None, :, None])
    if attn.ra_ct is not None:
        ungated_BHTT = normalise(s_BHTT, mask_B1TT, attn.normaliser)
        factor_BHT = attn.ra_ct(ungated_BHTT, mask_B1TT)
        found["ra_ct_gate"] = _gate(factor_BHT, attn.ra_ct.alpha)
    if context.gate_BnH is not None:
        factor_BHT = context.gate_BnH.transpose(1, 2)
        found["mlp_attn_gate"] = _gate(factor_BHT, settings.mlp.attn_gate_alpha)
    if attn.out_gate is not None:
        gate_BTHD = attn.out_gate(torch.ones_like(q_BTHD), x_BTE)
        found["output_gate"] = _mean(gate_BTHD.transpose(1, 2))
    return found


def _sum(x_BH: torch.Tensor) -> torch.Tensor:
    """Over everything but the heads, in float64: sum_H of (B, H, …)."""
    return x_BH.transpose(0, 1).flatten(1).sum(dim=1, dtype=torch.float64)


def _mean(x_BH: torch.Tensor) -> Sums:
    """Sum and number of the elements of every head."""
    total_H = _sum(x_BH)
    return total_H, torch.full_like(total_H, x_BH.numel() // len(total_H))


def _gate(factor_BHT: torch.Tensor, alpha: float) -> Sums:
    """The sums whose ratio is the mean of g, from factor = (1 - α) + αg."""
    total_H, count_H = _mean(factor_BHT)
    return total_H - (1 - alpha) * count_H, alpha * count_H


def _entropy(p_BHTT: torch.Tensor) -> Sums:
    """Entropies of the rows that are not all zero, and how many those are."""
    mass_BHT1 = p_BHTT.sum(dim=-1, keepdim=True)
    share_BHTT = p_BHTT / torch.where(mass_BHT1 > 0, mass_BHT1, 1.0)
    return _sum(torch.special.entr(share_BHTT)), _sum(mass_BHT1 > 0)


def _share(true_BHTT: torch.Tensor, of_B1TT: torch.Tensor) -> Sums:
    """How many of the places are true, and how many places there are."""
    total_H = _sum(true_BHTT & of_B1TT)
    return total_H, torch.full_like(total_H, of_B1TT.sum().item())


def _sinks(p_BHTT: torch.Tensor, starts_BT: torch.Tensor) -> Sums:
    """Queries with p_t0 > SINK, 0 their document's first token, and how many there
    are behind one.
    """
    first_BHT1 = starts_BT.long()[:, None, :, None].expand(-1, p_BHTT.shape[1], -1, 1)
    sunk_BHT = p_BHTT.gather(-1, first_BHT1)[..., 0] > SINK
    t_T = torch.arange(p_BHTT.shape[2], device=p_BHTT.device)
    return _share(sunk_BHT, (t_T > starts_BT)[:, None])


def _reciprocity(s_BHTT: torch.Tensor, same_B1TT: torch.Tensor) -> Sums:
    """Σ S_ts S_st, Σ S_ts², Σ S_st² over s < t of one document."""
    s_BHTT = s_BHTT.masked_fill(~(same_B1TT | same_B1TT.transpose(2, 3)), 0.0)
    square_BHTT = s_BHTT.square()
    crossed_BHTT = s_BHTT * s_BHTT.transpose(2, 3)
    lower = (crossed_BHTT.tril(-1), square_BHTT.tril(-1), square_BHTT.triu(1))
    return tuple(map(_sum, lower))


def _powers(x_BTE: torch.Tensor) -> Sums:
    """n, Σx, Σx², Σx³, Σx⁴."""
    x = x_BTE.double()
    return tuple((x**n).sum() for n in range(5))


def _ratio(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return total / count


def _cosine(cross: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return cross / (a * b).sqrt()


def _excess_kurtosis(n: torch.Tensor, *sums: torch.Tensor) -> torch.Tensor:
    a, b, c, d = (total / n for total in sums)
    fourth = d - 4 * a * c + 6 * a**2 * b - 3 * a**4
    return fourth / (b - a**2) ** 2 - 3


FINAL: dict[str, Callable[..., torch.Tensor]] = {
    "reciprocity": _cosine,
    "kurtosis": _excess_kurtosis,
}


def _value(name: str, sums: Sums | None) -> Any:
    """The statistic as JSON has it: numbers of 6 digits, None where not finite."""
    if sums is None:
        return None
    found = FINAL.get(name, _ratio)(*sums).cpu()
    return _plain(found.tolist())


def _plain(value: float | list[float]) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
