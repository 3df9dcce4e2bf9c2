"""Two runs or two studies side by side: compare_runs.py A B [--last-evals K].

Exit status 1 when one of them cannot be read or they are not of a kind.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, whole  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print the comparison."""
    parser = Parser(__doc__)
    parser.add_argument("a", type=Path, help="a run (…/seed-K/HASH8) or a study")
    parser.add_argument("b", type=Path, help="another of the same kind")
    parser.add_argument("--last-evals", type=whole(1), default=1, metavar="K")
    given = parser.parse_args(arguments)
    from matrix.report.compare import compare
    from matrix.results.run import ReportError

    try:
        print(compare(given.a, given.b, given.last_evals), end="")
    except ReportError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    entry.run(main)
