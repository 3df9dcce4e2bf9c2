"""One optimizer step: from micro-batches to the next weights."""

import torch

from gpt2.data.loading.corpus import StepBatches
from gpt2.distributed.distribution import Distribution
from gpt2.pruning import Pruner
from gpt2.settings.run import RunSettings
from gpt2.training import update

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Step:
    """Takes the steps of a run, or of a benchmark.

    kind: of the device, "cpu" or "cuda"; micro_batches: of a step, in all ranks.
    """

    def __init__(
        self,
        settings: RunSettings,
        distribution: Distribution,
        optimizer: torch.optim.Optimizer,
        pruner: Pruner | None,
        micro_batches: int,
        kind: str,
    ):
        dtype = settings.system.dtype
        self.autocast = torch.autocast(kind, AUTOCAST[dtype], enabled=dtype != "fp32")
        self.distribution, self.optimizer, self.kind = distribution, optimizer, kind
        self.update = update.build(
            settings.optim, optimizer, distribution, pruner, micro_batches
        )

    def set_rate(self, lr: float) -> None:
        """The learning rate from now on, of every group."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def take(self, batches: StepBatches) -> tuple[torch.Tensor, torch.Tensor]:
        """Over a rank's micro-batches; the mean loss of those of all ranks, and the
        norm of the gradient (`Update.step`). Weights are updated, `refresh` follows.
        """
        ranks = self.distribution.ranks
        loss = torch.zeros((), device=self.kind)
        for number, micro in enumerate(batches, 1):
            last = number == len(batches)
            with self.distribution.micro_batch(last, self.update.collect):
                with self.autocast:
                    part = self.distribution.forward(*micro) / len(batches)
                part.backward()
            loss += part.detach()
        loss = ranks.sum_(loss) / ranks.world
        return loss, self.update.step()

    def refresh(self, masked: bool) -> None:
        """What is read follows what was updated; masked: masks changed weights
        after the step.
        """
        self.update.refresh(masked)
