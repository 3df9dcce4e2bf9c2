#!/usr/bin/env python3
"""Sample text from a run or an export (`make generate`); its end and speed: stderr."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, real, whole  # noqa: E402


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    from gpt2.generation.text_stream import parse_stops

    parser = Parser(__doc__)
    add, positive = parser.add_argument, real("at least 0", lambda x: x >= 0)
    share = real("above 0, at most 1", lambda x: 0 < x <= 1)
    part = real("from 0 to 1", lambda x: 0 <= x <= 1)
    add("run", help="a run's path or name, or what make export wrote")
    add("--prompt", default="", help="text to continue; empty: begin a document")
    add("--tokens", type=whole(1), default=200, help="new ones at most (%(default)s)")
    add("--temperature", type=positive, default=1.0, help="0: greedy (%(default)s)")
    add("--top-k", type=whole(0), default=0, help="keep the K most probable; 0: all")
    add("--top-p", type=share, default=1.0, help="keep the mass P (nucleus); 1: all")
    add("--min-p", type=part, default=0.0, help="keep p >= P x the largest; 0: all")
    add("--seed", type=whole(0), default=1, help="of the draws (%(default)s)")
    add("--stop", default="", help=r"end before any of these: 'END|\n\n'")
    add("--device", type=one_of(("auto", "cpu", "cuda")), default="auto")
    add("--decode", type=one_of(("auto", "reference", "triton")), default="auto")
    options = parser.parse_args(arguments)
    try:
        options.stops = parse_stops(options.stop)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: list[str]) -> int:
    """0; 1 for a run or a prompt that cannot serve."""
    options = parse(arguments)
    from matrix.plan import loaded

    with entry.refusing(*loaded.REFUSED):
        run = loaded.run(ROOT, os.environ, options.run)
    print(f"run: {run}", file=sys.stderr)
    with entry.importing():
        from gpt2.export.bundle import ExportError
        from gpt2.export.read import load
        from gpt2.generation import generate
        from gpt2.generation.sampling import Sampling
        from gpt2.training import checkpoint, device
    expected = (checkpoint.CheckpointError, generate.GenerateError, ExportError)
    expected += (device.DeviceError, ArithmeticError, *loaded.REFUSED)
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    show, tell = partial(print, end="", flush=True), partial(print, file=sys.stderr)
    filters = options.temperature, options.top_k, options.top_p, options.min_p
    what = options.prompt, options.tokens, Sampling(*filters), options.seed
    request = generate.Request(*what, options.stops)
    with entry.refusing(*expected):
        trained = load(run, device.resolve(options.device, tell), options.decode)
        try:
            done = generate.generate(trained, request, show)
        except KeyboardInterrupt:
            print(flush=True)  # what is said of it has a line of its own
            raise
    print(flush=True)
    tell(*generate.summary(trained, done), sep="\n")
    return 0


if __name__ == "__main__":
    entry.run(main)
