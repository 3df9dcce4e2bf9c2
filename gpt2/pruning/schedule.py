"""The sparsity as a function of the budget spent."""

INITIAL = 0.0


def progress(start: float, end: float, spent: float) -> float:
    """p: 0 up to `start`, 1 from `end` on, linear between (fractions of the budget)."""
    return min(max((spent - start) / (end - start), 0.0), 1.0)


def cubic(final: float, p: float) -> float:
    """s = s_f + (s_i − s_f) (1 − p)³, s_i = 0 (1710.01878, equation 1)."""
    return final + (INITIAL - final) * (1 - p) ** 3
