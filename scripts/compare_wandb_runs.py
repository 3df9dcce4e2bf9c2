"""Hyperparameters, fairness and metrics of runs side by side.

compare_wandb_runs.py --study STUDY --run-name 00-baseline-s1 08-mla-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from matrix.published.cli import answer, parser  # noqa: E402
from matrix.published.queries import compare  # noqa: E402


def main() -> int:
    """Compare the runs that are named."""
    options = parser(__doc__)
    options.add_argument(
        "--metric", nargs="+", default=[], help="which ones (the totals of the runs)"
    )
    return answer(lambda runs, given: compare(runs, given.metric), options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
