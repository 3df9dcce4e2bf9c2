"""python train_cells.py [--fault KIND] DATA_DIR RUN_DIR …

Several cells, one after the other, by the same ranks, which takes less time than a
start for each. With a fault, rank 1 does something wrong in step 12; with the fault
"clock" its clock runs three times as fast, and every rank leaves its learning rates
in rates-RANK.json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import torch  # noqa: E402

from gpt2.distributed.ranks import (  # noqa: E402
    from_environment,
    interface,
    joined,
)
from gpt2.training import clock  # noqa: E402
from gpt2.training.cell import execute  # noqa: E402
from gpt2.training.trainer import Trainer  # noqa: E402

STEP = 12
PATIENCE = {
    "hang": 20,
    "clock": 60,
}  # seconds; longer otherwise, because machines are loaded


def fail(trainer: Trainer, fault: str) -> None:
    """What goes wrong in rank 1, before the step."""
    model = trainer.run.distribution.model
    if fault == "raise":
        raise LookupError("planted in rank 1")
    if fault == "hang":
        time.sleep(600)
    with torch.no_grad():
        if fault == "weight":
            model.h[0].norm1.weight[0] += 1e-3
        elif fault == "nan":
            model.h[0].norm1.weight[0] = float("nan")


def plant(fault: str) -> None:
    """Let the fault happen."""
    step = Trainer._step

    def wrong(trainer, batches):
        if trainer.progress.step == STEP:
            fail(trainer, fault)
        step(trainer, batches)

    Trainer._step = wrong


class Fast:
    """The module time, where the clock of intervals runs three times as fast."""

    @staticmethod
    def perf_counter() -> float:
        """Seconds, too many."""
        return 3.0 * time.perf_counter()


def keep_rates(rank: int) -> None:
    """Have the trainer leave the learning rate of every step."""
    train = Trainer.train

    def kept(trainer):
        rates, step = [], trainer._step

        def noted(batches):
            step(batches)
            rates.append(trainer.run.optimizer.param_groups[0]["lr"])

        trainer._step = noted
        ended = train(trainer)
        path = trainer.run.checkpoints.parent / f"rates-{rank}.json"
        path.write_text(json.dumps(rates))
        return ended

    Trainer.train = kept


def main() -> int:
    """The largest of the cells' exit statuses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run_dirs", type=Path, nargs="+")
    options = parser.parse_args()
    os.environ.update(interface(os.environ))
    ranks = from_environment(os.environ)
    if options.fault == "clock":
        keep_rates(ranks.rank)
        if ranks.rank == 1:
            clock.time = Fast
    elif options.fault and ranks.rank == 1:
        plant(options.fault)
    with joined(ranks, "cpu", PATIENCE.get(options.fault, 300)) as ranks:
        return max(execute(d, options.data_dir, ranks) for d in options.run_dirs)


if __name__ == "__main__":
    sys.exit(main())
