#!/usr/bin/env python3
"""Step time of every optimizer and every mask update, against torch's fused AdamW.

bench_optimizers.py --device cuda --out results/bench/NAME.json
bench_optimizers.py --device cpu --set CONFIG_GPT2_SIZE_TINY=y
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of  # noqa: E402
from records.doing import doing  # noqa: E402


def main(arguments: list[str]) -> int:
    """Measure, print the tables, write the JSON."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--device", type=one_of(("auto", "cpu", "cuda")), default="auto"
    )
    parser.add_argument("--out", type=Path, help="where the numbers go")
    parser.add_argument("--set", nargs="*", default=[], metavar="CONFIG_X=value")
    options = parser.parse_args(arguments)
    from kconf.overrides import Overrides
    from kconf.strict import Tree
    from records import atomic

    with entry.importing():
        from gpt2.measure.optimizers import measure, table
        from gpt2.training.device import DeviceError
    tree = Tree(ROOT)
    pairs = (word.removeprefix("CONFIG_").split("=", 1) for word in options.set)
    base = Overrides(dict(pairs), "--set")

    def values(**symbols: str) -> dict:
        return tree.resolve([base, Overrides(symbols)]).values

    with entry.refusing(DeviceError), doing("measuring"):
        found = measure(values, options.device)
    print(f"{found['device']['name']}, torch {found['torch']}, {found['parameters']:,}")
    print(table(found))
    if options.out:
        atomic.write_json(options.out, found)
    return 0


if __name__ == "__main__":
    entry.run(main)
