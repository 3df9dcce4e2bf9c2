"""What a 0 stands for: widths and counts that follow from other symbols.

A .config freezes every default that a person could change. A default that hangs on
another symbol would stay behind when that one is overridden (774M layers with the MLP of
124M), so no such symbol has one (tests/kconf/test_defaults.py): it is 0 where nobody
wrote a number, and the strict merge puts the number it stands for in the values. All
that reads values (config.py, the hash of a cell, the one-difference proof, settings,
reports) sees that number; .config alone keeps what was written.
"""

from dataclasses import dataclass
from typing import Callable, Mapping

from kconf.config_py import Value

VOCABULARIES = {"byte": 257, "gpt2": 50257}
"""Tokens of a tokenizer that is not trained here, the separator included."""
ROUNDED = 64
"""SwiGLU's width is a multiple of it, as GPUs like their matrices."""


@dataclass(frozen=True)
class Rule:
    """The number behind a symbol's 0, and the same in words."""

    value: Callable[[Mapping[str, Value]], int]
    words: Callable[[Mapping[str, Value]], str]


def mlp_width(values: Mapping[str, Value]) -> int:
    """F before CONFIG_WIDTH_DIVISOR: 4 E, as GPT-2 has it; under SwiGLU, which has three
    matrices, 8/3 E to the nearest multiple of 64, half upwards, at least 64: the same
    weights (2002.05202, section 2).
    """
    E = values["GPT2_WIDTH"]
    if not values["MLP_SWIGLU"]:
        return 4 * E
    return max((8 * E + 3 * ROUNDED // 2) // (3 * ROUNDED), 1) * ROUNDED


def vocabulary(values: Mapping[str, Value]) -> int:
    """Tokens of the tokenizer, the separator included."""
    for name, tokens in VOCABULARIES.items():
        if values[f"TOKENIZER_{name.upper()}"]:
            return tokens
    return values["BPE_VOCAB_SIZE"]


def _of_mlp(values: Mapping[str, Value]) -> str:
    return "8/3 E to a multiple of 64" if values["MLP_SWIGLU"] else "4 E"


RULES = {
    "MLP_DIM": Rule(mlp_width, _of_mlp),
    "GPT2_VOCAB_SIZE": Rule(vocabulary, lambda _: "the tokenizer's"),
}


def derive(written: Mapping[str, Value]) -> dict[str, Value]:
    """The values with the number of every rule in the place of its 0."""
    zeros = [symbol for symbol in RULES if written.get(symbol) == 0]
    return {**written, **{s: RULES[s].value(written) for s in zeros}}


def sizes(written: Mapping[str, Value]) -> list[str]:
    """A line per rule: what its 0 is here, or that a number stands in its place which
    0 would not be. None where the number is the same.
    """
    lines = []
    for symbol in (name for name in RULES if written.get(name) is not None):
        rule = RULES[symbol]
        number, words = rule.value(written), rule.words(written)
        if written[symbol] == 0:
            lines.append(f"CONFIG_{symbol}=0 is {number} ({words})")
        elif written[symbol] != number:
            told = f"CONFIG_{symbol}={written[symbol]} is as written"
            lines.append(f"{told}: 0 would be {number} ({words})")
    return lines
