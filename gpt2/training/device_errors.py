"""Out of memory, a GPU that is gone: what happened, in one message with the fix.

The fix is of the cause: a kernel that reads out of bounds is no lost GPU, and a host
without memory no GPU without.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpt2.data.loading.batch import Batch
from gpt2.settings.run import RunSettings
from gpt2.training.checkpoint import Progress
from gpt2.training.device import DeviceInfo
from gpt2.training.memory import memory_estimate

CPU_REFUSALS = ("can't allocate memory", "not enough memory")
"""What torch's CPU allocator says; it raises no class of its own."""
OWN_FAULTS = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid",
    "no kernel image",
)
"""What CUDA and HIP say of a program's own mistakes: they are left as they are."""


class OutOfMemory(RuntimeError):
    """The device's memory does not hold the run."""


class DeviceLost(RuntimeError):
    """The GPU stopped answering."""


@contextmanager
def explained(
    settings: RunSettings, sizes: Batch, info: DeviceInfo, progress: Progress
) -> Iterator[None]:
    """Raise OutOfMemory and DeviceLost for what torch raises in their place.

    An OutOfMemory of a run on a GPU says whose memory was short: the GPU's or the
    host's.
    """
    try:
        yield
    except torch.AcceleratorError as error:
        if any(words in str(error) for words in OWN_FAULTS):
            raise
        raise DeviceLost(
            f"{info.name} failed after step {progress.step}: {_first(error)}; what was "
            "recorded and every checkpoint stand. See `dmesg` (NVIDIA: NVRM Xid, "
            "AMD: amdgpu) and `make doctor`, reset the GPU or exclude it, then make "
            "goes on (make plan says from which step)"
        ) from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(_advice(settings, sizes, info, progress, error)) from error
    except (RuntimeError, MemoryError) as error:
        refused = any(words in str(error) for words in CPU_REFUSALS)
        if not refused and not isinstance(error, MemoryError):
            raise
        if info.kind == "cuda":
            raise OutOfMemory(_host(progress, error)) from error
        raise OutOfMemory(_advice(settings, sizes, info, progress, error)) from error


def _advice(
    settings: RunSettings,
    sizes: Batch,
    info: DeviceInfo,
    progress: Progress,
    error: BaseException,
) -> str:
    estimate = memory_estimate(settings, sizes.micro) / 2**30
    smaller = max(sizes.micro // 2, 1)
    again = (
        f"CONFIG_BATCH_SIZE={smaller} with CONFIG_EFFECTIVE_BATCH={sizes.effective} "
        "trains the same batch in smaller pieces"
        if sizes.micro > 1
        else "one sequence at a time is the least there is: a shorter "
        "CONFIG_GPT2_BLOCK_SIZE, a smaller model or a larger GPU"
    )
    return (
        f"out of memory after step {progress.step} with micro-batches of "
        f"{sizes.micro}: `make check` estimates {estimate:.1f} GiB, {info.name} has "
        f"{info.total_memory / 2**30:.1f} GiB, other processes on it included; "
        f"nothing was changed. {again}. ({_first(error)})"
    )


def _host(progress: Progress, error: BaseException) -> str:
    return (
        f"the host, not the GPU, is out of memory after step {progress.step}: lower "
        f"CONFIG_JOBS, or end what else runs there. ({_first(error)})"
    )


def _first(error: BaseException) -> str:
    return str(error).partition("\n")[0]
