"""Triton's interpreter, in a process of its own: triton decides at its import."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest


@pytest.fixture(scope="session")
def interpret():
    """interpret(function, *arguments): the function's result, computed there."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, mp_context=spawn)
        pool.submit(os.getpid).result()  # the process exists before the patch ends
    with pool:
        yield lambda function, *given: pool.submit(function, *given).result()
