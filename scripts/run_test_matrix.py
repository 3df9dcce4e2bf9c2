"""Plan, run, report and judge the configuration: run_test_matrix.py COMMAND.

DRY_RUN=1 or --dry-run prints the plan, checks every step and trains nothing.
The one-shot overrides (MAX_ITERS=100, SEEDS=1-3, …) come from the environment.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """The exit status of matrix/run.py."""
    from gpt2.settings.run import run_settings
    from matrix import run

    return run.main(arguments, os.environ, ROOT, sys.executable, run_settings)


if __name__ == "__main__":
    entry.run(main)
