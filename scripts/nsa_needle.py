#!/usr/bin/env python3
"""How often native sparse attention chooses the block that a query asks for.

nsa_needle.py [--tokens 4096,16384,65536] [--trials 400] [--device cuda] [--seed 0]
    [--l 32] [--d 16] [--b 64] [--n 16] [--width 64] [--place middle]

Random keys, mean φ, one query that repeats a key of the row (gpt2/measure/needle.py).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.measure.needle import LENGTHS, NEEDLES, Blocks, measure  # noqa: E402
from gpt2.training import device  # noqa: E402
from records import private  # noqa: E402


def main(arguments: list[str]) -> int:
    """0; a line per needle, a column per length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", default=",".join(map(str, LENGTHS)))
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", choices=("anywhere", "middle"), default="anywhere")
    parser.add_argument("--width", type=int, default=64)
    for name, default in vars(Blocks()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    lengths = [int(word) for word in options.tokens.split(",")]
    blocks = Blocks(options.l, options.d, options.b, options.n)
    drawn = {"seed": options.seed, "device": device.resolve(options.device)}
    drawn |= {"blocks": blocks, "width": options.width, "place": options.place}
    print(f"{'found, % ± standard error':28}", *(f"{T:>12,}" for T in lengths))
    for name, needle in NEEDLES.items():
        print(f"{name:28}", end="")
        for T in lengths:
            found = measure(needle, T, options.trials, **drawn)
            print(f" {100 * found.share:6.1f} ± {100 * found.error:3.1f}", end="")
            sys.stdout.flush()
        print()
    return 0


if __name__ == "__main__":
    sys.exit(private.claim() or main(sys.argv[1:]))
