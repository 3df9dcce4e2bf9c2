#!/usr/bin/env python3
"""Time the training steps of a study side by side, and of a peer if one is given.

bench_training.py --out FILE.json [--study NAME] [--overlay h200] [--steps 0,2,8-9]
    [--batch 64] [--set CONFIG_X=value …] [--also CONFIG_X=value …]
    [--rounds 5] [--timed 10] [--nanogpt path/to/model.py]

--set holds for every contender. --also adds the study's first step once more with
that symbol set. All contenders live in one process and take turns.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2 import bench  # noqa: E402
from gpt2.settings import run_settings  # noqa: E402
from kconf.bind import ranges  # noqa: E402
from kconf.overrides import Overrides  # noqa: E402
from kconf.strict import Tree  # noqa: E402
from kconf.study import list_steps, resolve_step  # noqa: E402

DEFAULTS = {"study": "gpt2-ratio-ablation", "overlay": "h200", "steps": "0"}
DEFAULTS |= {"batch": 64, "rounds": 5, "timed": 10}


def main(arguments: list[str]) -> int:
    """0; the table goes to the terminal, the record to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    for name in ("set", "also"):
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar="CONFIG_X=V")
    parser.add_argument("--nanogpt", type=Path)
    options = parser.parse_args(arguments)
    tree, folder = Tree(ROOT), ROOT / "defconfigs"
    stages = (
        folder / options.study,
        folder / "fragments" / f"{options.overlay}.config",
    )

    def settings(step, words):
        pairs = dict(word.removeprefix("CONFIG_").split("=", 1) for word in words)
        return run_settings(
            resolve_step(tree, stages, step, Overrides(pairs, "--set")).values
        )

    chosen = ranges("STEPS", options.steps)
    steps = [s for s in list_steps(ROOT, options.study) if s.number in chosen]
    wanted = [(s.id, settings(s, options.set)) for s in steps]
    for word in options.also:
        wanted.append(
            (f"{steps[0].id} {word}", settings(steps[0], [*options.set, word]))
        )
    command = " ".join([Path(__file__).name, *arguments])
    record = bench.compare(wanted, options, command)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    text = bench.markdown(record)
    options.out.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
