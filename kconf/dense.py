"""Where a sparse mixer reads everything: said, not refused.

A study cut down to a short context keeps its number of blocks; `make check` and `make
plan` print what is then left of the sparsity.
"""

from typing import Mapping

from kconf.config_py import Value

CHOOSING = ("CMP_SEL_WIN", "CMP_SEL", "SEL_WIN", "SEL")
"""NSA_BRANCHES_… with selected blocks."""


def reads_all(values: Mapping[str, Value]) -> list[str]:
    """A line where the n blocks of b tokens that native sparse attention selects hold
    the whole context, n b >= T; none elsewhere.
    """
    if not any(values[f"NSA_BRANCHES_{name}"] for name in CHOOSING):
        return []
    n, b = values["NSA_TOP"], values["NSA_BLOCK"] // values["LENGTH_DIVISOR"]
    T = values["GPT2_BLOCK_SIZE"]
    if n * b < T:
        return []
    return [
        f"every block is read: {n} (CONFIG_NSA_TOP) of {b} tokens (CONFIG_NSA_BLOCK / "
        f"divisor) hold CONFIG_GPT2_BLOCK_SIZE={T}: the selected branch is dense"
    ]
