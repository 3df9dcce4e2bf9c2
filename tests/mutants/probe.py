"""Prove steps in this process and print their verdicts as one JSON list.

python -m tests.mutants.probe '["gpt2-ratio-ablation", "0", {"RA": "y"}]'
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from gpt2.check.run import check_study
from gpt2.check.studies import from_defconfig
from kconf.overrides import Overrides
from kconf.strict import Tree


def main(name: str, steps: str, symbols: dict[str, str]) -> None:
    """Print [{step, promise, found, trace}, …]."""
    torch.set_num_threads(1)
    root = Path.cwd()
    study = from_defconfig(root, name).only(steps)
    verdicts = check_study(Tree(root), study, Overrides(symbols))
    print(json.dumps([asdict(verdict) for verdict in verdicts]))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
