"""Facts of the models a plan is about to train: parameters, FLOPs, tokens.

The planner does not import the model; it asks the training program, in a
process of its own, and remembers the answer by configuration and code.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from kconf import config_py
from matrix import units
from records import atomic, kinds
from records.codehash import FROM_SNAPSHOT
from records.doing import doing
from records.entry import UTF8
from records.fields import COUNT
from records.fields import FACTS as KNOWN
from records.layout import RecordError, read_json

Facts = Mapping[str, Any]
Provider = Callable[[Sequence[Path]], list[dict[str, Any]]]
BY_KIND = kinds.mapped(COUNT)
NEEDED = kinds.fields(
    {"parameters": COUNT, "flops_per_token": COUNT}
    | {"optimizer_bytes": BY_KIND, "pruning_bytes": BY_KIND},
    KNOWN,
)
"""What a plan reads of a model's facts."""
ENTRY = "gpt2/train_ra_mla.py"


class FactsError(Exception):
    """The training program did not describe its models."""


def ask(python: str, code_root: Path, root: Path) -> Provider:
    """A provider that runs `PY gpt2/train_ra_mla.py --facts CONFIG_PY…` in `root`."""

    def provider(paths: Sequence[Path]) -> list[dict[str, Any]]:
        entry = str(code_root / ENTRY)
        with doing(f"counting what {units.plural(len(paths), 'model')} cost"):
            done = subprocess.run(
                [python, entry, "--facts", *map(str, paths)],
                capture_output=True,
                encoding="utf-8",
                check=False,
                cwd=root,
                env={**os.environ, **UTF8, "OMP_NUM_THREADS": "1", **FROM_SNAPSHOT},
            )
        if done.returncode:
            raise FactsError(
                f"{entry} --facts ended with status {done.returncode}:\n"
                + done.stderr.strip()
            )
        lines = done.stdout.splitlines()
        if len(lines) != len(paths):
            raise FactsError(
                f"{entry} --facts answered {len(lines)} lines for {len(paths)} "
                f"configurations:\n{done.stdout}"
            )
        return [json.loads(line) for line in lines]

    return provider


def gather(
    wanted: Mapping[str, Mapping[str, Any]],
    operational: frozenset[str],
    cache: Path,
    provider: Provider,
) -> dict[str, Facts]:
    """{key: facts} for {key: values}; answers are kept in the file `cache`.

    A key names configuration and code. A cache that cannot be read is asked for
    anew, with a printed note. Raises FactsError.
    """
    known = _remembered(cache)
    missing = [key for key in wanted if key not in known]
    if missing:
        with tempfile.TemporaryDirectory() as scratch:
            paths = [Path(scratch) / f"{n:04d}.py" for n in range(len(missing))]
            for path, key in zip(paths, missing):
                config_py.write(path, wanted[key], operational)
            known.update(zip(missing, provider(paths)))
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(cache, known)
        except OSError as error:  # a plan can be read where nothing can be written
            print(f"note: the facts are not kept: {error}")
    return {key: known[key] for key in wanted}


def _remembered(cache: Path) -> dict[str, Any]:
    """The answers in the cache; none, with a note, when it is damaged."""
    try:
        known = read_json(cache, kinds.mapped(NEEDED))
    except FileNotFoundError:
        return {}
    except RecordError as error:
        print(f"note: {error}; the facts are computed again")
        return {}
    return known
