"""What a python file of ours imports and starts, read from its text.

Nothing is imported for it. Imports count wherever they stand, inside functions too. A
module that imports by a computed name, or starts a process, declares what:

    CHOSEN = {"gpt2.data.loading.feeder": ("DATA_ON_THE_FLY",)}

The key is a module, the value the conditions under which a run has it: a bool symbol
that is y; "GPUS_PER_RUN > 1", a number above another; "gdn in MIXER_LAYERS", a word of
a string. One that holds is enough, and () never holds. Such a module may be imported
by name in functions as well; that counts under the same conditions.

The declaration is no part of the file's digest, so that one more entry in it changes
no run that does not choose it. A run may therefore take nothing from it but the
modules' names.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

NAME = "CHOSEN"
SYMBOL = "[A-Z][A-Z0-9_]*"
FORMS = (
    re.compile(f"(?P<flag>{SYMBOL})"),
    re.compile(f"(?P<number>{SYMBOL}) > (?P<bound>[0-9]+)"),
    re.compile(f"(?P<word>[^ ]+) in (?P<text>{SYMBOL})"),
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class CodeError(Exception):
    """Code whose imports cannot be followed; the message says where and why."""


@dataclass(frozen=True)
class Source:
    """A file: the sha256 of its text without CHOSEN, the modules that it imports in
    any case with the packages around them, and CHOSEN.
    """

    digest: str
    imports: frozenset[str]
    chosen: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=1024)
def read(data: bytes) -> Source:
    """The source whose bytes these are. Raises CodeError for what is not Python, a
    relative or starred import and a CHOSEN that is not as above.
    """
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError) as error:
        raise CodeError(f"is not Python: {error}") from None
    chosen, rest = {}, data
    if any(map(_assigns, ast.walk(tree))):
        statement = _statement(tree)
        chosen, rest = _table(statement), _without(data, statement)
    for name in _imported(tree, FUNCTIONS):
        if _covers(chosen, name):
            raise CodeError(f"imports {name} always, though {NAME} holds it")
    always = (name for name in _imported(tree) if not _covers(chosen, name))
    found = frozenset(part for name in always for part in prefixes(name))
    return Source(hashlib.sha256(rest).hexdigest(), found, chosen)


def prefixes(name: str) -> list[str]:
    """a, a.b and a.b.c of a.b.c: importing one imports those before it."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def holds(condition: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition of CHOSEN holds for symbols' values; a symbol that is not
    active (None) meets none. Raises CodeError for a symbol that is not there.
    """
    parts = _parts(condition)
    symbol = parts.get("flag") or parts.get("number") or parts["text"]
    if symbol not in values:
        raise CodeError(f"{NAME} names {symbol}, which is no symbol")
    value = values[symbol]
    if "flag" in parts:
        return value is True
    if "number" in parts:
        return value is not None and value > int(parts["bound"])
    return parts["word"] in (value or "").split()


def _parts(condition: str) -> dict[str, str]:
    for form in FORMS:
        if found := form.fullmatch(condition):
            return found.groupdict()
    raise CodeError(f"{NAME}: {condition!r} is no condition")


def _assigns(node: ast.AST) -> bool:
    written = isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    return written and node.id == NAME


def _statement(tree: ast.Module) -> ast.Assign:
    """The one that gives CHOSEN its value. Raises CodeError."""
    found = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and any(map(_assigns, node.targets))
    ]
    if len(found) != 1 or sum(map(_assigns, ast.walk(tree))) != 1:
        raise CodeError(f"{NAME} = {{…}} stands once, outside every block")
    return found[0]


def _table(statement: ast.Assign) -> dict[str, tuple[str, ...]]:
    """CHOSEN as a value. Raises CodeError."""
    try:
        table = ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        raise CodeError(f"{NAME} is no literal") from None
    if not isinstance(table, dict):
        raise CodeError(f"{NAME} is no dict")
    for module, conditions in table.items():
        if not isinstance(module, str) or not isinstance(conditions, tuple):
            raise CodeError(f"{NAME}: {module!r}: MODULE: (CONDITION, …) is needed")
        for condition in conditions:
            _parts(str(condition))
    return table


def _without(data: bytes, statement: ast.stmt) -> bytes:
    """The file without a statement; places in a line are counted in bytes."""
    lines = data.splitlines(keepends=True)
    before = b"".join(lines[: statement.lineno - 1])
    before += lines[statement.lineno - 1][: statement.col_offset]
    after = lines[statement.end_lineno - 1][statement.end_col_offset :]
    return before + after + b"".join(lines[statement.end_lineno :])


def _covers(chosen: Mapping[str, Any], name: str) -> bool:
    """Whether a name is that of a chosen module or of something in it."""
    return any(name == module or name.startswith(module + ".") for module in chosen)


def _imported(node: ast.AST, but: tuple[type, ...] = ()) -> Iterator[str]:
    """Every dotted name in the imports below a node; not in nodes of the types `but`."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, but):
            yield from _imported(child, but)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level or node.names[0].name == "*":
            raise CodeError(f"line {node.lineno}: a relative or starred import")
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
