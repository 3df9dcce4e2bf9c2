"""Power, temperature, clock, memory and load of every GPU, from the event stream.

query_wandb_gpu_full.py --entity TEAM --project kablate --run-name 00-baseline-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Ask it of the runs that are named."""
    from matrix.published import cli
    from matrix.published.queries import gpu_full

    return cli.main(__doc__, lambda runs, given: gpu_full(runs), arguments)


if __name__ == "__main__":
    entry.run(main)
