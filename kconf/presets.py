"""The defconfigs and fragments of a tree, by name."""

import difflib
import itertools
from pathlib import Path

from kconf.files import shown
from kconf.study import list_steps, study_dir
from kconf.syntax import ConfigError, Finding


def presets(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The defconfigs and the fragments, by name."""
    folder = Path(root) / "defconfigs"
    bases = {
        path.name: path
        for path in sorted(folder.glob("[!.]*"))
        if path.is_file() and not path.name.endswith("~")
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
        close = difflib.get_close_matches(name, known, 1)
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
    """
    bases, fragments = presets(root)
    width = max(map(len, [*bases, *fragments]), default=0)
    for name, path in bases.items():
        steps = ""
        if study_dir(root, name).is_dir():
            steps = f" ({len(list_steps(root, name))} steps)"
        said = said_in(path)
        print(f"  {name:{width}}  {said['Help']}{steps}")
        for key in ("Takes", "Reaches"):
            if key in said:
                print(f"  {'':{width}}    {key.lower()}: {said[key]}")
    print("fragments, as in make defconfig-NAME+FRAGMENT:")
    for name, path in fragments.items():
        print(f"  {name:{width}}  {said_in(path)['Help']}")


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
