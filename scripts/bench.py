#!/usr/bin/env python3
"""`make bench`: our attention beside its peers, the training step of every step of a
study beside its FLOPs; results/bench/GPU-DATE.json and .md, row by row.

bench.py [--part attention,training] [--steps 0,2,8-9] [--contexts 1024,2048]
    [--tokens 65536] [--rounds 5] [--timed 10] [--study NAME] [--overlay h200]
    [--set CONFIG_X=value …] [--also CONFIG_X=value …] [--nanogpt path/to/model.py]
    [--resume results/bench/NAME.json] [--folder results/bench]

--set holds for every contender; --also adds the study's first step once more with
that symbol set. --resume adds what is missing to a record of this machine. A part
whose rows are all there does nothing.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.measure import parts  # noqa: E402
from gpt2.measure.race import Race  # noqa: E402
from gpt2.measure.record import Record  # noqa: E402
from gpt2.measure.table import PARTS, shown  # noqa: E402
from gpt2.training.device import DeviceError  # noqa: E402
from kconf.bind import ranges  # noqa: E402
from records import layout, private  # noqa: E402


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--steps", default="0-99")
    parser.add_argument("--contexts", default="")
    for name in ("tokens", "rounds", "timed"):
        default = getattr(Race, name)
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--study", default="gpt2-ratio-ablation")
    parser.add_argument("--overlay", default="h200")
    for name in ("set", "also"):
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar="CONFIG_X=V")
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "bench")
    options = parser.parse_args(arguments)
    options.part = options.part.split(",")
    if wrong := set(options.part) - set(PARTS):
        parser.error(f"--part {', '.join(sorted(wrong))}: {', '.join(PARTS)}")
    return options


def main(arguments: list[str]) -> int:
    """0; every row on the terminal as it comes, and in the record."""
    options = parsed(arguments)
    contexts = ranges("CONTEXTS", options.contexts) if options.contexts else [None]
    race = Race(options.tokens, options.rounds, options.timed, options.nanogpt)
    date = time.strftime("%Y-%m-%d")
    try:
        where = parts.machine_and_commit(ROOT)
        if options.resume:
            record = Record.resume(options.resume, where)
        else:
            record = Record.begin(options.folder, where, date)
    except (layout.RecordError, DeviceError) as error:
        sys.exit(f"error: {error}")
    command = " ".join([Path(__file__).name, *arguments])
    for part in options.part:
        for row in parts.measured(ROOT, part, options, contexts, race, record, command):
            print(shown(row), flush=True)
    print(f"\n{record.path.with_suffix('.md').read_text()}\n{record.path}")
    return 0


if __name__ == "__main__":
    sys.exit(private.claim() or main(sys.argv[1:]))
