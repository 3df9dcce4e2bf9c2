"""What one rank computes losses with, and how the ranks' gradients become one.

DistributedDataParallel sums over the ranks after the last micro-batch of a step
alone (no_sync before), bucket by bucket while the backward pass goes on. What it
sums is what the optimizer reads: fp32 gradients, added up over the micro-batches.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from gpt2.distributed.ranks import Ranks
from gpt2.model.precision import Weights


class Replica:
    """The model of one rank. forward: (tokens, targets) to the loss.

    collect: what adds up the gradients of a micro-batch that stay with the rank.
    """

    def __init__(
        self,
        weights: Weights,
        collect: Callable[[], None],
        compiled: bool,
        ranks: Ranks,
    ):
        self.weights, self.collect, self.ranks = weights, collect, ranks
        self.forward = torch.compile(weights.model) if compiled else weights.model
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
        self.forward.register_comm_hook((weights, ranks.world), _mean_in_fp32)

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Around forward and backward pass of a micro-batch of a step.

        After the last one the model's gradients are the mean over the ranks of
        the sums over micro-batches.
        """
        if self.ranks.alone:
            yield
            self.collect()
        elif last:
            yield
            self.weights.drop()  # the hook has collected
        else:
            with self.forward.no_sync():
                yield
            self.collect()


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
