#!/usr/bin/env python3
"""`make aot`: every kernel for every target, without a GPU. Fails on spills and on
shared memory that is not there. Of attention's variants those that may need more than
their neighbours, with --full all.
"""

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from kernels.aot import Cost, cost  # noqa: E402
from kernels.aot_cases import others  # noqa: E402
from kernels.attention.aot import cases as attention  # noqa: E402
from kernels.decode.aot import cases as decoding  # noqa: E402
from kernels.targets import TARGETS  # noqa: E402

PROCESSES = int(os.environ.get("JOBS") or len(os.sched_getaffinity(0)))


def binaries(targets: tuple[str, ...], full: bool) -> list:
    """The cases of these targets, once for those whose source and options agree."""
    found, kinds = {}, (attention(targets, full), decoding(targets), others(targets))
    for case in chain.from_iterable(kinds):
        options = sorted(case.options.items())
        key = case.target, case.source().hash(), *options
        found.setdefault(key, case)
    return list(found.values())


def compiled(case, future: Future) -> Cost:
    """What a case takes; an error of the compiler says of which."""
    try:
        return future.result()
    except Exception as error:
        error.add_note(f"while compiling {case.name}, {case.choice}")
        raise


def line(case, found: Cost) -> str:
    """A case and what it takes."""
    numbers = f"{found.registers:4} {found.spills:4} {found.shared:6}"
    fits = "" if found.fits(case.target) else "  does not fit"
    return f"{case.name:64} {case.choice:>24} {numbers}{fits}"


def main() -> int:
    """Print a line per configuration; 1 when one does not fit its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default="", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--full", action="store_true", help="all variants: an hour")
    given = parser.parse_args()
    targets = tuple(given.targets.split()) or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"unknown targets {sorted(unknown)}: {', '.join(TARGETS)}")
    cases, bad, began = binaries(targets, given.full), [], time.monotonic()
    print(f"{len(cases)} binaries, {PROCESSES} processes: registers, spills, shared")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        costs = [pool.submit(cost, case) for case in cases]
        for number, (case, future) in enumerate(zip(cases, costs), 1):
            found = compiled(case, future)
            print(f"{number:4}/{len(cases)} {line(case, found)}", flush=True)
            if not found.fits(case.target):
                bad.append(line(case, found))
    fit, seconds = len(cases) - len(bad), time.monotonic() - began
    print("", *bad, sep="\n")
    print(f"{fit} of {len(cases)} binaries fit their target; {seconds:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
