"""Two runs or two studies side by side: compare_runs.py A B [--last-evals K].

Exit status 1 when one of them cannot be read or they are not of a kind.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, whole  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print the comparison."""
    parser = Parser(__doc__)
    parser.add_argument("a", help="a study, STUDY/STEP, or a run (docs/operations.md)")
    parser.add_argument("b", help="another of the same kind")
    parser.add_argument("--last-evals", type=whole(1), default=1, metavar="K")
    given = parser.parse_args(arguments)
    from kconf.strict import ConfigError
    from matrix.plan import loaded
    from matrix.report.compare import compare
    from matrix.results.run import ReportError

    try:
        a = loaded.side(ROOT, os.environ, given.a, "A")
        b = loaded.side(ROOT, os.environ, given.b, "B")
        print(compare(a, b, given.last_evals), end="")
    except (ReportError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    entry.run(main)
