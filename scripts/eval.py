#!/usr/bin/env python3
"""Evaluate finished runs on held-out text and tasks (`make eval`, docs/evaluation.md)."""

import argparse
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.evaluation import command  # noqa: E402
from gpt2.training.device import resolve  # noqa: E402
from records import private  # noqa: E402


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, help="a run directory: OUTPUT/STUDY/STEP/seed-K/HASH8")
    add("--study", type=Path, help="a study: every finished run below OUTPUT/STUDY")
    add("--text", type=Path, help="a file of held-out text")
    add("--tasks", default="", help="tasks, separated by commas: names or YAML files")
    add("--stride", type=int, help="tokens that a window of the text moves by")
    add("--limit", type=int, help="documents of each task, the first ones")
    add("--shots", type=int, help="examples before a question")
    add("--seed", type=int, default=1, help="of examples and draws (%(default)s)")
    add("--batch", type=int, default=8, help="windows to a forward pass (%(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    options.tasks = tuple(name.strip() for name in options.tasks.split(",") if name)
    if bool(options.run) == bool(options.study):
        parser.error("one of RUN=… and STUDY=… is needed")
    if not (options.text or options.tasks):
        parser.error("nothing to evaluate on: TEXT=file, TASKS=a,b or both")
    if options.stride is not None and not options.text:
        parser.error("STRIDE belongs to TEXT=file")
    if not options.tasks and (options.limit, options.shots) != (None, None):
        parser.error("LIMIT and SHOTS belong to TASKS=a,b")
    for name, least in (("batch", 1), ("limit", 1), ("shots", 0), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}")
    return options


def main(arguments: list[str]) -> int:
    """0; 1 where a run, a text or a task cannot serve; 130 when interrupted."""
    options = parse(arguments)
    try:
        wanted = command.Wanted(
            options.text,
            options.tasks,
            options.stride,
            options.batch,
            options.limit,
            options.shots,
            options.seed,
            resolve(options.device, partial(print, file=sys.stderr)),
        )
        if options.run:
            return command.evaluate_run(wanted, options.run)
        return command.evaluate_study(wanted, options.study)
    except command.EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(private.claim() or main(sys.argv[1:]))
