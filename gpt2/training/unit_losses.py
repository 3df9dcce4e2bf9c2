"""The losses of an evaluation by document or window, in nats.

Legend: B windows of a micro-batch, T targets, S segments, U units.
"""

import numpy as np
import torch

from gpt2.data.loading.evaluation_text import Units
from gpt2.distributed.ranks import Ranks


class UnitLosses:
    """Takes every target's loss once, and sums those of a unit.

    A segment lies in one window, so in one rank's share: what the ranks add up is one
    number and zeros, and the sums are those of one process.
    """

    def __init__(self, units: Units):
        self.units = units
        self._sums_S = np.zeros(len(units.unit_S))

    def add(self, first: int, loss_BT: torch.Tensor) -> None:
        """Those of the windows from number `first` on."""
        segment_BT = self.units.segment_nT[first : first + len(loss_BT)]
        low, high = segment_BT[0, 0], segment_BT[-1, -1] + 1
        nats = loss_BT.double().cpu().numpy().ravel()
        self._sums_S[low:high] = np.bincount((segment_BT - low).ravel(), nats)

    def nats(self, ranks: Ranks) -> np.ndarray:
        """nats_U of all ranks' windows; collective."""
        sums_S = ranks.sum_(torch.from_numpy(self._sums_S)).numpy()
        return np.bincount(self.units.unit_S, sums_S)
