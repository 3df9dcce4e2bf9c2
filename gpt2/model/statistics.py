"""What every head does on a few fixed windows, for metrics.jsonl.

A walk over the blocks in evaluation mode, without gradients, in the type of the
weights (fp32; no autocast): it draws no random number and leaves nothing behind,
so that a run trains to the same bits with it and without. Windows go through one
by one, which bounds the T x T tensors to those of one sequence.

Legend: B batch (one window), T tokens, E width, H heads, D head width; t/s
query/key position. All means are over the queries of all windows.
"""

import math
from typing import Any

import numpy as np
import torch

from gpt2.data.documents import starts_of
from gpt2.model.gpt import GPT
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.values import BlockToBlock, Positions

WINDOWS = 8
DIGITS = 6
MAP_DIGITS = 3


@torch.no_grad()
def attention_stats(
    model: GPT, windows: np.ndarray, kind: str, separator: int | None = None
) -> dict[str, Any]:
    """The statistics on the first WINDOWS rows of windows, int64 (n, T+1).

    Lists by layer, of lists by head (kurtosis: of numbers). None is what is not
    defined: a statistic of nothing, a gate that no block before gives, probabilities
    in a layer that has none.

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

    gate_cmp, gate_sel, gate_win, each with _sd, gate_entropy
                 native sparse attention: mean and deviation of γ by branch, entropy of
                 its shares, nats
    reads_cmp, reads_sel, reads_win, reads_all
                 keys that a query has read by branch, and dense attention's, numbers of
                 the layer
    choice_distance, choice_mass, choice_overlap
                 and of its chosen blocks, of the queries that leave one out: the share
                 by distance c - j (0, 1, 2–3, 4–7, …, a list of the layer), the share of
                 p^s that they hold without the forced ones, and the share that the query
                 before reads as well, by what chooses
    state_norm, effective_span, half_life
                 recurrent mixers: |S| after the last token; the tokens that a state holds,
                 Σ_s of what their decays leave, what the delta rule erases not counted;
                 and the share of the decays by half-life (below 1 token, 1–2, 2–4, …, a
                 list of the layer)
    maps         {name: {layer: rows}}, of the first window, in the first, the middle
                 and the last layer: what a mixer draws of itself (Mixer.maps)

    p are the final probabilities. Entropy in nats; the others are pure numbers.
    With a separator (documents apart) the pairs are those of one document, and the
    first token, 0, is the document's.
    """
    was_training = model.training
    model.eval()
    windows = windows[:WINDOWS]
    totals: list[dict[str, Statistic]] = [{} for _ in model.h]
    maps: dict[str, dict[str, Any]] = {}
    for number, window in enumerate(windows):
        tokens_BT = torch.from_numpy(window[None, :-1]).to(kind)
        layers, drawn = _walk(model, tokens_BT, separator, draws=number == 0)
        for layer, pictures in drawn.items():
            for name, map_TS in pictures.items():
                rows = _plain(map_TS.cpu().tolist(), MAP_DIGITS)
                maps.setdefault(name, {})[str(layer)] = rows
        for total, found in zip(totals, layers, strict=True):
            for name, (sums, final) in found.items():
                before = total[name].sums if name in total else (0,) * len(sums)
                added = tuple(a + b for a, b in zip(before, sums))
                total[name] = Statistic(added, final)
    model.train(was_training)
    names = dict.fromkeys(name for total in totals for name in total)
    values = {name: [_value(total.get(name)) for total in totals] for name in names}
    return {"windows": len(windows)} | values | ({"maps": maps} if maps else {})


def _walk(
    model: GPT, tokens_BT: torch.Tensor, separator: int | None, draws: bool
) -> tuple[list[dict[str, Statistic]], dict[int, dict[str, torch.Tensor]]]:
    """The statistics of every block for these tokens, and the maps of some."""
    last = len(model.h) - 1
    shown, drawn = {0, last // 2, last} if draws else set(), {}
    positions, layers = Positions(0, starts_of(tokens_BT, separator)), []
    x_BTE, context = model.embed(tokens_BT, positions), BlockToBlock()
    for i, block in enumerate(model.h):
        normed_BTE = block.norm1(x_BTE)
        found = block.attn.statistics(normed_BTE, context, positions)
        if i in shown:
            drawn[i] = block.attn.maps(normed_BTE, positions)
        x_BTE, y_BTE, context, _ = block(x_BTE, None, context, positions)
        x_BTE = x_BTE + y_BTE
        layers.append(found | {"kurtosis": Statistic(_powers(x_BTE), _excess)})
    return layers, drawn


def _powers(x_BTE: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """n, Σx, Σx², Σx³, Σx⁴."""
    x = x_BTE.double()
    return tuple((x**n).sum() for n in range(5))


def _excess(n: torch.Tensor, *sums: torch.Tensor) -> torch.Tensor:
    """The excess kurtosis."""
    a, b, c, d = (total / n for total in sums)
    fourth = d - 4 * a * c + 6 * a**2 * b - 3 * a**4
    return fourth / (b - a**2) ** 2 - 3


def _value(found: Statistic | None) -> Any:
    """The statistic as JSON has it: numbers of 6 digits, None where not finite."""
    if found is None:
        return None
    return _plain(found.final(*found.sums).cpu().tolist(), DIGITS)


def _plain(value: float | list[float], digits: int) -> Any:
    if isinstance(value, list):
        return [_plain(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
