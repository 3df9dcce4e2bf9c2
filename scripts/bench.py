#!/usr/bin/env python3
"""`make bench`: our attention beside its peers, the training step of every step of a
study beside its FLOPs; results/bench/GPU-DATE.json and .md, row by row.

--set: for every contender; --also: the study's first step once more, with that.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, file, some_of, whole  # noqa: E402

COUNTS = "tokens", "rounds", "timed"


def _parsed(arguments: list[str]) -> argparse.Namespace:
    from gpt2.measure.table import PARTS
    from kconf.bind import SettingsError, ranges

    parser = Parser(__doc__)
    parser.add_argument("--part", type=some_of(PARTS), default=list(PARTS))
    parser.add_argument("--steps", default="0-99", help="of the study: 0,2,8-9")
    parser.add_argument("--contexts", default="", help="1024,2048")
    for name in COUNTS:
        parser.add_argument(f"--{name}", type=whole(1))
    parser.add_argument("--study", default="gpt2-ratio-ablation")
    parser.add_argument("--overlay", default="h200")
    for name in ("--set", "--also"):
        parser.add_argument(name, nargs="*", default=[], metavar="CONFIG_X=V")
    parser.add_argument("--nanogpt", type=file, help="its model.py")
    parser.add_argument("--resume", type=file, help="results/bench/NAME.json")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "bench")
    options = parser.parse_args(arguments)
    try:
        for name in ("steps", "contexts"):
            ranges(name.upper(), vars(options)[name] or "0")
    except SettingsError as error:
        parser.error(f"{error.symbol}={error.value}: {error.why}")
    return options


def main(arguments: list[str]) -> int:
    """0; every row on the terminal as it comes, and in the record."""
    options = _parsed(arguments)
    from kconf.bind import ranges
    from records.doing import doing

    with entry.importing():
        from gpt2.measure import parts
        from gpt2.measure.race import Race
        from gpt2.measure.table import markdown, shown
    contexts = ranges("CONTEXTS", options.contexts) if options.contexts else [None]
    counts = {name: count for name in COUNTS if (count := vars(options)[name])}
    race = Race(**counts, nanogpt=options.nanogpt)
    command = " ".join([Path(__file__).name, *arguments])
    with entry.refusing(*parts.REFUSED), doing("measuring") as activity:
        if "training" in options.part:
            parts.require_device(ROOT, options, contexts[0])
        record = parts.opened(ROOT, options)
        asked = options, contexts, race, record, command
        for part in options.part:
            for row in parts.measured(ROOT, part, *asked):
                activity.note(shown(row))
    print("", markdown(record.content), record.path, sep="\n")
    return 0


if __name__ == "__main__":
    entry.run(main)
