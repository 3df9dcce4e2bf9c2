"""Hyperparameters, fairness and metrics of runs side by side.

compare_wandb_runs.py --study STUDY --run-name 00-baseline-s1 08-mla-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Compare the runs that are named."""
    from matrix.published.cli import answer, parser
    from matrix.published.queries import compare

    options = parser(__doc__)
    options.add_argument(
        "--metric", nargs="+", default=[], help="which ones (the totals of the runs)"
    )
    given = options.parse_args(arguments)
    return answer(lambda runs, given: compare(runs, given.metric), given)


if __name__ == "__main__":
    entry.run(main)
