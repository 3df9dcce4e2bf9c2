"""A study that the harness trained, to be corrupted."""

import shutil
from pathlib import Path

from records import evaluations, read
from records.jsonl import open_append
from records.layout import CellDir
from tests.e2e.conftest import Checkout

STEPS = {
    "00-control": "# Help: the base\n",
    "01-latent": "# Help: latents\nCONFIG_MLA=y\nCONFIG_MLA_LATENT=16\n",
    "02-wide": "# Help: a wider MLP\nCONFIG_MLP_DIM=192\n",
}
SYMBOLS = {
    "SEEDS": '"1-3"',
    "GPT2_MAX_ITERS": "6",
    "GPT2_EVAL_INTERVAL": "2",
    "LOG_ATTENTION_STATS": "y",
    "PRUNING_MAGNITUDE": "y",
}


def trained(root: Path) -> Path:
    """Train three steps of three seeds below `root`; returns it."""
    checkout = Checkout(root)
    checkout.toy(STEPS, **SYMBOLS)
    for target in ("data", "prereg", "all"):
        done = checkout.make(target)
        assert done.status == 0, done.output
    for path in root.glob("results/*/*/seed-*/*"):
        besides(CellDir(path))
    return root


def besides(cell: CellDir) -> None:
    """What a run has on a GPU and after an evaluation."""
    weights = read.summary(cell.summary)["model_sha256"]
    row = {"name": "held.txt", "kind": "text", "sha256": "5" * 64}
    row |= {"settings": {"context": 16, "stride": 8}, "model_sha256": weights}
    row |= {"metrics": {"loss": 3.5, "perplexity": 33.1}, "counts": {"tokens": 99}}
    evaluations.append(cell, {**row, "better": {"loss": "lower"}})
    with open_append(cell.gpu) as samples:
        for second in range(5):
            power = {"gpu/0/power_w": 300.0 + second, "gpu/power_avg_w": 300.0}
            head = {"attempt": 1, "time": 1.7e9 + second, "step": second}
            samples.append({**head, **power})


def copied(source: Path, target: Path) -> Path:
    """A study trained before, somewhere else."""
    return Path(shutil.copytree(source, target, symlinks=True))
