#!/usr/bin/env python3
"""`make aot`: every attention kernel for every target, without a GPU. Fails on
spills and on shared memory that is not there. Takes target names to keep to.
"""

import sys
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from kernels.attention.aot import cost, routes, shipped  # noqa: E402
from kernels.attention.configs import TARGETS  # noqa: E402


def main() -> int:
    """Print a line per configuration; 1 when one does not fit its target."""
    targets = tuple(sys.argv[1:]) or TARGETS
    if unknown := set(targets) - set(TARGETS):
        sys.exit(f"unknown targets {sorted(unknown)}: {', '.join(TARGETS)}")
    bad = []
    print(f"{'configuration':54} {'tile':>24} registers spills shared")
    for case in chain(shipped(targets), routes(targets)):
        found, tile = cost(case), case.tile
        shape = f"{tile.m}x{tile.n} {tile.warps} warps {tile.stages} stages"
        fits = found.fits(case.target)
        print(
            f"{case.name:54} {shape:>24} {found.registers:9} {found.spills:6} "
            f"{found.shared:6}{'' if fits else '  does not fit'}",
            flush=True,
        )
        if not fits:
            bad.append(case.name)
    print(f"{len(bad)} configurations do not fit their target")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
