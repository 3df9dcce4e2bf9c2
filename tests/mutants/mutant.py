"""What a mutant is: one small sabotage of the source, and what must notice it."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

RATIO, ATTENTION = "gpt2-ratio-ablation", "gpt2-attention-ablation"
LLAMA = "llama-85m-ablation"
ROOMS = ("gpt2", "kconf", "kernels", "matrix", "records", "scripts")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Check:
    """`make check` breaks this promise first.

    steps: as in STEP=…; symbols: overrides, as in CONFIG_RA=y make check. ranks:
    by the whole command with its two processes, not by the proofs of one.
    """

    study: str
    steps: str
    promise: str
    symbols: tuple[tuple[str, str], ...] = ()
    ranks: bool = False

    def __str__(self) -> str:
        words = [f"CONFIG_{name}={value}" for name, value in self.symbols]
        where = "" if self.study == RATIO else f" ({self.study})"
        return f"{' '.join([*words, 'make check', f'STEP={self.steps}'])}{where}"


@dataclass(frozen=True)
class Test:
    """A test of `make test` fails with an assertion: a pytest node."""

    __test__ = False  # no test class

    node: str

    def __str__(self) -> str:
        return self.node.removeprefix("tests/")


@dataclass(frozen=True)
class Mutant:
    """old, which occurs exactly once at the place, becomes new.

    place: MODULE:DEFINITION, as in "optim.schedule:learning_rate"; MODULE alone for
    what stands outside every definition. MODULE is the end of a dotted name that no
    other module of ROOMS ends in, so that a module can move without its mutants.
    """

    id: str
    what: str
    place: str
    old: str
    new: str
    catcher: Check | Test

    def apply(self, root: Path) -> tuple[Path, str]:
        """Change the file below root; the file and its former text. Raises
        ValueError when the source has moved away from under the mutant.
        """
        module, _, definition = self.place.partition(":")
        path = self._module(root, module)
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        first, last = self._lines(text, definition) if definition else (1, len(lines))
        before, after = "".join(lines[: first - 1]), "".join(lines[last:])
        within = "".join(lines[first - 1 : last])
        found = within.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.id}: {self.place} holds {self.old!r} {found} times, not once"
            )
        path.write_text(before + within.replace(self.old, self.new) + after)
        return path, text

    def _module(self, root: Path, module: str) -> Path:
        end = "/" + module.replace(".", "/") + ".py"
        found = [path for path in _modules(root) if path.as_posix().endswith(end)]
        if len(found) != 1:
            raise ValueError(f"{self.id}: {len(found)} modules are called {module}")
        return found[0]

    def _lines(self, text: str, definition: str) -> tuple[int, int]:
        """First and last line of the definition, its decorators included."""
        node = ast.parse(text)
        for name in definition.split("."):
            named = [n for n in _definitions(node) if n.name == name]
            if len(named) != 1:
                raise ValueError(
                    f"{self.id}: {self.place}: {len(named)} are called {name}"
                )
            node = named[0]
        first = min(n.lineno for n in [node, *node.decorator_list])
        return first, node.end_lineno


@cache
def _modules(root: Path) -> list[Path]:
    return [path for room in ROOMS for path in (root / room).rglob("*.py")]


def _definitions(node: ast.AST) -> Iterator[ast.AST]:
    """Functions and classes in a node that are in no other definition of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            yield child
        else:
            yield from _definitions(child)


def check(steps: str, promise: str, study: str = RATIO, **symbols: str) -> Check:
    """Check(…) of a study, RATIO unless said."""
    return Check(study, steps, promise, tuple(symbols.items()))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the shell patterns fits, or there are none."""
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)
