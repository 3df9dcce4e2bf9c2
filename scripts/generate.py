#!/usr/bin/env python3
"""Sample text from a run or an export through the KV cache (`make generate`); why it
ends, and tokens/s, go to stderr."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from gpt2.export.bundle import ExportError  # noqa: E402
from gpt2.export.read import load  # noqa: E402
from gpt2.generation import generate as generation  # noqa: E402
from gpt2.generation.sampling import Sampling  # noqa: E402
from gpt2.generation.text_stream import parse_stops  # noqa: E402
from gpt2.training import checkpoint, device  # noqa: E402
from kconf.syntax import ConfigError  # noqa: E402
from records import layout, private  # noqa: E402

# What a user can cause and mend: reported without a traceback.
EXPECTED = (checkpoint.CheckpointError, ConfigError, layout.RecordError)
EXPECTED += (generation.GenerateError, ExportError, device.DeviceError, ArithmeticError)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run directory, or what make export wrote")
    add("--prompt", default="", help="text to continue; empty: begin a document")
    add("--tokens", type=int, default=200, help="new tokens at most (%(default)s)")
    add("--temperature", type=float, default=1.0, help="0: greedy (%(default)s)")
    add("--top-k", type=int, default=0, help="keep the K most probable; 0: all")
    add("--top-p", type=float, default=1.0, help="keep the mass P (nucleus); 1: all")
    add("--min-p", type=float, default=0.0, help="keep p >= P x the largest; 0: all")
    add("--seed", type=int, default=1, help="of the draws (%(default)s)")
    add("--stop", default="", help=r"end before any of these: 'END|\n\n'")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--decode", choices=("auto", "reference", "triton"), default="auto")
    options = parser.parse_args(arguments)
    if options.tokens < 1 or options.seed < 0:
        parser.error("--tokens must be at least 1, --seed at least 0")
    try:
        filters = (options.temperature, options.top_k, options.top_p, options.min_p)
        options.sampling = Sampling(*filters)
        options.stops = parse_stops(options.stop)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: list[str]) -> int:
    """0; 1 for a run or a prompt that cannot serve; 130 when interrupted, 141 when cut off."""
    options = parse(arguments)
    sys.stdout.reconfigure(encoding="utf-8")
    what = (options.prompt, options.tokens, options.sampling)
    request = generation.Request(*what, options.seed, options.stops)
    show, tell = partial(print, end="", flush=True), partial(print, file=sys.stderr)
    try:
        kind = device.resolve(options.device, tell)
        trained = load(options.run, kind, options.decode)
        done = generation.generate(trained, request, show)
        print(flush=True)
        tell(f"{len(done.tokens)} tokens: {done.ended}")
        tell(*generation.speed(trained, done), sep="\n")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(private.claim() or main(sys.argv[1:]))
