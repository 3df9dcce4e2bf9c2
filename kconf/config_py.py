"""config.py: the resolved values as Python literals, read and never executed.

The file ends with the symbols that cannot change a result and the hash of
those that can:

    MLP_DIM = 3840
    OPERATIONAL = ('JOBS', …)
    IDENTITY = '9f2c…'
    SCHEMA = 1

AS_BEFORE, where it stands, names symbols that came later than older files and have here
the value that means what was done before: with them or without, it is the same
configuration, so the hash leaves them out too.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping

from kconf.files import read_regular, shown
from kconf.syntax import ConfigError, Finding
from records import atomic

SCHEMA = 1
Value = bool | int | str | None
_OWN = ("OPERATIONAL", "IDENTITY", "SCHEMA")
_LISTS = ("OPERATIONAL", "AS_BEFORE")
SURROGATE = re.compile("[\ud800-\udfff]")
_HEADER = "# Written from .config; edit that one (make menuconfig), not this.\n"


@dataclass(frozen=True)
class Config:
    """A config.py: values by symbol, hash of the identity, operational symbols."""

    values: dict[str, Value]
    identity: str
    operational: frozenset[str]


def identity(values: Mapping[str, Value], operational: Iterable[str]) -> str:
    """sha256 of the canonical JSON of the symbols that can change a result."""
    outside = set(operational)
    kept = {name: value for name, value in values.items() if name not in outside}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def render(
    values: Mapping[str, Value],
    operational: Iterable[str],
    as_before: Iterable[str] = (),
) -> str:
    """The text of a config.py. Raises ValueError for a value of another type."""
    outside = {*operational, *as_before}
    for name, value in values.items():
        if name in (*_OWN, *_LISTS) or not name.isidentifier():
            raise ValueError(f"{name} cannot be a symbol of config.py")
        if type(value) not in (bool, int, str, type(None)):
            raise ValueError(f"{name} is {type(value).__name__}: {value!r}")
    lines = [f"{name} = {values[name]!r}\n" for name in sorted(values)]
    lines.append(f"OPERATIONAL = {tuple(sorted(operational))!r}\n")
    if as_before:
        lines.append(f"AS_BEFORE = {tuple(sorted(as_before))!r}\n")
    lines.append(f"IDENTITY = {identity(values, outside)!r}\n")
    lines.append(f"SCHEMA = {SCHEMA}\n")
    return _HEADER + "".join(lines)


def write(
    path: Path,
    values: Mapping[str, Value],
    operational: Iterable[str],
    as_before: Iterable[str] = (),
) -> None:
    """Write a config.py, atomically."""
    atomic.write_bytes(path, render(values, operational, as_before).encode())


def read(path: Path) -> Config:
    """The values of a config.py.

    Raises ConfigError for a file that cannot be read, holds anything but
    assignments of literals, has another schema, or was edited by hand.
    """
    try:
        text = read_regular(path).decode("utf-8")
        found = _literals(path, text)
    except OSError as error:
        raise _refused(path, 0, f"{error.strerror}: run make config.py") from None
    except (RecursionError, MemoryError):  # the parser's, of nested brackets
        raise _refused(path, 0, "is nested too deeply") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 0) or 0
        raise _refused(path, line, f"is not Python: {error}") from None
    missing = [name for name in _OWN if name not in found]
    if missing:
        raise _refused(path, 0, f"has no {missing[0]}: it is not a whole config.py")
    if found["SCHEMA"] != SCHEMA:
        raise _refused(path, 0, f"schema {found['SCHEMA']}, this code reads {SCHEMA}")
    operational, as_before = (tuple(map(str, found.pop(n, ()))) for n in _LISTS)
    values = {name: value for name, value in found.items() if name not in _OWN}
    if text != render(values, operational, as_before):
        raise _refused(
            path, 0, "was edited by hand (its hash or form is wrong): edit .config"
        )
    return Config(values, found["IDENTITY"], frozenset(operational))


def _literals(path: Path, text: str) -> dict:
    found: dict = {}
    for node in ast.parse(text).body:
        plain = isinstance(node, ast.Assign) and len(node.targets) == 1
        if not plain or not isinstance(node.targets[0], ast.Name):
            raise _refused(path, node.lineno, "only NAME = literal is allowed")
        name = node.targets[0].id
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            raise _refused(path, node.lineno, f"{name} is not a literal") from None
        if name in found:
            raise _refused(path, node.lineno, f"{name} is assigned twice")
        allowed = tuple if name in _LISTS else (bool, int, str, type(None))
        if not isinstance(value, allowed):
            raise _refused(path, node.lineno, f"{name} is {type(value).__name__}")
        if isinstance(value, str) and SURROGATE.search(value):
            raise _refused(path, node.lineno, f"{name} is not valid Unicode")
        found[name] = value
    return found


def _refused(path: Path, line: int, cause: str) -> ConfigError:
    return ConfigError([Finding(shown(path), line, None, cause)])
