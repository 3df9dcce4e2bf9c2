#!/usr/bin/env python3
"""Every shipped configuration of attention, routing and recurrence on this machine's GPU against
float64, in parallel, and how much of its budget the worst of each kind takes.
`make gpu-test` tests the same and more, case by case, always with the same inputs;
here they are new ones every time. `rows`: only those of statistics, packed documents
and routing; `recurrence`: only that; `fla`: flash-linear-attention's instead of ours.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, whole  # noqa: E402

# One process per core compiles; each holds a CUDA context.
PROCESSES = min(16, len(os.sched_getaffinity(0)))
WHICH = ("all", "rows", "recurrence", "fla")


def checked(which: str, seed: int) -> Iterator[tuple]:
    """Every case with its errors, in order."""
    with entry.importing():
        from gpt2.training.device import DeviceError, resolve
        from kernels.attention import check
        from kernels.recurrence import check as recurrence
        from kernels.recurrence import peers
        from kernels.topk_routing import check as routing
    with entry.refusing(DeviceError):
        resolve("cuda")
    kinds = {
        "all": [(check, check.cases), (routing, routing.cases)],
        "rows": [(check, check.row_cases), (routing, routing.cases)],
        "recurrence": [(recurrence, recurrence.cases)],
        "fla": [(peers, peers.cases)],
    }
    kinds["all"] += kinds["recurrence"]
    cases = [(its, case) for its, made in kinds[which] for case in made()]
    with entry.pool(PROCESSES) as pool:
        with entry.shielded():
            found = [pool.submit(its.errors, case, "cuda", seed) for its, case in cases]
        for (_, case), future in zip(cases, found):
            yield case, future.result()


def main(arguments: list[str]) -> int:
    """Print what lies outside its budget and the worst of the rest; 1 on failure."""
    parser = Parser(__doc__)
    parser.add_argument("which", nargs="?", default="all", type=one_of(WHICH))
    parser.add_argument("--seed", type=whole(0), help="of an earlier run, to repeat it")
    given = parser.parse_args(arguments)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    worst, bad, count = {}, 0, 0
    for case, errors in checked(given.which, seed):
        count += 1
        for error in errors:
            if not error.ok:
                bad += 1
                print(f"{case}: {error}", flush=True)
            share = error.error / error.budget if error.budget else 0.0
            key = str(case.dtype), error.name
            worst[key] = max(worst.get(key, 0.0), share)
    print(f"{count} cases, {bad} results beyond their budget")
    for (dtype, name), share in sorted(worst.items()):
        print(f"{dtype:16} {name:7} at most {share:.2f} of the budget")
    return 1 if bad else 0


if __name__ == "__main__":
    entry.run(main)
