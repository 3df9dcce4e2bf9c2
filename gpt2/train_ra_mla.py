#!/usr/bin/env python3
"""Train one cell, or check a study without training.

train_ra_mla.py --run-dir DIR --data-dir DIR      what the runner starts
train_ra_mla.py --help                            everything else (gpt2/check/command_line.py)
"""

import argparse
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
ROOT = Path(__file__).resolve().parent.parent
sys.path[: not sys.flags.safe_path] = [str(ROOT)]  # python -P sets no sys.path[0]

# Of a run's identity (records/imports.py): what no run imports, and what starts its
# ranks (matrix/fleet/torchrun.py).
CHOSEN = {
    "gpt2.check.command_line": (),
    "gpt2.distributed.torchrun": ("GPUS_PER_RUN > 1",),
}


def main(arguments: list[str]) -> int:
    """The exit status: 0 or 1; 75 and 128 + signal for a cell."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    options, rest = parser.parse_known_args(arguments)
    if rest or options.run_dir is None or options.data_dir is None:
        from gpt2.check import command_line

        return command_line.main(arguments, ROOT, BEGAN)
    from gpt2.training.process import train

    return train(options.run_dir, options.data_dir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
