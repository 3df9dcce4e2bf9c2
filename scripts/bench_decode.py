#!/usr/bin/env python3
"""Tokens/s of make generate for steps of a study: the reference against our kernels.

bench_decode.py --out results/bench/NAME.json [--steps 0,5,8,11] [--prompt 64]
    [--tokens 256] [--rounds 5] [--device cuda] [--set CONFIG_X=value …]
"""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, whole  # noqa: E402

STUDY = "gpt2-ratio-ablation"
COUNTS = {"prompt": 64, "tokens": 256, "rounds": 5}


def main(arguments: list[str]) -> int:
    """0; the table goes to the terminal and beside the record, which goes to --out."""
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    # The baseline, RA, MLA, and MLA with RA.
    parser.add_argument("--steps", default="0,5,8,11")
    for name, default in COUNTS.items():
        parser.add_argument(f"--{name}", type=whole(1), default=default)
    parser.add_argument(
        "--device", type=one_of(("auto", "cpu", "cuda")), default="auto"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="CONFIG_X=value")
    options = parser.parse_args(arguments)
    from gpt2.settings.run import run_settings
    from kconf.bind import ranges
    from kconf.overrides import Overrides
    from kconf.strict import Tree
    from kconf.study import list_steps, resolve_step
    from records import atomic

    with entry.importing():
        from gpt2.measure import decoding
        from gpt2.training import device
    pairs = (word.removeprefix("CONFIG_").split("=", 1) for word in options.set)
    tree, chosen = Tree(ROOT), Overrides(dict(pairs), "--set")
    numbers = ranges("STEPS", options.steps)
    wanted = []
    for step in list_steps(ROOT, STUDY):
        if step.number in numbers:
            stages = (ROOT / "defconfigs" / STUDY,)
            values = resolve_step(tree, stages, step, chosen).values
            wanted.append((step.id, run_settings(values).model))
    command = " ".join([Path(__file__).name, *arguments])
    counts = options.prompt, options.tokens, options.rounds
    show = partial(print, file=sys.stderr, flush=True)
    with entry.refusing(device.DeviceError):
        kind = device.resolve(options.device, show)
    record = decoding.measure(wanted, kind, *counts, command, show)
    atomic.write_json(options.out, record)
    text = decoding.table(record)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    entry.run(main)
