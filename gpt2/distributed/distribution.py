"""How the ranks of a cell share one model: the interface.

A way to share is one file of this room with one subclass of Distribution, and a line of
gpt2/distributed/build.py. Outside this room nothing assumes which rank holds which
weights, gradients or optimizer state. docs/distributed.md says what is summed, in which
type, and when.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gpt2.distributed.ranks import Ranks, RanksError
from gpt2.model.gpt import GPT
from gpt2.model.precision import Weights
from gpt2.pruning import Pruner
from gpt2.settings.run import OptimSettings


class RanksDiffer(RanksError):
    """Two ranks hold different values of what they hold in common."""


@dataclass(frozen=True)
class TrainingBytes:
    """Of a whole model in training: fp32 weights, their fp32 gradients, optimizer
    state, masks and scores of pruning.
    """

    weights: int
    gradients: int
    optimizer: int
    pruning: int


Compiler = Callable[[GPT], nn.Module]
"""Makes of a model what computes its loss."""


class Distribution(ABC):
    """A model as the ranks of a cell train it; one process is one rank.

    Every method but `bytes_per_rank` is collective: all ranks call it in the same order.
    A subclass is made from the whole model, which every rank has built alike,
    on its device: Subclass(model, ranks, param_dtype, compiler); param_dtype as in
    SystemSettings, without a compiler the model runs as it is.

    ranks: who they are. model: the fp32 parameters that this rank updates, by the names
    that they have in the whole model. weights: what a forward pass reads of them.
    forward: (tokens_BT, targets_BT, starts_BT or None) to the loss of a micro-batch,
    called within `micro_batch`.
    """

    ranks: Ranks
    model: GPT
    weights: Weights
    forward: Callable[..., torch.Tensor]

    @abstractmethod
    def optimizer(self, settings: OptimSettings) -> torch.optim.Optimizer:
        """The configured optimizer over what this rank updates."""

    @abstractmethod
    def micro_batch(
        self, last: bool, collect: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Around the forward and backward pass of one of a step's micro-batches.

        collect: adds up, behind a backward pass, gradients that stay with this rank.
        After the last micro-batch the gradients of what this rank updates are the mean
        over the ranks of the sums over micro-batches, added in fp32 at least.
        """

    @abstractmethod
    def gradient_norm(self, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """√ Σ g² over the gradients of the whole model, the same on every rank.

        parameters: all that this rank updates, after the last micro-batch.
        """

    @abstractmethod
    def model_sum(self, own: torch.Tensor) -> torch.Tensor:
        """From a sum over the gradients of what this rank updates to that over the
        gradients of the whole model, the same on every rank.
        """

    @abstractmethod
    def refresh(self, copied: bool) -> None:
        """After an optimizer step: what every rank reads follows what was updated.
        copied: the step wrote this rank's bf16 copies itself.
        """

    @abstractmethod
    def whole(self) -> AbstractContextManager[GPT]:
        """The model with all of its fp32 weights, on every rank: for evaluations,
        statistics, hashes and files. Between steps, when there are no gradients.

        Entering is collective; what is done within, and leaving, is each rank's own.
        The weights are not changed within.
        """

    @abstractmethod
    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """{"model": …, "optimizer": …}: the state dicts that one process would have,
        whole on rank 0, which writes them.
        """

    @abstractmethod
    def load(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """Take over a `state`, of whatever number of ranks and way to share it is."""

    @abstractmethod
    def require_same(self, pruner: Pruner | None, step: int) -> None:
        """Raise RanksDiffer, on every rank, when a weight, mask or score that several
        ranks hold differs between them after `step` steps; it names the first.
        """

    @staticmethod
    @abstractmethod
    def bytes_per_rank(held: TrainingBytes, world: int) -> int:
        """Of what training holds of a whole model, the bytes on a rank of `world` at
        most, between steps.
        """
