#!/usr/bin/env python3
"""Train one cell, or check a study without training.

train_ra_mla.py --run-dir DIR --data-dir DIR      what the runner starts
train_ra_mla.py --dry-run [--ra-mla-ablation-step N]
train_ra_mla.py --ra-mla-ablation-step N          plan and train that step
train_ra_mla.py --facts CONFIG_PY ...             costs, one JSON line each
"""

import argparse
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
ROOT = Path(__file__).resolve().parent.parent
sys.path[: not sys.flags.safe_path] = [str(ROOT)]  # python -P sets no sys.path[0]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, help="a prepared run directory")
    parser.add_argument("--data-dir", type=Path, help="a packed corpus (dataset.json)")
    parser.add_argument("--facts", nargs="+", type=Path, metavar="CONFIG_PY")
    parser.add_argument("--dry-run", action="store_true", help="check, train nothing")
    parser.add_argument("--all", action="store_true", help="check every study")
    parser.add_argument("--json", action="store_true", help="the check as JSON")
    parser.add_argument("--ra-mla-ablation-step", metavar="N", help="steps: 2, 0,8-9 …")
    parser.add_argument("--optimizer", metavar="NAME", help="adamw, muon …")
    parser.add_argument("--pruning", metavar="NAME", help="magnitude, state:variance …")
    parser.add_argument("--dataset", metavar="NAME", help="stdlib, finewebedu, …")
    options = parser.parse_args(arguments)
    if (options.run_dir is None) != (options.data_dir is None):
        parser.error("--run-dir and --data-dir go together")
    if (options.all or options.json) and not options.dry_run:
        parser.error("--all and --json belong to --dry-run")
    if not arguments:
        parser.error("nothing to do: see --help")
    return options


def overrides(options: argparse.Namespace) -> dict[str, str]:
    """The flags as one-shot overrides, in the form the environment has."""
    from gpt2.settings import pruning_names

    flags = {"OPTIMIZER": options.optimizer, "DATASET": options.dataset}
    named = {kind: name.upper() for kind, name in flags.items() if name}
    for kind, name in named.items():
        if not name.isidentifier():
            raise SystemExit(f"--{kind.lower()} {name!r}: not a name")
    symbols = [f"{kind}_{name}" for kind, name in named.items()]
    if options.pruning:
        try:
            method = pruning_names.resolve(options.pruning)
        except ValueError as error:
            raise SystemExit(f"--pruning {error}") from None
        symbols += method.symbols
        if method.note:
            print(f"note: {method.note}")
    return {f"CONFIG_{symbol}": "y" for symbol in symbols}


def main(arguments: list[str]) -> int:
    """The exit status: 0 or 1; 75 and 128 + signal for a cell."""
    options = parse(arguments)
    if options.run_dir is not None:
        return train(options.run_dir, options.data_dir)
    if options.facts:
        from gpt2.check.facts import print_facts

        return print_facts(options.facts)
    os.environ.update(overrides(options))
    if options.dry_run:
        from records import private

        private.claim()
        from gpt2.check.run import check

        step = options.ra_mla_ablation_step
        return check(ROOT, step, options.all, options.json, BEGAN)
    if options.ra_mla_ablation_step is not None:
        os.environ["STEPS"] = options.ra_mla_ablation_step
    runner = ROOT / "scripts" / "run_test_matrix.py"
    os.execv(sys.executable, [sys.executable, str(runner)])


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
        values = config_py.read(run_dir / "config.py").values
        system = run_settings(values).system
    except (OSError, ConfigError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    private.claim()
    as_rank()
    if system.expandable_segments:
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    from gpt2.distributed.ranks import RanksError, from_environment, interface, joined
    from gpt2.training.cell import execute

    try:
        ranks = from_environment(os.environ)
        os.environ.update(interface(os.environ))
        patience = system.rank_timeout
        with joined(ranks, system.device, patience) as ranks:
            return execute(run_dir.resolve(), data_dir.resolve(), ranks)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
