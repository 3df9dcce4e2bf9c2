"""What every test room uses: configurations made through the strict merge."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from gpt2.settings.run import RunSettings, run_settings
from kconf.overrides import Overrides
from kconf.strict import Tree

ROOT = Path(__file__).resolve().parent.parent

# A shell's background job ignores SIGINT, and every process that it starts would.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples for the same test, every time: what fails was broken by a change.
# New ones: make test ARGS=--hypothesis-profile=default.
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile("fixed")

# A network that trains in milliseconds.
SMALL = {
    "GPT2_SIZE_CUSTOM": "y",
    "GPT2_LAYERS": "2",
    "GPT2_WIDTH": "32",
    "GPT2_HEADS": "4",
    "MLP_DIM": "64",
    "GPT2_BLOCK_SIZE": "16",
    "GPT2_VOCAB_SIZE": "257",
    "BATCH_SIZE": "4",
    "LEARNING_RATE": "1e-2",
    "GPT2_MAX_ITERS": "20",
    "GPT2_WARMUP_STEPS": "2",
    "GPT2_EVAL_INTERVAL": "10",
    "GPT2_EVAL_WINDOWS": "8",
    "LOG_INTERVAL": "1",
    "TIMING_WARMUP_STEPS": "1",
    "CHECKPOINT_INTERVAL": "5",
    "DEVICE_CPU": "y",
}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> None:
    """The user's cache of all tests: code and compiled kernels are shared by them."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["XDG_CACHE_HOME"] = str(shared / "cache")


@pytest.fixture(scope="session")
def tree() -> Tree:
    """The project's Kconfig tree, parsed once."""
    return Tree(ROOT)


@pytest.fixture(scope="session")
def resolve(tree: Tree):
    """values = resolve({…}, MLP_DIM="64", …): the defaults with these, merged."""

    def merge(*stages: dict[str, str], **symbols: str) -> dict:
        merged = [Overrides(stage) for stage in (*stages, symbols)]
        return tree.resolve(merged).values

    return merge


@pytest.fixture(scope="session")
def small(resolve):
    """settings = small(MLA="y", …): a network that trains in milliseconds."""

    def make(**symbols: str) -> RunSettings:
        return run_settings(resolve(SMALL, **symbols))

    return make
