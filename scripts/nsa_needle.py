#!/usr/bin/env python3
"""How often native sparse attention chooses the block that a query asks for.

nsa_needle.py [--tokens 4096,16384,65536] [--trials 400] [--device cuda] [--seed 0]
    [--l 32] [--d 16] [--b 64] [--n 16] [--width 64] [--place middle]

Random keys, mean φ, one query that repeats a key of the row (gpt2/measure/needle.py).
"""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, whole  # noqa: E402

SIZES = {"l": 32, "d": 16, "b": 64, "n": 16}


def main(arguments: list[str]) -> int:
    """0; a line per needle, a column per length."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--tokens", default="4096,16384,65536", help="lengths of a row (%(default)s)")
    add("--trials", type=whole(1), default=400, help="rows of each (%(default)s)")
    add("--device", type=one_of(("auto", "cpu", "cuda")), default="auto")
    add("--seed", type=whole(0), default=0, help="of the draws (%(default)s)")
    add("--place", type=one_of(("anywhere", "middle")), default="anywhere")
    add("--width", type=whole(1), default=64, help="of a head (%(default)s)")
    for name, default in SIZES.items():
        add(f"--{name}", type=whole(1), default=default, help="(%(default)s)")
    options = parser.parse_args(arguments)
    from kconf.bind import SettingsError, ranges

    with entry.refusing(SettingsError):
        lengths = ranges("--tokens", options.tokens)
    with entry.importing():
        from gpt2.measure.needle import NEEDLES, Blocks, measure
        from gpt2.training import device
    with entry.refusing(device.DeviceError, ValueError):
        kind = device.resolve(options.device, partial(print, file=sys.stderr))
        blocks = Blocks(**{name: vars(options)[name] for name in SIZES})
    drawn = {"seed": options.seed, "device": kind, "blocks": blocks}
    drawn |= {"width": options.width, "place": options.place}
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
    entry.run(main)
