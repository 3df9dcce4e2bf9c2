"""Four 300-dpi pictures of what torch.compile changes, from compiled and eager runs.

    plot_torch_compile_impact.py --source local --study STUDY --out results/compile

Throughput, step time, GPU load, loss against time; everything comes from the runs.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Draw the runs that are named, or all of the study."""
    from matrix.published.cli import answer, parser

    options = parser(__doc__)
    options.add_argument(
        "--out", type=Path, default=Path("."), help="directory of the pictures (.)"
    )
    given = options.parse_args(arguments)
    with entry.importing("matplotlib"):
        from matrix.published.compileplots import plot
    return answer(lambda runs, given: plot(runs, given.out), given)


if __name__ == "__main__":
    entry.run(main)
