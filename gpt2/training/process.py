"""The process that trains a cell: what is set before torch is imported."""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def train(run_dir: Path, data_dir: Path) -> int:
    """One cell; caches, allocator and threads are set before torch is imported."""
    from gpt2.settings.run import run_settings
    from gpt2.training import stack_dump
    from kconf import config_py
    from kconf.bind import SettingsError
    from kconf.syntax import ConfigError
    from records import private

    try:
        stack_dump.on_request(run_dir / "stacks.txt")
        settings = run_settings(config_py.read(run_dir / "config.py").values)
    except (OSError, ConfigError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    private.claim()
    as_rank()
    system = settings.system
    if system.expandable_segments:
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    from gpt2.distributed.ranks import RanksError, from_environment, interface, joined
    from gpt2.training.cell import execute

    try:
        ranks = from_environment(os.environ)
        os.environ.update(interface(os.environ))
        patience = system.rank_timeout
        with joined(ranks, system.device, patience) as ranks:
            return execute(run_dir.resolve(), data_dir.resolve(), ranks, settings)
    except RanksError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def as_rank() -> None:
    """What holds for one of several ranks, if torchrun started this process.

    Ranks compile the same kernels at once: each in a cache of its own. A rank does
    not outlive a torchrun that is killed: it is asked to stop, as by a signal.
    """
    from records.private import CACHES

    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for name in CACHES:
        if name in os.environ:
            os.environ[name] = str(Path(os.environ[name]) / f"rank-{rank}")
