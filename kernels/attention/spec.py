"""What attention computes of q, k and v: the one list of its options, as callers
say it and as operators take it. No triton here.

Legend: B batch, T positions, H query heads, D head width, t/s query/key position.
"""

import math
from typing import NamedTuple

import torch

NORMALISERS = ("softmax", "softpick", "softpick_unsafe")
# Statistic -> what the kernels gather for it.
GATHERED = {"topk": "mass", "max": "mass", "entropy": "entropy", "rms": "squares"}
STATISTICS = ("lse", *GATHERED)
# Those of rows that sum to 1.
OF_SOFTMAX = ("entropy", "rms")
# Largest k of a top-k mass: each adds a maximum and a minimum per score.
MOST = 16


class Variant(NamedTuple):
    """What is computed, apart from the tensors: the last arguments of the operators.
    statistic: what is gathered; top: its k, 0 without one.
    """

    normaliser: str
    band: int | None
    window: int | None
    scale: float
    statistic: str | None = None
    top: int = 0

    @property
    def pick(self) -> bool:
        """Softpick, safe or not."""
        return self.normaliser != "softmax"

    @property
    def unsafe(self) -> bool:
        """Softpick without a row maximum: its eps is not relative to one."""
        return self.normaliser == "softpick_unsafe"


class AttentionSpec(NamedTuple):
    """o = normaliser(S) v, strictly causal, with

        S_ts = scale (q_t · k_s + [0 <= t - s <= band] α_h q_s · k_t)

    where t sees s: 0 <= t - s < window and s >= starts_t; p = normaliser(S) is 0
    elsewhere.

    normaliser  one of NORMALISERS, as `normalise` defines them
    scale       None: 1 / sqrt(D)
    window      None: no end
    alpha       fp32 [H], with a band or not at all: the second term is absent
    band        how far back the second term, RA's transposed score, reaches
    starts      int32 [B, T] on the device: the first token of t's document, so that
                documents packed into a row do not see each other; None: all are one.
                It must not fall along T and starts_t <= t: that is not checked, it
                would wait for the device
    statistics  of every row: `lse` = log sum e^S, for softpick
                log(sum |e^S - 1| + eps e^m) with its row maximum m, and of the
                others, as `statistic` defines them, at most one: `topk` (the mass of
                the `top` largest), `max`, `entropy`, `rms`
    top         with topk alone
    """

    normaliser: str = "softmax"
    scale: float | None = None
    window: int | None = None
    alpha: torch.Tensor | None = None
    band: int | None = None
    starts: torch.Tensor | None = None
    statistics: tuple[str, ...] = ()
    top: int | None = None

    @property
    def concentration(self) -> str | None:
        """The one statistic that is gathered beside the sums."""
        return next((name for name in self.statistics if name != "lse"), None)

    def scale_of(self, width: int) -> float:
        """The scale for heads of this width."""
        return 1 / math.sqrt(width) if self.scale is None else self.scale

    def flat(self, width: int) -> tuple[str, int | None, int | None, float]:
        """(normaliser, band, window, scale), in the order that Variant begins with."""
        return self.normaliser, self.band, self.window, self.scale_of(width)

    def gathered(self) -> tuple[str | None, int]:
        """(statistic, top), as Variant ends. Raises what check_statistics raises."""
        self.check_statistics()
        kind = self.concentration
        return GATHERED.get(kind), {"topk": self.top, "max": 1}.get(kind, 0)

    def check(self) -> None:
        """ValueError where a value lies outside its range or lacks another."""
        if self.normaliser not in NORMALISERS:
            raise ValueError(f"normaliser {self.normaliser!r}: one of {NORMALISERS}")
        if (self.alpha is None) != (self.band is None):
            raise ValueError("alpha and band belong together: give both or neither")
        if self.band is not None and self.band < 0:
            raise ValueError(f"band {self.band}: at least 0 (the diagonal alone)")
        if self.window is not None and self.window < 1:
            raise ValueError(
                f"window {self.window}: at least 1, the query's own position"
            )
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale {self.scale}: positive and finite")

    def check_for(self, q_BTHD: torch.Tensor) -> None:
        """What `check` raises, and ValueError where alpha or starts do not fit q."""
        self.check()
        (B, T, H, _), alpha, starts = q_BTHD.shape, self.alpha, self.starts
        if alpha is not None and (alpha.shape != (H,) or alpha.dtype != torch.float32):
            raise ValueError(
                f"alpha must be fp32 [{H}], one per head, not {alpha.dtype} "
                f"{tuple(alpha.shape)}"
            )
        if starts is None:
            return
        if starts.shape != (B, T) or starts.dtype != torch.int32:
            raise ValueError(
                f"starts must be int32 [{B}, {T}], one per query, not "
                f"{starts.dtype} {tuple(starts.shape)}"
            )
        if starts.device != q_BTHD.device or not starts.is_contiguous():
            raise ValueError(f"starts must be contiguous on {q_BTHD.device}")

    def check_statistics(self) -> None:
        """ValueError for statistics that have no meaning, NotImplementedError for
        those that the kernels do not gather.
        """
        unknown = set(self.statistics) - set(STATISTICS)
        if unknown:
            raise ValueError(f"statistics {sorted(unknown)}: {STATISTICS}")
        others = set(self.statistics) - {"lse"}
        if len(others) > 1:
            raise NotImplementedError(
                f"{sorted(others)}: one of them at a time; use the reference"
            )
        if self.normaliser != "softmax" and others & set(OF_SOFTMAX):
            raise ValueError(
                f"{sorted(others)} of {self.normaliser}: its rows may sum to 0"
            )
        if ("topk" in others) != (self.top is not None):
            raise ValueError("top and the statistic topk belong together")
        if self.top is not None and not 1 <= self.top <= MOST:
            raise NotImplementedError(
                f"top {self.top}: these kernels keep 1 to {MOST}; use the reference"
            )
