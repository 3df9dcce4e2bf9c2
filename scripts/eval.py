#!/usr/bin/env python3
"""Evaluate finished runs on held-out text and tasks (`make eval`, docs/evaluation.md)."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, whole  # noqa: E402


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--run", help="a run: its path or name (docs/operations.md)")
    add("--study", help="a study: every finished run of it")
    add("--text", type=Path, help="a file of held-out text")
    add("--tasks", default="", help="tasks, separated by commas: names or YAML files")
    add("--stride", type=whole(1), help="tokens that a window of the text moves by")
    add("--limit", type=whole(1), help="documents of each task, the first ones")
    add("--shots", type=whole(0), help="examples before a question")
    add("--seed", type=whole(0), default=1, help="of examples and draws (%(default)s)")
    add("--batch", type=whole(1), default=8, help="windows to a pass (%(default)s)")
    add("--device", type=one_of(("auto", "cpu", "cuda")), default="auto")
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
    return options


def main(arguments: list[str]) -> int:
    """0; 1 where a run, a text or a task cannot serve."""
    options = parse(arguments)
    from matrix.plan import loaded

    read = loaded.run if options.run else loaded.study
    with entry.refusing(*loaded.REFUSED):
        place = read(ROOT, os.environ, options.run or options.study)
    with entry.importing():
        from gpt2.evaluation import command
        from gpt2.training.device import resolve
    try:
        kind = resolve(options.device, partial(print, file=sys.stderr))
        what = options.text, options.tasks, options.stride, options.batch
        how = options.limit, options.shots, options.seed, kind
        wanted = command.Wanted(*what, *how)
        if options.run:
            return command.evaluate_run(wanted, place)
        return command.evaluate_study(wanted, place)
    except KeyboardInterrupt:
        if options.run:
            raise
        entry.say_stopped(entry.INTERRUPTED, "the same command")
        return entry.INTERRUPTED
    except command.EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    entry.run(main)
