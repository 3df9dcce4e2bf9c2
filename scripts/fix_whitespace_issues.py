#!/usr/bin/env python3
"""Trailing blanks, CR and blank lines at the end, in every file git tracks.

With --check it names them and exits 1; without, it repairs them.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def tracked() -> list[Path]:
    """The text files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in names.split(b"\0") if name]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    return [path for path in files if b"\0" not in path.read_bytes()]


def repaired(text: str) -> str:
    """The text as it should be."""
    lines = [line.rstrip() for line in text.split("\n")]
    return "\n".join(lines).rstrip("\n") + "\n" if any(lines) else ""


def main(arguments: list[str]) -> int:
    """0 when there is nothing to repair, or it was repaired."""
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="repair nothing")
    check = parser.parse_args(arguments).check
    wrong = 0
    for path in tracked():
        text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
        wanted = repaired(text)
        if wanted == path.read_bytes().decode("utf-8"):
            continue
        wrong += 1
        name = path.relative_to(ROOT)
        pairs = zip(text.split("\n"), wanted.split("\n") + [""] * text.count("\n"))
        line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
        print(f"{name}:{line}: whitespace" + ("" if check else " repaired"))
        if not check:
            path.write_bytes(wanted.encode("utf-8"))
    return 1 if check and wrong else 0


if __name__ == "__main__":
    entry.run(main)
