"""The strict merge: stages of assignments over the Kconfig tree.

kconfiglib parses Kconfig and computes values, visibility and choices. Config
files are read by kconf/syntax.py, because kconfiglib skips what it does not
like; after each stage every one of its lines must hold, or ConfigError says
which does not and why.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable, Sequence

from kconf.bind import format_value
from kconf.config_py import Value
from kconf.derived import derive
from kconf.files import shown
from kconf.overrides import Overrides
from kconf.scratch import Scratch
from kconf.syntax import ConfigError, Finding, Line, parse_file, value_of
from kconf.tree import Facts

__all__ = ["ConfigError", "DotConfig", "Finding", "Overrides", "Resolved", "Tree"]

_REPAIR = "; run make olddefconfig"


@dataclass(frozen=True)
class DotConfig:
    """A full .config as a stage: it must give every visible symbol.

    It may also hold symbols that nobody can set, when the value is the one
    that Kconfig computes.
    """

    path: Path

    @cached_property
    def lines(self) -> list[Line]:
        """The file's lines, read once."""
        return parse_file(self.path)


Stage = Path | DotConfig | Overrides | Sequence[Line]


@dataclass(frozen=True)
class Resolved:
    """The values after a merge.

    values: every symbol, with what a 0 stands for in its place (kconf/derived.py);
    written: the same as the lines and Kconfig have it; visible: those a person could
    set; origin: symbol -> (path, line) of its last assignment; assigned: the symbols of
    the last stage; stages: what was merged.
    """

    values: dict[str, Value]
    written: dict[str, Value]
    visible: frozenset[str]
    origin: dict[str, tuple[str, int]]
    assigned: frozenset[str]
    stages: tuple[Stage, ...] = ()


Merge = Callable[[Sequence[Stage]], Resolved]
"""Tree.resolve, or something that does the same; raises ConfigError."""


@dataclass(frozen=True)
class Fault:
    """A line that did not hold; stale: olddefconfig may drop it; clash: Finding's."""

    line: Line
    cause: str
    stale: bool = False
    clash: bool = False

    @property
    def finding(self) -> Finding:
        return self.line.finding(self.cause, self.clash)


class Tree(Facts):
    """The Kconfig tree below a root, and the strict merge over it.

    A merge uses the tree as scratch: one thread at a time. The .config that a
    merge began with stays applied, so that the next merge over it only takes back
    what came after.
    """

    def __init__(self, root: Path):
        super().__init__(root)
        self._scratch = Scratch(self.kconfig)

    def resolve(self, stages: Sequence[Stage]) -> Resolved:
        """Merge the stages in order; each is checked after it was applied.

        A later stage may override an earlier one. Raises ConfigError with
        every finding of the first stage that does not hold.
        """
        live, rest = self._begin(stages)
        lines = _lines(stages[0]) if stages else []
        for stage in rest:
            lines = _lines(stage)
            full = isinstance(stage, DotConfig)
            findings = [fault.finding for fault in self._apply(lines, live, full)]
            if full and not findings:
                where = shown(stage.path)
                findings = [
                    Finding(where, 0, symbol, f"is missing{_REPAIR}")
                    for symbol in self._absent(lines)
                ]
            if findings:
                raise ConfigError(findings)
            if full and stage is stages[0]:
                self._scratch.keep(stage, live)
        return self._resolved(live, lines, tuple(stages))

    def _begin(self, stages: Sequence[Stage]) -> tuple[dict[str, Line], Sequence]:
        """The lines in force at the start of a merge, and the stages to apply."""
        self.kconfig.warnings.clear()
        if stages and self._scratch.holds(stages[0]):
            return self._scratch.take_back(), stages[1:]
        self._scratch.clear()
        return {}, stages

    def settle(self, stage: Stage) -> tuple[Resolved, list[Finding], list[str]]:
        """A .config brought up to date: (Resolved, dropped lines, new symbols).

        Lines of unknown symbols and lines whose value does not take are
        dropped; malformed lines raise ConfigError as always.
        """
        lines, dropped = _lines(stage), []
        while True:
            live, _ = self._begin([])
            faults = self._apply(lines, live, full=True)
            fatal = [fault.finding for fault in faults if not fault.stale]
            if fatal:
                raise ConfigError(fatal)
            if not faults:
                break
            dropped += [
                fault.line.finding(f"{fault.line}: {fault.cause}".replace(_REPAIR, ""))
                for fault in faults
            ]
            stale = {fault.line for fault in faults}
            lines = [line for line in lines if line not in stale]
        resolved = self._resolved(live, lines, (tuple(lines),))
        return resolved, dropped, self._absent(lines)

    def _apply(
        self, lines: Sequence[Line], live: dict[str, Line], full: bool
    ) -> list[Fault]:
        """Set the lines' values and return the faults, in order of the lines.

        live (symbol -> line in force) is updated. A line that fails only
        because it depends on another faulty line is not reported.
        """
        faults, wanted = self._typed(lines, full)
        broken = {fault.line.symbol for fault in faults}
        for line, value in wanted:
            self._set(line.symbol, value)
        for line, value in wanted:
            cause = self._refusal(line.symbol, value, full)
            if cause and not broken & self.influences(line.symbol):
                repair = _REPAIR if full else ""
                clash = self._clashes(line.symbol)
                faults.append(Fault(line, cause + repair, stale=True, clash=clash))
        fresh = {line.symbol for line, _ in wanted}
        for symbol, line in live.items():
            cause = None if symbol in fresh else self._disturbed(symbol, line)
            if cause:
                faults.append(Fault(line, cause))
        live.update((line.symbol, line) for line, _ in wanted)
        return sorted(faults, key=lambda fault: fault.line.number)

    def _typed(
        self, lines: Sequence[Line], full: bool
    ) -> tuple[list[Fault], list[tuple[Line, bool | int | str]]]:
        faults: list[Fault] = []
        wanted: list[tuple[Line, bool | int | str]] = []
        chosen: dict[object, Line] = {}
        for line in lines:
            symbol = self._symbols.get(line.symbol)
            if line.cause:
                faults.append(Fault(line, line.cause))
                continue
            if symbol is None:
                cause = f"is not defined{self.nearest(line.symbol)}"
                repair = _REPAIR if full else ""
                faults.append(Fault(line, cause + repair, stale=True))
                continue
            try:
                value = value_of(line, self.kind(line.symbol))
            except ValueError as error:
                faults.append(Fault(line, str(error)))
                continue
            if symbol.choice and value is True:
                rival = chosen.setdefault(symbol.choice, line)
                if rival is not line:
                    where = f"line {rival.number}" if rival.number else rival.path
                    cause = (
                        f"{where} already sets CONFIG_{rival.symbol}=y "
                        f'in the choice "{self.choice_name(line.symbol)}"'
                    )
                    faults.append(Fault(line, cause, clash=True))
                    continue
            wanted.append((line, value))
        return faults, wanted

    def _set(self, name: str, value: bool | int | str) -> None:
        symbol = self._symbols[name]
        if self.prompt(name) is None:
            return  # computed; _refusal() says whether the line agrees
        text = format_value(value) if isinstance(value, bool) else str(value)
        if not self._scratch.set(symbol, text):
            raise AssertionError(f"kconfiglib refused {name}={text!r}")

    def _refusal(self, name: str, value: Value, full: bool) -> str | None:
        """Why the symbol does not have this value as a person's, or None."""
        symbol, actual = self._symbols[name], self.value(name)
        if not symbol.visibility:
            if full and actual == value:
                return None
            computed = f"Kconfig computes {format_value(actual)}"
            if self.prompt(name) is None:
                return f"has no prompt: nobody can set it ({computed})"
            return f"cannot be set: {self.unmet(name)} ({computed})"
        if actual == value:
            return None
        if symbol.choice:
            winner = symbol.choice.selection
            if value is True:
                return f'lost its choice "{self.choice_name(name)}" to {winner.name}'
            return (
                f'is the selection of the choice "{self.choice_name(name)}": '
                "set another member to y instead"
            )
        if isinstance(value, bool):
            return f"is overridden: selected by {self.selectors(name)}"
        bounds = self.bounds(name)
        if bounds and not bounds[0] <= value <= bounds[1]:
            return f"{value} is out of range ({bounds[0]} to {bounds[1]})"
        return f"did not take: the value is {format_value(actual)}"

    def _clashes(self, name: str) -> bool:
        """Whether a refused value is refused for what else is set."""
        symbol = self._symbols[name]
        if not symbol.visibility:
            return self.prompt(name) is not None
        return bool(symbol.choice) or self.kind(name) == "bool"

    def _disturbed(self, name: str, line: Line) -> str | None:
        """Why a later stage broke an earlier line in a way it may not."""
        symbol = self._symbols[name]
        if not symbol.visibility or symbol.choice:
            return None
        cause = self._refusal(name, value_of(line, self.kind(name)), False)
        return f"{cause}, after a later stage was merged" if cause else None

    def _absent(self, lines: Sequence[Line]) -> list[str]:
        given = {line.symbol for line in lines}
        return [n for n, s in self._symbols.items() if s.visibility and n not in given]

    def _resolved(
        self, live: dict[str, Line], last: Sequence[Line], stages: tuple[Stage, ...]
    ) -> Resolved:
        written = {name: self.value(name) for name in self._symbols}
        findings = [
            Finding(*self.place(name), name, "has no default here")
            for name, value in written.items()
            if value is None and self.active(name)
        ]
        findings += [
            Finding("Kconfig", 0, None, text)
            for text in self.kconfig.warnings
            if "user value" not in text  # reported with the line, above
        ]
        if findings:
            self._scratch.clear()  # kconfiglib warns of a value once
            raise ConfigError(findings)
        return Resolved(
            derive(written),
            written,
            frozenset(name for name, s in self._symbols.items() if s.visibility),
            {name: (line.path, line.number) for name, line in live.items()},
            frozenset(line.symbol for line in last),
            stages,
        )


def _lines(stage: Stage) -> list[Line]:
    if isinstance(stage, Overrides):
        return stage.lines()
    if isinstance(stage, DotConfig):
        return stage.lines
    return parse_file(stage) if isinstance(stage, Path) else list(stage)
