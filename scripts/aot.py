#!/usr/bin/env python3
"""`make aot`: every kernel for every target, without a GPU. Fails on spills and on shared
memory that is not there. Of attention those that may need more than their neighbours.
"""

import os
import sys
import time
from concurrent.futures import Future
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, whole  # noqa: E402


def binaries(targets: tuple[str, ...], full: bool) -> list:
    """The cases of these targets, once for those whose source and options agree."""
    with entry.importing("kernels"):
        from kernels.aot_cases import others
        from kernels.attention.aot import cases as attention
        from kernels.decode.aot import cases as decoding
        from kernels.recurrence.aot import cases as recurrence
    found, both = {}, (attention(targets, full), recurrence(targets, full))
    for case in chain(*both, decoding(targets), others(targets)):
        key = case.target, case.source().hash(), *sorted(case.options.items())
        found.setdefault(key, case)
    return list(found.values())


def compiled(case, future: Future):
    """What a case takes; an error of the compiler says of which."""
    try:
        return future.result()
    except Exception as error:
        error.add_note(f"while compiling {case.name}, {case.choice}")
        raise


def line(case, found) -> str:
    """A case and what it takes."""
    fits = "" if found.fits(case.target) else "  does not fit"
    numbers = f"{found.registers:4} {found.spills:4} {found.shared:6}{fits}"
    return f"{case.name:64} {case.choice:>24} {numbers}"


def main(arguments: list[str]) -> int:
    """Print a line per configuration; 1 when one does not fit its target."""
    cores, parser = len(os.sched_getaffinity(0)), Parser(__doc__)
    parser.add_argument("--targets", default="", help="of kernels/targets.py (all)")
    parser.add_argument("--jobs", type=whole(1), default=cores, help="(%(default)s)")
    parser.add_argument("--full", action="store_true", help="all variants: an hour")
    given = parser.parse_args(arguments)
    with entry.importing():
        from kernels.aot import cost
        from kernels.targets import TARGETS
    targets = tuple(given.targets.split()) or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"TARGETS={min(unknown)}: must be some of {' '.join(TARGETS)}")
    cases, bad, began = binaries(targets, given.full), [], time.monotonic()
    print(f"{len(cases)} binaries, {given.jobs} processes: registers, spills, shared")
    with entry.pool(given.jobs) as pool:
        with entry.shielded():
            costs = [pool.submit(cost, case) for case in cases]
        for number, (case, future) in enumerate(zip(cases, costs), 1):
            found = compiled(case, future)
            print(f"{number:4}/{len(cases)} {line(case, found)}", flush=True)
            if not found.fits(case.target):
                bad.append(line(case, found))
    fit, seconds = len(cases) - len(bad), time.monotonic() - began
    last = f"{fit} of {len(cases)} binaries fit their target; {seconds:.0f} s"
    print("", *bad, last, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    entry.run(main)
