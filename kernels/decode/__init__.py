"""One step of a decode against its cache. `reference` is the readable definition;
`attention_decode` the Triton operator, imported on first use.
"""

from kernels.decode.configs import MOST_NEW, serves
from kernels.decode.reference import decode

__all__ = ["MOST_NEW", "attention_decode", "decode", "serves"]


def __getattr__(name: str):
    if name == "attention_decode":
        from kernels.decode.op import attention_decode

        return attention_decode
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
