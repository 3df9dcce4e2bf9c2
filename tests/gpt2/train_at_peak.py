"""python train_at_peak.py FLOPS DATA_DIR RUN_DIR

One cell, by as many ranks as start this, on devices of this peak rate each.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from gpt2.distributed.ranks import (  # noqa: E402
    from_environment,
    interface,
    joined,
)
from gpt2.training import device  # noqa: E402
from gpt2.training.cell import execute  # noqa: E402


def main(peak: float, data_dir: Path, run_dir: Path) -> int:
    """The status of the cell."""
    describe = device.describe
    device.describe = lambda kind: replace(describe(kind), peak_flops=peak)
    ranks = from_environment(os.environ)
    os.environ.update(interface(os.environ))
    with joined(ranks, "cpu", 300) as ranks:
        return execute(run_dir, data_dir, ranks)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
