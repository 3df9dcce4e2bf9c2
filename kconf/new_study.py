"""`make new-study NAME=… FROM=…`: a study that loads and checks as it was written."""

import os
import re
from pathlib import Path
from typing import Sequence

from kconf import dotconfig
from kconf.files import shown
from kconf.strict import Resolved, Tree
from kconf.study import list_steps, prove, study_dir
from kconf.syntax import ConfigError, Finding, Line
from records import atomic
from records.text_table import aligned

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_RESERVED = ("fragments",)
_OF_A_STUDY = ("STUDY", "STUDY_OVERLAYS", "STUDY_PART", "BASELINE", "CONTROL_STEP")
_OF_A_STUDY += ("SINGLE_RUN_MODE", "RA_MLA_ABLATION_MODE", "TEST_MATRIX_MODE")
_OF_A_STUDY += ("RA_MLA_ABLATION_STEPS", "PROMOTE_NAMED")
"""Symbols of the study that another one is made from, beside MATRIX_*."""

BASELINE = """\
# Help: the base as it is, the control
# A step is a file NN-slug.config: the first line says what it is, every other line that
# is no comment is a difference from defconfigs/{name}. The control has none.
"""
EXAMPLE = """\
# Help: {what} biases
# An example to replace. "Help" is one sentence; plans and reports show it.
#
# Below stands the whole difference from the base, one line of Kconfig per change. make
# check refuses a line that changes nothing and a change that has no line. "make show
# STEP=1" prints the difference and what follows from it; "make menuconfig" has every
# symbol with its help (/ searches). The line here says that linear layers and norms have
# {no}biases; switching a symbol off is written as the comment that Kconfig writes.
#
# What the step claims can stand here as well, and make check then counts it anew:
# a line "# Expect: parameters=…" with the number that make check printed
# (docs/adding-a-step.md has the keys).
{line}
"""
WRITTEN = """\
{name}, made from {source}:
  {base}
      the base: {count} lines, what differs from Kconfig's defaults; make list-defconfigs
      prints the three comments that it begins with
  {folder}/00-baseline.config
      the control: no difference
  {folder}/{example}.config
      an example step, every line explained: replace it, and add a file per step
"""
NEXT = (
    ("load", "make defconfig-{name}", "then make menuconfig to look around"),
    (
        "check",
        "make show STEP=1, make check",
        "what a step changes; that it is that alone",
    ),
    ("data", "make data", "pack the corpus, once"),
    ("plan", "make plan", "every run, where it will lie, disk and time"),
    ("commit", "git add defconfigs/{name}*", "and git commit: runs record what is not"),
    ("seal", "make prereg", "before the first run: metric, arms, seeds"),
    ("run", "make", "train what is missing, and report"),
    ("read", "results/{name}/report.html", "docs/report.md, docs/evidence.md"),
)
SMALL = ("try", "make defconfig-{name}+tiny", "a run takes less than a minute on a CPU")


def require_name(root: Path, name: str) -> None:
    """Raise ConfigError for a name that is taken, or is none."""
    cause = None
    if not _NAME.fullmatch(name) or name in _RESERVED:
        cause = "is no name for a study: small letters, digits and single hyphens"
    for path in (root / "defconfigs" / name, study_dir(root, name)):
        if cause is None and os.path.lexists(path):
            cause = f"{shown(path)} is there already: choose another name"
    if cause is not None:
        raise ConfigError([Finding(f"NAME={name}", 0, None, cause)])


def base_lines(tree: Tree, name: str, source: Resolved) -> list[Line]:
    """The lines of the base: an ablation called `name`, otherwise configured as the
    source.
    """
    kept = [
        line
        for line in dotconfig.minimal(tree, source)
        if line.symbol not in _OF_A_STUDY and not line.symbol.startswith("MATRIX_")
    ]
    mode = Line("", 0, "RA_MLA_ABLATION_MODE", "y")
    return [mode, Line("", 0, "STUDY", f'"{name}"'), *kept]


def write(tree: Tree, name: str, said: str, source: Resolved) -> Resolved:
    """Write defconfigs/NAME and the two steps of defconfigs/NAME.d; the base, resolved.

    `said` is how the source was named. Raises ConfigError, with nothing left behind,
    where what was written does not hold: a configuration that an ablation cannot have.
    """
    lines = base_lines(tree, name, source)
    base, folder = tree.root / "defconfigs" / name, study_dir(tree.root, name)
    has = bool(source.values["GPT2_BIAS"])
    line = "# CONFIG_GPT2_BIAS is not set" if has else "CONFIG_GPT2_BIAS=y"
    example = {"what": "without" if has else "with", "no": "no " if has else ""}
    files = {
        folder / "00-baseline.config": BASELINE.format(name=name),
        folder / f"{example_id(source)}.config": EXAMPLE.format(line=line, **example),
        base: _base_text(tree, name, said, lines),
    }
    folder.mkdir()
    for path, text in files.items():
        atomic.write_bytes(path, text.encode())
    try:
        prove(tree, [base], list_steps(tree.root, name))
        return tree.resolve([base])
    except ConfigError:
        for path in files:
            path.unlink()
        folder.rmdir()
        raise


def example_id(source: Resolved) -> str:
    """The id of the example step."""
    return f"01-with{'out' if source.values['GPT2_BIAS'] else ''}-biases"


def page(tree: Tree, name: str, said: str, source: Resolved, base: Resolved) -> str:
    """What was written, and what to type."""
    folder = shown(study_dir(tree.root, name))
    written = WRITTEN.format(
        name=name,
        source=said,
        base=shown(tree.root / "defconfigs" / name),
        folder=folder,
        example=example_id(source),
        count=len(base.origin),
    )
    lines = [*NEXT[:1], *([] if source.values["DEVICE_CPU"] else [SMALL]), *NEXT[1:]]
    rows = [[part.format(name=name) for part in line] for line in lines]
    return "\n".join([written, *aligned(rows)])


def _base_text(tree: Tree, name: str, said: str, lines: Sequence[Line]) -> str:
    """The base, its lines below the titles of their menus."""
    rows = [
        f"# Help: {name}, made from {said}: say here what it asks",
        "# Takes: not measured: make estimate once a cell is done",
        "# Reaches: not measured",
    ]
    menu = None
    for line in lines:
        title = " > ".join(tree.menus(line.symbol))
        if title != menu:
            rows += ["", f"# {title}"]
            menu = title
        rows.append(str(line))
    return "\n".join(rows) + "\n"
