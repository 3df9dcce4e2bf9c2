#!/usr/bin/env python3
"""Commit messages: `file.py: what changed`, at most 70 columns, no trailers.

check_commit_messages.py [RANGE]      the whole history by default
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402

COLUMNS = 70
SUBJECT = re.compile(r"[\w./+-]+(, [\w./+-]+)*: \S.*")
TRAILER = re.compile(r"(Signed-off-by|Co-authored-by|Generated-by|Change-Id):", re.I)


def complaints(message: str) -> list[str]:
    """What is wrong with a message."""
    lines = message.rstrip("\n").split("\n")
    found = []
    if not SUBJECT.fullmatch(lines[0]):
        found.append(f"subject is not 'file: what changed': {lines[0]!r}")
    if len(lines) > 1 and lines[1]:
        found.append("the second line is not blank")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            found.append(f"line {number} has {len(line)} columns, at most {COLUMNS}")
        if TRAILER.match(line):
            found.append(f"trailer: {line!r}")
    return found


def main(arguments: list[str]) -> int:
    """0 when every message is as it should be."""
    parser = Parser(__doc__)
    parser.add_argument("range", nargs="?", help="HEAD~3..HEAD (the whole history)")
    given = parser.parse_args(arguments).range
    command = ["git", "log", "-z", "--no-merges", "--format=%h%x01%B"]
    command += [given] if given else []
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        return 1
    wrong = 0
    for entry in filter(None, done.stdout.split("\0")):
        commit, _, message = entry.partition("\x01")
        for complaint in complaints(message):
            print(f"{commit}: {complaint}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    entry.run(main)
