"""Train one cell, or check a study without training.

train_ra_mla.py --run-dir DIR --data-dir DIR      what the runner starts
train_ra_mla.py --dry-run [--ra-mla-ablation-step N]
train_ra_mla.py --ra-mla-ablation-step N          plan and train that step
train_ra_mla.py --facts CONFIG_PY ...             costs, one JSON line each
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from gpt2.settings import pruning_names
from records import entry
from records.arguments import Parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, where it trains no cell."""
    parser = Parser(__doc__, {"--ra-mla-ablation-step": "STEP"})
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
    if options.run_dir is not None or options.data_dir is not None:
        parser.error("--run-dir and --data-dir go together, and with nothing else")
    if (options.all or options.json) and not options.dry_run:
        parser.error("--all and --json belong to --dry-run")
    if not arguments:
        parser.error("nothing to do: see --help")
    return options


def overrides(options: argparse.Namespace) -> dict[str, str]:
    """The flags as one-shot overrides, in the form the environment has."""
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


def main(arguments: list[str], root: Path, began: float) -> NoReturn:
    """End with the status, 0 or 1. root: the checkout; began: when the process did."""
    entry.run(lambda _: perform(arguments, root, began))


def perform(arguments: list[str], root: Path, began: float) -> int:
    """The exit status, 0 or 1."""
    options = parse(arguments)
    if options.facts:
        with entry.importing():
            from gpt2.training.config_costs import print_costs

        return print_costs(options.facts)
    os.environ.update(overrides(options))
    if options.dry_run:
        with entry.importing():
            from gpt2.check.run import check

        step = options.ra_mla_ablation_step
        return check(root, step, options.all, options.json, began)
    if options.ra_mla_ablation_step is not None:
        os.environ["STEPS"] = options.ra_mla_ablation_step
    runner = root / "scripts" / "run_test_matrix.py"
    os.execv(sys.executable, [sys.executable, str(runner)])
