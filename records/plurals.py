"""Counts in words."""


def plural(n: int, noun: str, many: str = "") -> str:
    """1 run, 2 runs, 1,091 seeds; `many` is a plural that does not end in s alone."""
    return f"1 {noun}" if n == 1 else f"{n:,} {many or noun + 's'}"
