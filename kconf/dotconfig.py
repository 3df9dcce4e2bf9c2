"""Writing .config, its python file beside it, and the minimal defconfig."""

from pathlib import Path
from typing import Mapping

from kconf import config_py
from kconf.config_py import Value
from kconf.files import shown
from kconf.strict import DotConfig, Merge, Resolved, Tree
from kconf.syntax import ConfigError, Finding, Line, render_line
from records import atomic

ABSENT = "is not there: make defconfig-NAME or make menuconfig writes it"
_HEADER = "# Written by the configuration targets of make; see make help.\n"


def config_paths(root: Path, environment: Mapping[str, str]) -> tuple[Path, Path]:
    """The .config and its python file.

    KCONFIG_CONFIG names another .config; foo.config has foo.config.py.
    """
    dotconfig = Path(environment.get("KCONFIG_CONFIG") or Path(root) / ".config")
    python = "config.py" if dotconfig.name == ".config" else f"{dotconfig.name}.py"
    return dotconfig, dotconfig.with_name(python)


def loaded(root: Path, environment: Mapping[str, str]) -> Path:
    """The .config of config_paths. Raises ConfigError where there is none, in the words
    of the Makefile's own check.
    """
    dotconfig, _ = config_paths(root, environment)
    if not dotconfig.exists():
        raise ConfigError([Finding(shown(dotconfig), 0, None, ABSENT)])
    return dotconfig


def render(tree: Tree, resolved: Resolved) -> str:
    """A full .config: every visible symbol, and those computed to a value."""
    chunks, open_menus = [_HEADER], ()
    for symbol in tree.symbols:
        value = resolved.written[symbol]
        if symbol not in resolved.visible and value in (None, False):
            continue
        menus = tree.menus(symbol)
        chunks += _headings(open_menus, menus)
        open_menus = menus
        chunks.append(render_line(symbol, value) + "\n")
    return "".join(chunks + _headings(open_menus, ()))


def _headings(left: tuple[str, ...], entered: tuple[str, ...]) -> list[str]:
    """The comments between two symbols of different menus."""
    shared = 0
    while left[shared : shared + 1] == entered[shared : shared + 1] != ():
        shared += 1
    ends = [f"# end of {title}\n" for title in reversed(left[shared:])]
    return ends + [f"\n#\n# {title}\n#\n" for title in entered[shared:]]


def write(path: Path, tree: Tree, resolved: Resolved) -> None:
    """Write a full .config atomically; a different old one stays as .old."""
    text, path = render(tree, resolved).encode(), Path(path)
    if path.exists():
        before = path.read_bytes()
        if before == text:
            return
        atomic.write_bytes(path.with_name(path.name + ".old"), before)
    atomic.write_bytes(path, text)


def write_python(path: Path, tree: Tree, resolved: Resolved) -> None:
    """Write the config.py of a configuration."""
    config_py.write(path, resolved.values, tree.operational)


def read_python(tree: Tree, config: Path, python: Path) -> dict[str, Value]:
    """The values of a .config as its config.py has them.

    Raises ConfigError where config.py is not there, or is that of another .config: what
    a person's scripts read is what runs.
    """
    resolved = tree.resolve([DotConfig(config)])
    values = config_py.read(python).values
    if values != resolved.values:
        cause = f"is not that of {shown(config)}: run make config.py"
        raise ConfigError([Finding(shown(python), 0, None, cause)])
    return values


def minimal(tree: Tree, resolved: Resolved) -> list[Line]:
    """The lines without which the configuration would be another one."""
    lines = []
    for symbol in tree.symbols:
        value = resolved.written[symbol]
        if symbol in resolved.visible:
            _, equals, raw = render_line(symbol, value).partition("=")
            lines.append(Line("defconfig", 0, symbol, raw if equals else None))
    for line in list(lines):
        fewer = [other for other in lines if other is not line]
        merged = merged_or_none(tree.resolve, [fewer])
        if merged and merged.written == resolved.written:
            lines = fewer
    return lines


def merged_or_none(merge: Merge, stages: list) -> Resolved | None:
    """The stages merged; None where they do not hold."""
    try:
        return merge(stages)
    except ConfigError:
        return None
