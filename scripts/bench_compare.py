#!/usr/bin/env python3
"""`make bench-compare`: a record of `make bench` against an earlier one of its GPU.

bench_compare.py [--a BEFORE.json] [--b AFTER.json] [--folder results/bench]

Without --b the last record; without --a the last one before it of the same GPU that
shares a row. Compares ratios to the anchor and peak memory; 1 on a regression.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def main(arguments: list[str]) -> int:
    """0; 1 where something became worse beyond the noise; 2 without two records."""
    parser = Parser(__doc__)
    parser.add_argument("--a", type=Path)
    parser.add_argument("--b", type=Path)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "bench")
    options = parser.parse_args(arguments)
    from gpt2.measure import compare
    from gpt2.measure.record import load
    from gpt2.measure.table import unfinished
    from records.layout import RecordError

    try:
        paths = compare.pick(options.folder, options.a, options.b)
        before, after = (load(path) for path in paths)
        if before["device"]["name"] != after["device"]["name"]:
            names = " and ".join(x["device"]["name"] for x in (before, after))
            raise RecordError(paths[0], f"two GPUs, {names}: ratios do not compare")
        found = compare.changes(before, after)
    except (RecordError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, content in zip(paths, (before, after)):
        partial = unfinished(content)
        print(f"{path}{', partial: ' + ', '.join(partial) if partial else ''}")
    if not found:
        print("the two share no row that can be compared")
        return 2
    print(compare.table(found))
    worse = [change for change in found if change.mark == "worse"]
    print(f"{len(worse)} of {len(found)} worse beyond the noise")
    return 1 if worse else 0


if __name__ == "__main__":
    entry.run(main)
