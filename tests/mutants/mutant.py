"""What a mutant is: one small sabotage of the source, and what must notice it."""

from dataclasses import dataclass
from pathlib import Path

RATIO, ATTENTION = "gpt2-ratio-ablation", "gpt2-attention-ablation"
LLAMA = "llama-85m-ablation"


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
    """old, which occurs exactly once in the file, becomes new."""

    id: str
    what: str
    file: str
    old: str
    new: str
    catcher: Check | Test

    def apply(self, root: Path) -> str:
        """Change the file below root; its former text. Raises ValueError when the
        source has moved away from under the mutant.
        """
        path = root / self.file
        text = path.read_text()
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.id}: {self.file} holds {self.old!r} {found} times, not once"
            )
        path.write_text(text.replace(self.old, self.new))
        return text


def check(steps: str, promise: str, study: str = RATIO, **symbols: str) -> Check:
    """Check(…) of a study, RATIO unless said."""
    return Check(study, steps, promise, tuple(symbols.items()))
