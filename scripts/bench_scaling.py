#!/usr/bin/env python3
"""DDP's scaling efficiency, and two groups of GPUs at once, through whole cells.

bench_scaling.py --out results/bench/NAME.json [--ranks 1,2,4] [--batch 64]
    [--steps 80] [--groups 2] [--limit 230] [--set CONFIG_X=value …]

--groups G: afterwards two cells of G GPUs each, alone and side by side; 0: none.
--limit: seconds after which everything is ended. The base is gpt2-ratio-ablation's
first step with the overlay h200; --set CONFIG_DEVICE_CPU=y runs on the CPU.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, real, whole  # noqa: E402

STAGES = ("gpt2-ratio-ablation", "fragments/h200.config")


def main(arguments: list[str]) -> int:
    """0; tables on the terminal and beside the record, which goes to --out."""
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--batch", type=whole(1), default=64)
    parser.add_argument("--steps", type=whole(1), default=80)
    parser.add_argument("--groups", type=whole(0), default=2)
    parser.add_argument("--limit", type=real("above 0", lambda x: x > 0), default=230)
    parser.add_argument("--set", nargs="*", default=[], metavar="CONFIG_X=value")
    options = parser.parse_args(arguments)
    from gpt2.measure import scaling
    from kconf.bind import ranges
    from kconf.overrides import Overrides
    from kconf.strict import Tree
    from records import atomic

    limit = time.monotonic() + options.limit
    pairs = (word.removeprefix("CONFIG_").split("=", 1) for word in options.set)
    tree, chosen = Tree(ROOT), Overrides(dict(pairs), "--set")
    stages = [ROOT / "defconfigs" / name for name in STAGES]

    def resolve(**symbols):
        return tree.resolve([*stages, Overrides(symbols), chosen])

    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        bench = scaling.Bench(
            resolve, tree.operational, Path(folder), environment, options.batch, limit
        )
        command = " ".join([Path(__file__).name, *arguments])
        try:
            ranks = ranges("--ranks", options.ranks)
            record = scaling.measure(
                bench, ranks, options.steps, options.groups, command
            )
        finally:
            bench.close()
    atomic.write_json(options.out, record)
    text = scaling.markdown(record)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    entry.run(main)
