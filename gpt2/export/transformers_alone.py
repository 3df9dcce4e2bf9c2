"""What transformers computes of folders of FORMAT=hf, in a process that has not this
project (gpt2/export/loaded_alone.py) and may run what they bring.

Legend: B sequences, T tokens, V tokens of the tokenizer.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2.export.bundle import ExportError

SCRIPT = Path(__file__).with_name("loaded_alone.py")


@dataclass(frozen=True)
class Loaded:
    """logits_BTV of one pass; cached: how far a decode through a cache is from them;
    texts: greedy tokens with a cache and without; keys that were missing or unexpected.
    """

    kind: str
    logits_BTV: torch.Tensor
    cached: float
    texts: tuple[list[int], list[int]]
    missing: list[str]
    unexpected: list[str]

    def require_whole(self, place: Path, tolerance: float) -> None:
        """Raise ExportError where tensors were missing or over, or where a decode
        through the cache is not what one pass computes.
        """
        for what, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            if keys:
                raise ExportError(f"{place}: {keys[0]} is {what} in transformers")
        if not self.cached <= tolerance:
            raise ExportError(
                f"{place}: in transformers a decode through the cache differs by "
                f"{self.cached:.3g} from one pass"
            )


def load(places: list[Path], tokens_BT: torch.Tensor) -> list[Loaded]:
    """Of each folder. Raises ExportError with the last line of what failed.

    The process is isolated (-I: no PYTHONPATH, no packages of the user), stands in an
    empty folder, asks no network, and keeps the code that it runs in that folder.
    """
    with tempfile.TemporaryDirectory(prefix="kablate-export-") as folder:
        tokens = Path(folder) / "tokens.json"
        tokens.write_text(json.dumps(tokens_BT.tolist()), encoding="utf-8")
        modules = str(Path(folder) / "modules")
        offline = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": modules}
        done = subprocess.run(
            [sys.executable, "-I", SCRIPT, tokens, folder, *map(Path.absolute, places)],
            cwd=folder,
            env={**os.environ, **offline, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
        )
        if done.returncode:
            last = (
                done.stderr.decode(errors="replace").strip() or "no message"
            ).splitlines()[-1]
            raise ExportError(f"{places[0]}: transformers cannot compute it: {last}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [
            Loaded(
                line["class"],
                _logits(Path(folder) / f"{number}.bin", tokens_BT),
                line["cached"],
                tuple(line["texts"]),
                line["missing"],
                line["unexpected"],
            )
            for number, line in enumerate(lines)
        ]


def _logits(path: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32)
    return flat.view(*tokens_BT.shape, -1)
