"""Run python on the words given and on those of ARGS: with_args.py -m pytest.

ARGS is split as a shell splits words, quotes and backslashes included, and nothing
in it is expanded or run: make test ARGS="-k 'one or two' -x".
"""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Become that python; 2 for an ARGS that cannot be split."""
    try:
        words = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        print(f"ARGS={os.environ['ARGS']}: {error}", file=sys.stderr)
        return 2
    os.execv(sys.executable, [sys.executable, *arguments, *words])


if __name__ == "__main__":
    entry.run(main)
