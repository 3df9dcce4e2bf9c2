"""Folders of steps, defconfigs/NAME.d, that have no part in what is loaded."""

from pathlib import Path
from typing import Mapping

from kconf.config_py import Value
from kconf.files import shown
from kconf.presets import presets
from kconf.study import study_dir
from kconf.syntax import ConfigError, assignments

_Base = tuple[str | None, bool]
"""The study that a defconfig names, and whether it is an ablation."""
MODE, STUDY = "RA_MLA_ABLATION_MODE", "STUDY"


def unused_steps(root: Path, values: Mapping[str, Value]) -> list[str]:
    """A line for the loaded study's folder where its mode takes no steps, and for each
    that is the folder of no ablation, with what would use it.
    """
    if STUDY not in values:  # a tree without studies
        return []
    studies = _studies(root)
    used = {study for study, ablation in studies.values() if ablation}
    lines, own = [], study_dir(root, values[STUDY])
    if values[MODE]:
        used.add(values[STUDY])
    elif own.is_dir():
        lines.append(
            f"{shown(own)} is not used: this is no ablation (CONFIG_{MODE}=y is one)"
        )
    for folder in sorted((root / "defconfigs").glob("[!.]*.d")):
        name = folder.name.removesuffix(".d")
        if not folder.is_dir() or name in used or folder == own:
            continue
        lines.append(f"{shown(folder)} is not used: {_why(root, name, studies)}")
    return lines


def _why(root: Path, name: str, studies: Mapping[str, _Base]) -> str:
    """What keeps defconfigs/NAME from its folder of steps."""
    path = root / "defconfigs" / name
    if name not in studies:
        return f"there is no {shown(path)}"
    study, ablation = studies[name]
    if not ablation:
        return f"{shown(path)} has no CONFIG_{MODE}=y"
    return f'{shown(path)} says CONFIG_{STUDY}="{study}", not "{name}"'


def _studies(root: Path) -> dict[str, _Base]:
    """Per defconfig the study that it names, and whether it is an ablation; without
    those that cannot be read, which their own targets refuse.
    """
    found = {}
    for name, path in presets(root)[0].items():
        try:
            given = assignments(path)
        except ConfigError:
            continue
        study = given.get(STUDY)
        found[name] = (study and study.strip('"'), given.get(MODE) == "y")
    return found
