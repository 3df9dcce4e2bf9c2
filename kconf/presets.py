"""The defconfigs and fragments of a tree, by name."""

import itertools
import os
import textwrap
from functools import partial
from pathlib import Path
from typing import Callable, TypeVar

from kconf.files import shown
from kconf.study import list_steps, study_dir
from kconf.syntax import ConfigError, Finding
from records.plurals import plural
from records.spelling import closest
from records.text_table import WIDTH

T, U = TypeVar("T"), TypeVar("U")


def presets(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The defconfigs and the fragments, by name."""
    folder = Path(root) / "defconfigs"
    bases = {
        path.name: path
        for path in sorted(folder.glob("[!.]*"))
        if path.is_file() and not path.name.endswith((".d", "~"))
    }
    overlays = sorted((folder / "fragments").glob("[!.]*.config"))
    return bases, {path.stem: path for path in overlays}


def preset_files(root: Path, base: str, overlays: list[str]) -> list[Path]:
    """The files of a defconfig and its overlays, in the order of the merge.

    Raises ConfigError, listing the names, for an unknown or repeated one.
    """
    bases, fragments = presets(root)
    found, findings = [], []
    wanted = [(base, bases, "defconfig")]
    wanted += [(name, fragments, "fragment") for name in overlays]
    for name, known, what in wanted:
        if name in known and known[name] not in found:
            found.append(known[name])
            continue
        close = closest(name, known)
        hint = f"did you mean {close[0]}? " if close else ""
        cause = f"no {what} {name!r}; {hint}known: {', '.join(known) or 'none'}"
        if name in known:
            cause = f"fragment {name!r} is named twice"
        findings.append(Finding(shown(root / "defconfigs"), 0, None, cause))
    if findings:
        raise ConfigError(findings)
    return found


def list_defconfigs(root: Path) -> None:
    """Print the defconfigs, the number of their steps, what each takes and reaches, and
    the fragments.

    One that cannot be read is listed as such and does not hide the others. Raises
    ConfigError with the findings of all of them, after the list.
    """
    bases, fragments = presets(root)
    width = max(map(len, [*bases, *fragments]), default=0)
    findings: list[Finding] = []
    for name, path in bases.items():
        said = _readable(said_in, path, findings) or {"Help": "cannot be read"}
        _print(name, width, f"{said['Help']}{_steps_in(root, name, findings)}")
        for key in ("Takes", "Reaches"):
            if key in said:
                _print("", width, f"  {key.lower()}: {said[key]}")
    print("fragments, as in make defconfig-NAME+FRAGMENT:")
    for name, path in fragments.items():
        said = _readable(said_in, path, findings) or {"Help": "cannot be read"}
        _print(name, width, said["Help"])
    if findings:
        raise ConfigError(findings)


def _print(name: str, width: int, text: str) -> None:
    """A name and a text in WIDTH columns; further lines of the text stand below it."""
    head = f"  {name:{width}}  "
    further = " " * (len(head) + len(text) - len(text.lstrip()) + 2)
    print(textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=further))


def _steps_in(root: Path, name: str, findings: list[Finding]) -> str:
    """How many steps a defconfig has, in words; "" for one that has none."""
    if not os.path.lexists(study_dir(root, name)):
        return ""
    steps = _readable(partial(list_steps, root), name, findings)
    if steps is None:
        return " (steps: refused)"
    return f" ({plural(len(steps), 'step')})"


def _readable(read: Callable[[T], U], what: T, findings: list[Finding]) -> U | None:
    """read(what); None, with the cause among the findings, where it is refused."""
    try:
        return read(what)
    except ConfigError as error:
        findings += error.findings
    except OSError as error:
        where = shown(Path(error.filename))
        findings.append(Finding(where, 0, None, error.strerror))
    return None


def said_in(path: Path) -> dict[str, str]:
    """The comments `# Help: …`, `# Takes: …` and `# Reaches: …` at the head of a file;
    Help is the first line where it has no keyword.
    """
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = {"Help": rows[0].removeprefix("#").strip()}
    for row in itertools.takewhile(lambda row: row.startswith("# "), rows):
        key, colon, text = row[2:].partition(": ")
        if colon and key in ("Help", "Takes", "Reaches"):
            found[key] = text
    return found
