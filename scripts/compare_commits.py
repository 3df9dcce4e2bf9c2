#!/usr/bin/env python3
"""`make compare-commits`: whether two commits have the same networks, bit for bit.

compare_commits.py OLD NEW [--only PATTERN] [--expect-flops STUDY/STEP,…]

For each distinct network of OLD's studies: costs, initial values, state_dict, logits,
gradients, ten training steps. Status 1 where a figure differs, or FLOPs that
were declared to differ do not; 2 where the two cannot be compared. Some minutes.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def main(arguments: list[str]) -> int:
    """0, 1 or 2 as above."""
    parser = Parser(__doc__)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", help="another one")
    parser.add_argument("--expect-flops", default="", metavar="STUDY/STEP,…")
    parser.add_argument("--only", default="*", metavar="'STUDY/*'")
    options = parser.parse_args(arguments)
    from gpt2.measure.commit_comparison import ComparisonError, compare, table

    declared = tuple(name for name in options.expect_flops.split(",") if name)
    try:
        found = compare(
            ROOT,
            options.old,
            options.new,
            declared,
            options.only,
            os.environ,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    except ComparisonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if found:
        print(table(found))
    wrong = [one for one in found if not one.wanted]
    if wrong:
        networks = len({one.network for one in wrong})
        print(f"{len(wrong)} figures differ, in {networks} networks")
        return 1
    print("equal" + (", but for what was declared" if found else ""))
    return 0


if __name__ == "__main__":
    entry.run(main)
