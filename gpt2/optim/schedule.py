"""The learning rate as a function of the budget spent."""

import math

from gpt2.settings.run import OptimSettings


def learning_rate(settings: OptimSettings, done: float, total: int) -> float:
    """Linear warm-up, then a cosine to the final rate.

    done: steps completed before this one, 0 <= done < total; with the time
    budget the fraction of the time spent x total. With w warm-up steps:
    peak (done + 1) / (w + 1) while done < w, then
    final + (peak - final) (1 + cos(pi x)) / 2, x = (done - w) / (total - w)
    (1608.03983, eq. 5). A warm-up as long as the budget never reaches the peak.
    """
    warmup = settings.warmup
    if done < warmup:
        return settings.lr * (done + 1) / (warmup + 1)
    x = min((done - warmup) / (total - warmup), 1.0)
    half = 0.5 * (1 + math.cos(math.pi * x))
    return settings.min_lr + (settings.lr - settings.min_lr) * half
