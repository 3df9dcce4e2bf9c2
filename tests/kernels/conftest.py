"""Triton's interpreter, in a process of its own: triton decides at its import."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def shared_out():
    """The workers of pytest-xdist take the machine's GPUs in turn."""
    if torch.cuda.is_available():
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        torch.cuda.set_device(int(worker) % torch.cuda.device_count())


def in_order() -> None:
    """Products add up along k one by one, as a GPU's fp32 units do. The interpreter
    asks a BLAS, some of which give q k' and k q' in different roundings; at scores
    of 1e8 one rounding is 8, and e^8 is no error of the kernel.
    """
    from triton.runtime import interpreter

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        total = d.data.copy()
        for k in range(a.data.shape[-1]):
            left, right = a.data[..., k : k + 1], b.data[..., k : k + 1, :]
            total += left.astype(total.dtype) * right.astype(total.dtype)
        return interpreter.TensorHandle(total, d.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = create_dot


@pytest.fixture(scope="session")
def interpret():
    """interpret(function, *arguments): the function's result, computed there."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=in_order)
        pool.submit(os.getpid).result()  # the process exists before the patch ends
    with pool:
        yield lambda function, *given: pool.submit(function, *given).result()
