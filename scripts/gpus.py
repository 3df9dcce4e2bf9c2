"""`make gpus`: this machine's GPUs in groups that never cross a NUMA node."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from matrix.fleet.machine import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(ROOT, sys.executable))
