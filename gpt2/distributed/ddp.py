"""Every rank holds the whole model, and the ranks' gradients become one.

DistributedDataParallel sums over the ranks after the last micro-batch of a step
alone (no_sync before), bucket by bucket while the backward pass goes on. What it
sums is what the optimizer reads: fp32 gradients, added up over the micro-batches.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from gpt2 import optim
from gpt2.distributed import checksums
from gpt2.distributed.distribution import Compiler, Distribution, TrainingBytes
from gpt2.distributed.ranks import ALONE, Ranks
from gpt2.model import precision
from gpt2.model.gpt import GPT
from gpt2.model.precision import Weights
from gpt2.pruning import Pruner
from gpt2.settings.run import OptimSettings


class DataParallel(Distribution):
    """The model of one rank, which is the whole one; alone, it is not wrapped.

    Every rank has the mean gradient of every weight and takes the same step.
    """

    def __init__(
        self,
        model: GPT,
        ranks: Ranks = ALONE,
        param_dtype: str = "fp32",
        compiler: Compiler | None = None,
    ):
        self.model, self.ranks = model, ranks
        self.weights = precision.build(model, param_dtype)
        self.forward = self.weights.model
        if compiler is not None:
            self.forward = compiler(self.weights.model)
        if ranks.alone:
            return
        # One graph, as in one process. DDP would cut it at every bucket, to send
        # during the backward pass: kernels at the cuts would no longer be fused.
        torch._dynamo.config.optimize_ddp = False
        with warnings.catch_warnings():
            # torch 2.13 has another word for it, which torch 2.11 does not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            self.forward = DistributedDataParallel(
                self.forward,
                broadcast_buffers=False,  # buffers are constants
                gradient_as_bucket_view=True,
                init_sync=False,  # initial values are a function of the settings
            )
        # Not self: DDP's C++ part would keep what keeps it, out of gc's sight.
        self.forward.register_comm_hook((self.weights, ranks.world), _mean_in_fp32)

    def optimizer(self, settings: OptimSettings) -> torch.optim.Optimizer:
        """Over every parameter."""
        return optim.build(self.model, settings)

    @contextmanager
    def micro_batch(self, last: bool, collect: Callable[[], None]) -> Iterator[None]:
        """After the last one every rank has the mean gradient of every weight."""
        if self.ranks.alone:
            yield
            collect()
        elif last:
            yield
            self.weights.drop()  # the hook has collected
        else:
            with self.forward.no_sync():
                yield
            collect()

    def gradient_norm(self, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """Every rank has all gradients: nothing is sent."""
        return torch.nn.utils.get_total_norm(
            [p.grad for p in parameters if p.grad is not None]
        )

    def model_sum(self, own: torch.Tensor) -> torch.Tensor:
        """A rank's own sum is that of the model."""
        return own

    def refresh(self, copied: bool) -> None:
        """Every rank has updated every weight: nothing is sent."""
        if not copied:
            self.weights.refresh()

    @contextmanager
    def whole(self) -> Iterator[GPT]:
        """The rank's own model."""
        yield self.model

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The rank's own, without a copy."""
        return {"model": self.model.state_dict(), "optimizer": optimizer.state_dict()}

    def load(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """Every rank takes over all of it."""
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        self.weights.refresh()

    def require_same(self, pruner: Pruner | None, step: int) -> None:
        """Every weight, mask and score is held by every rank."""
        tensors = dict(self.model.named_parameters())
        for kind, of_kind in (pruner.state() if pruner else {}).items():
            tensors |= {f"{kind}.{name}": value for name, value in of_kind.items()}
        checksums.require_same(self.ranks, tensors, step)

    @staticmethod
    def bytes_per_rank(held: TrainingBytes, world: int) -> int:
        """All of it, whatever the number of ranks."""
        return held.weights + held.gradients + held.optimizer + held.pruning


def _mean_in_fp32(
    state: tuple[Weights, int], bucket: dist.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """DDP's communication hook: start the mean of a bucket over the ranks.

    The buckets of a bf16 copy are added to the masters' sums first, in fp32, and
    those are what the ranks exchange; a bucket has parameters of one type.
    """
    (weights, world), buffer = state, bucket.buffer()
    sums = weights.collected(bucket.parameters(), buffer)
    work = dist.all_reduce(sums.div_(world), async_op=True)
    return work.get_future().then(lambda _: buffer)
