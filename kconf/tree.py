"""What Kconfig says: kconfiglib's tree, asked in the words of this room.

Facts knows kinds, prompts, menus and choices, and, for the values that are set
at the moment, what a symbol is worth and why a person cannot set it.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Iterator

import kconfiglib as kc

from kconf.config_py import Value
from kconf.syntax import ConfigError, Finding
from records.spelling import closest

_KINDS = {kc.BOOL: "bool", kc.INT: "int", kc.STRING: "string"}
_TAG = re.compile(r"^\[(\w+)\]$", re.M)


class Facts:
    """The Kconfig tree below `root`, parsed once.

    Raises ConfigError for a Kconfig file that is malformed, whose symbols lack
    a class tag, or that uses a type other than bool, int and string.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.kconfig = _parse(self.root)
        self._symbols = {s.name: s for s in self.kconfig.unique_defined_syms}
        self._check_symbols()
        self.operational = frozenset(
            name
            for name in self._symbols
            if _TAG.findall(self.help(name)) == ["operational"]
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in the order of the menus."""
        return tuple(self._symbols)

    def defines(self, symbol: str) -> bool:
        """Whether there is such a symbol."""
        return symbol in self._symbols

    def kind(self, symbol: str) -> str:
        """The type: "bool", "int" or "string"."""
        return _KINDS[self._symbols[symbol].orig_type]

    def help(self, symbol: str) -> str:
        """The help text, with its class tag."""
        nodes = self._symbols[symbol].nodes
        return "\n".join(node.help for node in nodes if node.help)

    def place(self, symbol: str) -> tuple[str, int]:
        """The Kconfig file (relative to the root) and line that define it."""
        node = self._symbols[symbol].nodes[0]
        return node.filename, node.linenr

    def prompt(self, symbol: str) -> str | None:
        """What menuconfig shows; None when nobody can ever set the symbol."""
        nodes = self._symbols[symbol].nodes
        return next((node.prompt[0] for node in nodes if node.prompt), None)

    def siblings(self, symbol: str) -> tuple[str, ...]:
        """The members of the symbol's choice, itself included; else ()."""
        choice = self._symbols[symbol].choice
        return tuple(member.name for member in choice.syms) if choice else ()

    def members(self, prefix: str) -> dict[str, str]:
        """Name -> symbol of the choices' members with a prefix: adamw -> OPTIMIZER_ADAMW."""
        return {
            symbol.removeprefix(prefix).lower(): symbol
            for symbol in self._symbols
            if symbol.startswith(prefix) and self.siblings(symbol)
        }

    def choice_name(self, symbol: str) -> str:
        """The prompt of the symbol's choice."""
        choice = self._symbols[symbol].choice
        return next(node.prompt[0] for node in choice.nodes if node.prompt)

    def menus(self, symbol: str) -> tuple[str, ...]:
        """Titles of the menus around a symbol, the outermost first."""
        titles: list[str] = []
        node = self._symbols[symbol].nodes[0].parent
        while node is not None and node is not self.kconfig.top_node:
            if node.item is kc.MENU:
                titles.insert(0, node.prompt[0])
            node = node.parent
        return tuple(titles)

    def nearest(self, name: str) -> str:
        """The words (did you mean CONFIG_X?) for an undefined name, or ""."""
        close = closest(name.upper(), self._symbols)
        return f" (did you mean CONFIG_{close[0]}?)" if close else ""

    # -- at the moment -----------------------------------------------------

    def value(self, name: str) -> Value:
        """The value at the moment; None for an int or string that is inactive."""
        symbol = self._symbols[name]
        if symbol.orig_type == kc.BOOL:
            return symbol.tri_value == 2
        if not self.active(name):
            return None
        if symbol.orig_type == kc.STRING:
            return symbol.str_value
        return int(symbol.str_value) if symbol.str_value else None

    def active(self, name: str) -> bool:
        """Whether the symbol's dependencies are met."""
        return kc.expr_value(self._symbols[name].direct_dep) > 0

    def bounds(self, name: str) -> tuple[int, int] | None:
        """The range in force for an int symbol, inclusive."""
        for low, high, condition in self._symbols[name].ranges:
            if kc.expr_value(condition):
                return int(low.str_value), int(high.str_value)
        return None

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """Every range of an int symbol, inclusive, whatever the values are."""
        symbol = self._symbols[name]
        return [(int(a.str_value), int(b.str_value)) for a, b, _ in symbol.ranges]

    def influences(self, name: str) -> set[str]:
        """Symbols that decide whether this one can be set."""
        symbol = self._symbols[name]
        found: set[str] = set(self.siblings(name)) - {name}
        nodes = [*symbol.nodes, *(symbol.choice.nodes if symbol.choice else ())]
        for node in nodes:
            if node.prompt:
                for item in kc.expr_items(node.prompt[1]):
                    members = item.syms if isinstance(item, kc.Choice) else [item]
                    found.update(member.name for member in members)
        return found

    def unmet(self, name: str) -> str:
        """The parts of the prompt's condition that are n, with their values."""
        reasons = []
        for node in self._symbols[name].nodes:
            if node.prompt:
                reasons.append(" and ".join(_unmet_parts(node.prompt[1])))
        return "needs " + ", or ".join(reasons)

    def selectors(self, name: str) -> str:
        """What selects a bool at the moment."""
        parts = kc.split_expr(self._symbols[name].rev_dep, kc.OR)
        return ", ".join(kc.expr_str(part) for part in parts if kc.expr_value(part))

    def _check_symbols(self) -> None:
        findings = [Finding("Kconfig", 0, None, text) for text in self.kconfig.warnings]
        for name, symbol in self._symbols.items():
            causes = []
            if symbol.orig_type not in _KINDS:
                causes.append(f"type {kc.TYPE_TO_STR[symbol.orig_type]} is unsupported")
            tags, text = _TAG.findall(self.help(name)), self.help(name).rstrip()
            if tags not in (["identity"], ["operational"]) or text[-1] != "]":
                causes.append("help must end with one of [identity], [operational]")
            findings += [Finding(*self.place(name), name, cause) for cause in causes]
        if findings:
            raise ConfigError(findings)


def _unmet_parts(condition: object) -> Iterator[str]:
    for part in kc.split_expr(condition, kc.AND):
        if kc.expr_value(part):
            continue
        if isinstance(part, kc.Choice):
            for node in part.nodes:
                yield from _unmet_parts(
                    node.prompt[1] if node.prompt else part.direct_dep
                )
            continue
        symbols = [i for i in kc.expr_items(part) if isinstance(i, kc.Symbol)]
        now = sorted(f"{s.name}={s.str_value}" for s in symbols if not s.is_constant)
        yield f"{kc.expr_str(part)} (now {', '.join(now)})"


def _parse(root: Path) -> kc.Kconfig:
    """kconfiglib's tree, with the environment it listens to held still."""
    with _environment(srctree=str(root), KCONFIG_WARN_UNDEF="y", CONFIG_=None):
        try:
            return kc.Kconfig(str(root / "Kconfig"), warn_to_stderr=False)
        except (kc.KconfigError, OSError) as error:
            raise ConfigError([Finding("Kconfig", 0, None, str(error))]) from None


@contextlib.contextmanager
def _environment(**wanted: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    try:
        _export(wanted)
        yield
    finally:
        _export(before)


def _export(wanted: dict[str, str | None]) -> None:
    for name, value in wanted.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
