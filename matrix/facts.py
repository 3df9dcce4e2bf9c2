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
from records import atomic
from records.layout import read_json

Facts = Mapping[str, Any]
Provider = Callable[[Sequence[Path]], list[dict[str, Any]]]
ENTRY = "gpt2/train_ra_mla.py"


class FactsError(Exception):
    """The training program did not describe its models."""


def ask(python: str, code_root: Path, root: Path) -> Provider:
    """A provider that runs `PY gpt2/train_ra_mla.py --facts CONFIG_PY…` in `root`."""

    def provider(paths: Sequence[Path]) -> list[dict[str, Any]]:
        entry = str(code_root / ENTRY)
        done = subprocess.run(
            [python, entry, "--facts", *map(str, paths)],
            capture_output=True,
            text=True,
            check=False,
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
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

    A key names configuration and code. Raises FactsError.
    """
    known: dict[str, Any] = read_json(cache) if cache.exists() else {}
    missing = [key for key in wanted if key not in known]
    if missing:
        with tempfile.TemporaryDirectory() as scratch:
            paths = [Path(scratch) / f"{n:04d}.py" for n in range(len(missing))]
            for path, key in zip(paths, missing):
                config_py.write(path, wanted[key], operational)
            known.update(zip(missing, provider(paths)))
        cache.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(cache, known)
    return {key: known[key] for key in wanted}
