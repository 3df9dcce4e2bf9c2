"""The keys that the heads of an attention look at most, on average, and mixing by
them, with no T x T tensor. `reference` is the readable definition; the operators
are imported on first use: they need triton.
"""

from kernels.topk_routing.reference import routed, routed_mean

__all__ = ["routed", "routed_mean", "routed_mix", "topk_routing"]


def __getattr__(name: str):
    if name in ("routed_mix", "topk_routing"):
        from kernels.topk_routing import op

        return getattr(op, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
