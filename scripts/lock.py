"""Write requirements*.txt from the groups of pyproject.toml (`make lock`; needs uv).

Every package that a group brings, its version and the sha256 of all its files, for
every platform and every Python from 3.11 on. A group that includes `base` holds what
it adds to requirements.txt. torch comes from an index of one's choice, with other
files on each: requirements-torch.txt and requirements-slow.txt are written by hand.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402

BASE = "base"
COMPILE = "uv pip compile --quiet --universal --python-version=3.11 --generate-hashes"
COMPILE += " --no-header --no-annotate --no-emit-index-url --no-emit-find-links"
EXTRAS = re.compile(r"\[[^]]*\]")
HEAD = """\
# Written by `make lock` from the group "{}" of pyproject.toml: pinned, with hashes.
"""


def compiled(groups: list[str], *options: str) -> list[str]:
    """The blocks of these groups: a package, its version, where, and its hashes.

    pip takes NAME[EXTRA] for a package beside NAME, so both have a block.
    """
    command = [sys.executable, "-m", *COMPILE.split(), *options]
    command += [f"--group={ROOT / 'pyproject.toml'}:{group}" for group in groups]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        sys.exit("error: nothing was written")
    blocks = re.findall(r"^\S.*\n(?:\s.*\n)*", done.stdout, re.M)
    return sorted({*blocks, *(EXTRAS.sub("", block, count=1) for block in blocks)})


def main(arguments: list[str]) -> int:
    """Resolve all groups together, so that they agree, then each."""
    Parser(__doc__).parse_args(arguments)
    if importlib.util.find_spec("uv") is None:
        sys.exit(f"error: make lock needs uv: {sys.executable} -m pip install uv")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_bytes().decode())[
        "dependency-groups"
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as whole:
        whole.write("".join(compiled(list(groups), "--strip-extras")))
        whole.flush()
        held = f"--constraints={whole.name}"
        kept = {group: compiled([group], held, "--no-strip-extras") for group in groups}
    for group, wanted in groups.items():
        head, blocks = HEAD.format(group), kept[group]
        if {"include-group": BASE} in wanted:
            head += "-r requirements.txt\n"
            blocks = [block for block in blocks if block not in kept[BASE]]
        name = "requirements.txt" if group == BASE else f"requirements-{group}.txt"
        (ROOT / name).write_text(head + "".join(blocks), encoding="utf-8")
        print(f"{name}: {len(blocks)} packages")
    return 0


if __name__ == "__main__":
    entry.run(main)
