"""The effective batch: what is asked for is what happens, or it is an error."""

from collections.abc import Callable
from dataclasses import dataclass

from gpt2.settings.run import TrainSettings
from kconf.bind import SettingsError

# Share of a device's total memory that an automatic micro-batch may fill by the
# estimate; the rest is for the allocator, the context and the estimate's error.
HEADROOM = 0.85


@dataclass(frozen=True)
class Batch:
    """Sequences: micro x accumulation x ranks = effective."""

    micro: int
    accumulation: int
    ranks: int

    @property
    def effective(self) -> int:
        """Sequences per optimizer step."""
        return self.micro * self.accumulation * self.ranks


def resolve(
    train: TrainSettings,
    ranks: int,
    memory: int,
    estimate: Callable[[int], int],
) -> Batch:
    """The batch in force.

    memory: total bytes of the device, never what happens to be free.
    estimate: bytes that training needs with a given micro-batch. Raises
    SettingsError when the numbers do not multiply to the effective batch or
    when not even one sequence fits.
    """
    wanted = train.effective_batch
    if wanted % ranks:
        raise SettingsError(
            "EFFECTIVE_BATCH", wanted, f"does not divide among {ranks} ranks"
        )
    micro = train.micro_batch or _largest(train, wanted // ranks, memory, estimate)
    accumulation = train.accumulation
    if accumulation == 0:
        accumulation = max(wanted // (micro * ranks), 1)
    batch = Batch(micro, accumulation, ranks)
    if wanted and batch.effective != wanted:
        raise SettingsError(
            "EFFECTIVE_BATCH",
            wanted,
            f"micro-batch {micro} x accumulation {accumulation} x ranks {ranks} "
            f"= {batch.effective}",
        )
    return batch


def _largest(
    train: TrainSettings, share: int, memory: int, estimate: Callable[[int], int]
) -> int:
    """The largest divisor of a rank's share that the memory holds."""
    if train.accumulation:
        if share % train.accumulation:
            raise SettingsError(
                "GPT2_GRADIENT_ACCUMULATION",
                train.accumulation,
                f"does not divide a rank's {share} sequences",
            )
        return share // train.accumulation
    for micro in sorted(
        (d for d in range(1, share + 1) if share % d == 0), reverse=True
    ):
        if estimate(micro) <= HEADROOM * memory:
            return micro
    raise SettingsError(
        "BATCH_SIZE",
        0,
        f"one sequence needs {estimate(1) / 2**30:.1f} GiB by the estimate, the "
        f"device has {memory / 2**30:.1f} GiB: a shorter CONFIG_GPT2_BLOCK_SIZE or a "
        "smaller model",
    )
