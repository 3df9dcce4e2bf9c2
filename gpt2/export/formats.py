"""What an export may be, by name; for those who do without torch."""

import re

from records.arguments import one_of

FORMATS = ("hf", "gguf", "native", "onnx")
DTYPES = ("fp32", "bf16", "f16")
BLOCKS = ("q8_0",)
"""Types of FORMAT=gguf alone, that hold values in blocks."""
LLAMA_CPP = re.compile(r"(i?q|tq)[1-8]_\w+|mxfp4|nvfp4")
"""Its other types, which a reason refuses."""


def dtype(text: str) -> str:
    """A type by its name, small or capital; one of llama.cpp's is refused later, with
    the reason. Raises argparse.ArgumentTypeError.
    """
    name, known = text.lower(), (*DTYPES, *BLOCKS)
    if name in known or LLAMA_CPP.fullmatch(name):
        return name
    return one_of(known)(text)


def obstacle(target: str, dtype: str) -> str | None:
    """Why the format does not store values in that type, or None."""
    if dtype in DTYPES or (target == "gguf" and dtype in BLOCKS):
        return None
    if dtype in BLOCKS:
        return (
            f"DTYPE={dtype} is a type of FORMAT=gguf alone: FORMAT={target} stores "
            f"{', '.join(DTYPES)}"
        )
    return (
        f"DTYPE={dtype} is not written here: of llama.cpp's types of few bits {BLOCKS[0]} "
        "is, whose values are within half a step. Its llama-quantize makes "
        f"{dtype.upper()} of the file of FORMAT=gguf DTYPE=f16, and its llama-perplexity "
        "says what that costs"
    )
