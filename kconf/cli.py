"""The configuration targets: make defconfig-NAME, menuconfig, olddefconfig …

scripts/kconfig.py calls main() with the checks of the settings classes, which
this room may not import.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from kconf import dotconfig, new_study as new_study_files, own_text
from kconf.arms import choose, generate
from kconf.axes import read_axes
from kconf.bind import SettingsError, format_value
from kconf.config_py import Value
from kconf.derived import sizes
from kconf.files import shown
from kconf.oldconfig import ask_new
from kconf.overrides import assignment, on_command_line, one_shots
from kconf.presets import list_defconfigs, preset_files
from kconf.strict import DotConfig, Overrides, Resolved, Tree
from kconf.study import Fragment, difference, find_step, list_steps, resolve_step
from kconf.syntax import ConfigError, Finding, assignments, parse_file
from kconf.unusual import questions, warnings
from kconf.unused_steps import unused_steps
from records import atomic

OVERLAYS = "STUDY_OVERLAYS"
Check = Callable[[Mapping[str, Value]], object]


@dataclass(frozen=True)
class Session:
    """One call: the tree, the paths of .config and config.py, the checks.

    checks take the values and raise SettingsError or ConfigError; edit opens
    an editor on a kconfiglib tree.
    """

    tree: Tree
    config: Path
    python: Path
    checks: Sequence[Check]
    edit: Callable[[Any], None]

    def load(self) -> Resolved:
        """The .config, strictly; ConfigError names what is missing."""
        if not self.config.exists():
            raise ConfigError([Finding(shown(self.config), 0, None, dotconfig.ABSENT)])
        return self.tree.resolve([DotConfig(self.config)])

    def check(self, resolved: Resolved) -> None:
        """Run the checks; a refused value is reported where it was assigned."""
        findings: list[Finding] = []
        for check in self.checks:
            try:
                check(resolved.values)
            except SettingsError as error:
                path, line = resolved.origin.get(error.symbol, (shown(self.config), 0))
                cause = error.why
                if error.symbol:
                    cause = f"{format_value(error.value)}: {cause}"
                findings.append(Finding(path, line, error.symbol, cause))
            except ConfigError as error:
                findings += error.findings
        if findings:
            raise ConfigError(findings)

    def save(self, resolved: Resolved) -> None:
        """Check, then write .config and config.py."""
        self.check(resolved)
        dotconfig.write(self.config, self.tree, resolved)
        dotconfig.write_python(self.python, self.tree, resolved)
        print(f"wrote {shown(self.config)} and {shown(self.python)}")
        for line in sizes(resolved.written):
            print(f"  {line}")
        for line in warnings([("", questions(resolved.values))]):
            print(line)


# -- commands -------------------------------------------------------------


def defconfig(session: Session, name: str, text: str) -> None:
    """defconfigs/NAME with its overlays becomes .config and config.py; `text` is a
    file of the user's to train on, or empty.
    """
    session.save(_preset(session.tree, name, text))
    for line in unused_steps(session.tree.root, session.load().values):
        print(f"  {line}")
    given = [assignment(*each) for each in one_shots(os.environ)]
    if given:
        print(f"not written, one-shots count once: {' '.join(given)}")


def _preset(tree: Tree, name: str, text: str) -> Resolved:
    """A defconfig with its overlays, NAME+FRAGMENT…, on the text where one is given."""
    base, *overlays = name.split("+")
    stages = preset_files(tree.root, base, overlays)
    findings = [
        line.finding("is written by make defconfig-NAME+FRAGMENT, not by hand")
        for path in stages
        for line in parse_file(path)
        if line.symbol == OVERLAYS
    ]
    if findings:
        raise ConfigError(findings)
    label = Overrides({OVERLAYS: "+".join(overlays)}, f"make defconfig-{name}")
    if text and own_text.OVERLAY not in overlays:
        if "TEXT" in on_command_line(os.environ):
            own_text.refuse(text, f"goes with the overlay text: {name}+text")
        text = ""  # exported, for make eval
    if not text:
        return tree.resolve([*stages, label])
    resolved = tree.resolve([*stages, own_text.corpus(tree.root, text), label])
    own_text.require_length(text, resolved.values)
    return resolved


def new_study(session: Session, name: str, source: str, text: str) -> None:
    """Write a study of the user's: a base made from `source`, NAME+FRAGMENT…, and two
    steps; print what to do with it.
    """
    tree = session.tree
    new_study_files.require_name(tree.root, name)
    given = _preset(tree, source, text)
    base = new_study_files.write(tree, name, source, given)
    session.check(base)
    print(new_study_files.page(tree, name, source, given, base))


def menuconfig(session: Session) -> None:
    """Edit .config in the terminal; what was saved is read back strictly."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        cause = "needs a terminal; without one use make defconfig-NAME"
        raise ConfigError([Finding("menuconfig", 0, None, cause)])
    if session.config.exists():
        session.load()
    before = os.environ.get("KCONFIG_CONFIG")
    os.environ["KCONFIG_CONFIG"] = str(session.config.absolute())
    try:
        session.edit(session.tree.kconfig)
    finally:
        del os.environ["KCONFIG_CONFIG"]
        if before is not None:
            os.environ["KCONFIG_CONFIG"] = before
    if not session.config.exists():
        print("nothing was saved")
        return
    try:
        session.save(session.load())
    except ConfigError:
        session.python.unlink(missing_ok=True)  # it no longer matches .config
        raise


def olddefconfig(session: Session) -> None:
    """Bring .config up to date with Kconfig; new symbols take their default."""
    _require(session)
    resolved, dropped, added = session.tree.settle(DotConfig(session.config))
    for finding in dropped:
        print(f"dropped {finding}")
    for symbol in added:
        print(f"added {_assignment(symbol, resolved.written[symbol])}")
    session.save(resolved)


def oldconfig(session: Session) -> None:
    """Bring .config up to date, asking for each new symbol."""
    _require(session)
    session.save(ask_new(session.tree, DotConfig(session.config), input, print))


def listnewconfig(session: Session) -> None:
    """Print the symbols that .config does not know, at their defaults."""
    _require(session)
    resolved, _, added = session.tree.settle(DotConfig(session.config))
    for symbol in added:
        print(_assignment(symbol, resolved.written[symbol]))


def savedefconfig(session: Session) -> None:
    """Write ./defconfig: the lines that differ from Kconfig's defaults."""
    resolved = session.load()
    lines = dotconfig.minimal(session.tree, resolved)
    title = f"# Help: saved from {shown(session.config)}\n"
    rows = [f"{line}\n" for line in lines if line.symbol != OVERLAYS]
    path = session.config.with_name("defconfig")
    atomic.write_bytes(path, (title + "".join(rows)).encode())
    print(f"wrote {shown(path)} ({len(rows)} lines)")


def config_python(session: Session) -> None:
    """Write config.py again from .config."""
    resolved = session.load()
    session.check(resolved)
    dotconfig.write_python(session.python, session.tree, resolved)


def list_presets(session: Session) -> None:
    """Print the defconfigs, the number of their steps, and the fragments."""
    list_defconfigs(session.tree.root)


def diffconfig(_: Session, before: str, after: str) -> None:
    """Print what differs between two config files: -gone, +new, old -> new."""
    old, new = (assignments(Path(path)) for path in (before, after))
    for symbol in sorted(old | new):
        if symbol not in new:
            print(f"-{symbol} {old[symbol]}")
        elif symbol not in old:
            print(f"+{symbol} {new[symbol]}")
        elif old[symbol] != new[symbol]:
            print(f" {symbol} {old[symbol]} -> {new[symbol]}")


def show(session: Session, wanted: str) -> None:
    """Print a step: its help, lines, difference from the base, expectations."""
    base = session.load()
    stages = [DotConfig(session.config)]
    step = _fragment(session.tree, stages, base.values, wanted)
    resolved = resolve_step(session.tree, stages, step)
    change = difference(session.tree, base, resolved, step)
    print(f"{step.id}: {step.help}\n{step.where}")
    for line in step.lines:
        print(f"  {line}")
    print("difference:" if change.lines else "difference: none, this is the base")
    for symbol, old, new in change.lines:
        print(f"  {symbol} {format_value(old)} -> {format_value(new)}")
    if change.implied:
        print("implied:")
    for symbol, old, new, why in change.implied:
        print(f"  {symbol} {format_value(old)} -> {format_value(new)}  ({why})")
    told = sizes(resolved.written)
    print("\n  ".join(["sizes:", *told]) if told else "sizes: as written")
    if step.expect:
        print("expected:")
    for key, value in step.expect.items():
        print(f"  {key} {value}")
    if change.violations:
        raise ConfigError(change.violations)


# -- pieces ---------------------------------------------------------------


def _fragment(
    tree: Tree, stages: list[DotConfig], values: Mapping[str, Value], wanted: str
) -> Fragment:
    """The step of the study, or the arm of the test matrix, with this name."""
    if not values["TEST_MATRIX_MODE"]:
        return find_step(list_steps(tree.root, values["STUDY"]), wanted)
    arms = generate(tree, stages, Overrides({}), read_axes(values)).arms
    found = choose(arms, wanted)
    if len(found) > 1:
        cause = f"{wanted!r} names {len(found)} arms: show takes one"
        raise ConfigError([Finding(f"ARMS={wanted}", 0, None, cause)])
    return found[0]


def _require(session: Session) -> None:
    if not session.config.exists():
        session.load()  # raises, saying what to run


def _assignment(symbol: str, value: Value) -> str:
    return f"CONFIG_{symbol}={format_value(value)}"


_COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "defconfig": (defconfig, ("NAME[+FRAGMENT...]", "--text")),
    "new-study": (new_study, ("NAME", "FROM", "--text")),
    "menuconfig": (menuconfig, ()),
    "oldconfig": (oldconfig, ()),
    "olddefconfig": (olddefconfig, ()),
    "savedefconfig": (savedefconfig, ()),
    "listnewconfig": (listnewconfig, ()),
    "list-defconfigs": (list_presets, ()),
    "diffconfig": (diffconfig, ("BEFORE", "AFTER")),
    "show": (show, ("STEP",)),
    "config-py": (config_python, ()),
}


def main(
    arguments: Sequence[str],
    root: Path,
    checks: Sequence[Check],
    edit: Callable[[Any], None],
) -> int:
    """Run one command; 0, or 1 after printing the findings to stderr."""
    parser = argparse.ArgumentParser(prog="kconfig.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, operands) in _COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__.split("\n")[0])
        for operand in operands:
            if operand.startswith("--"):
                command.add_argument(operand, default="")
            else:
                command.add_argument(operand)
    options = vars(parser.parse_args(arguments))
    function, operands = _COMMANDS[options["command"]]
    try:
        paths = dotconfig.config_paths(root, os.environ)
        session = Session(Tree(root), *paths, checks, edit)
        function(session, *(options[name.removeprefix("--")] for name in operands))
    except (ConfigError, SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
