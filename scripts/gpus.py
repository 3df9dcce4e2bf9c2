"""`make gpus`: this machine's GPUs in groups that never cross a NUMA node."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print the groups; 1 for a mask that cannot be followed."""
    from matrix.fleet import machine

    return machine.main(ROOT, sys.executable)


if __name__ == "__main__":
    entry.run(main)
