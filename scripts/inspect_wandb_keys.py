"""Every name that a run logged: history, configuration, machine's samples.

inspect_wandb_keys.py --source local --study STUDY --run-name 00-baseline-s1
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Ask it of the runs that are named."""
    from matrix.published import cli
    from matrix.published.queries import keys

    return cli.main(__doc__, lambda runs, given: keys(runs), arguments)


if __name__ == "__main__":
    entry.run(main)
