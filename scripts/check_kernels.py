#!/usr/bin/env python3
"""The fused attention on this machine's GPU: `bench_attention.py OUT` measures it
beside cuDNN, flash, FlexAttention and plain torch and writes OUT.json and OUT.md;
`--check` compares every shipped configuration with float64 instead, `--check rows`
only those of statistics, packed documents and routing.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

import torch  # noqa: E402

from kernels.attention import bench, check  # noqa: E402
from kernels.topk_routing import check as routing  # noqa: E402

# One process per core compiles; each holds a CUDA context.
PROCESSES = min(16, len(os.sched_getaffinity(0)))


def checked(rows: bool) -> Iterator[tuple[check.Case, list[check.Error]]]:
    """Every case with its errors, in order; rows: only what knows of rows."""
    cases = [(check, case) for case in (check.row_cases if rows else check.cases)()]
    cases += [(routing, case) for case in routing.cases()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        found = [pool.submit(its.errors, case, "cuda") for its, case in cases]
        for (_, case), future in zip(cases, found):
            yield case, future.result()


def check_all(rows: bool) -> int:
    """Print what lies outside its budget and the worst of the rest; 1 on failure."""
    worst, bad, count = {}, 0, 0
    for case, errors in checked(rows):
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


def main() -> int:
    """Check or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, help="written with .json and .md")
    parser.add_argument("--check", nargs="?", const="all", choices=("all", "rows"))
    options = parser.parse_args()
    if options.check:
        return check_all(options.check == "rows")
    if options.out is None:
        parser.error("give a path to write to, or --check")
    figures = [figure for shape in bench.SHAPES for figure in bench.measure(shape)]
    device, rows = torch.cuda.get_device_name(), [f._asdict() for f in figures]
    record = {"device": device, "torch": torch.__version__, "unit": "ms fwd+bwd"}
    options.out.with_suffix(".json").write_text(json.dumps(record | {"figures": rows}))
    text = f"# Attention on {device}, torch {torch.__version__}, bf16\n\n"
    text += f"Median ms forward + backward · ratio to {bench.ANCHOR}.\n\n"
    options.out.with_suffix(".md").write_text(text + bench.table(figures) + "\n")
    print(bench.table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
