"""What the YAML of an lm-eval task would run, read without running it.

`!function module.name` has lm-eval import a module beside the YAML, or any that python
finds, as whoever evaluates.
"""

from pathlib import Path
from typing import Any, Iterator

import yaml

from gpt2.evaluation.errors import EvaluationError


class _Function(str):
    """What stands behind `!function`, not imported."""


class _Reader(yaml.SafeLoader):
    """A YAML with the names of its functions in place of them."""


def _named(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> _Function:
    return _Function(loader.construct_scalar(node))


_Reader.add_constructor("!function", _named)


def functions(path: Path, seen: tuple[Path, ...] = ()) -> list[str]:
    """ "NAME (FILE)" of each function that a YAML names, or one that it includes.

    Raises EvaluationError for a file that is no YAML, OSError for one that is missing.
    """
    where = path.resolve()
    if where in seen:
        return []
    try:
        config = yaml.load(where.read_bytes(), _Reader)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise EvaluationError(
            f"{path}: no YAML that lm-eval can read: {told}"
        ) from error
    found = [f"{name} ({where})" for name in _within(config)]
    more = config.get("include", []) if isinstance(config, dict) else []
    for other in more if isinstance(more, list) else [more]:
        found += functions(where.parent / str(other), (*seen, where))
    return list(dict.fromkeys(found))


def _within(value: Any) -> Iterator[_Function]:
    if isinstance(value, _Function):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _within(list(pair))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _within(item)
