"""Every name that a run logged: history, configuration, machine's samples.

inspect_wandb_keys.py --source local --study STUDY --run-name 00-baseline-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from matrix.published.cli import main  # noqa: E402
from matrix.published.queries import keys  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(__doc__, lambda runs, given: keys(runs)))
