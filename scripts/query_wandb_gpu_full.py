"""Power, temperature, clock, memory and load of every GPU, from the event stream.

query_wandb_gpu_full.py --entity TEAM --project kablate --run-name 00-baseline-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from matrix.published.cli import main  # noqa: E402
from matrix.published.queries import gpu_full  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(__doc__, lambda runs, given: gpu_full(runs)))
