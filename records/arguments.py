"""The words of a command line, refused in the form in which they were typed.

Through make an option is a variable of the environment, TEMPERATURE=hot; without, it is
--temperature=hot. Which one was typed is seen from the environment: an option is the
variable of its name, with the same value.
"""

import argparse
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

MUST = ": must be "


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are a line: `error: TEMPERATURE=hot: not a number`.

    variables: {flag: variable of make} where they do not have the same name.
    """

    def __init__(self, doc: str | None, variables: dict[str, str] | None = None):
        super().__init__(
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            exit_on_error=False,
        )
        self.variables = variables or {}

    def parse_args(
        self, args: Sequence[str] | None = None, namespace=None
    ) -> argparse.Namespace:
        """As argparse; a value that its type refuses is named as it was typed."""
        try:
            return super().parse_args(args, namespace)
        except argparse.ArgumentError as error:
            self.error(self._typed(error.argument_name, error.message))

    def _typed(self, flag: str | None, refusal: str) -> str:
        """The refusal `VALUE: must be …` with the name that the value was given to."""
        if flag is None:
            return refusal
        first = flag.split("/")[0]
        variable = self.variables.get(first, first.lstrip("-"))
        variable = variable.replace("-", "_").upper()
        value = os.environ.get(variable)
        if value is not None and refusal.startswith(f"{value}: "):
            return f"{variable}={refusal}"
        return f"{first}={refusal}" if MUST in refusal else f"{first}: {refusal}"

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the line."""
        self.exit(2, f"error: {message}\n")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a whole number from `least` to `most`."""
    wanted = f"a whole number, at least {least}"
    if most is not None:
        wanted = f"a whole number from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise _refusal(text, wanted) from None
        if number < least or (most is not None and number > most):
            raise _refusal(text, wanted)
        return number

    return read


def real(wanted: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """The type of a finite number that fits; `wanted` says which do: "at least 0"."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise _refusal(text, f"a number {wanted}") from None
        if not (math.isfinite(number) and fits(number)):
            raise _refusal(text, f"a number {wanted}")
        return number

    return read


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """The type of one of these names."""
    known = tuple(names)

    def read(text: str) -> str:
        if text not in known:
            raise _refusal(text, f"one of {', '.join(known)}")
        return text

    return read


def some_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of some of these names, separated by commas."""
    known = tuple(names)

    def read(text: str) -> list[str]:
        found = text.split(",")
        if not set(found) <= set(known):
            raise _refusal(text, f"some of {','.join(known)}, separated by commas")
        return found

    return read


def file(text: str) -> Path:
    """The type of a file that is there."""
    if not os.path.isfile(text):
        raise _refusal(text, "a file that is there")
    return Path(text)


def _refusal(text: str, wanted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text}{MUST}{wanted}")
