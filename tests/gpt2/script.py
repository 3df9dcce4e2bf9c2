"""Time that passes only where a script says so, for runs whose clocks are checked.

Every amount is a whole number of 1/1024 s, so that sums of them are exact and a wrong
one tells what was counted too much. Work that is queued on a device takes its time at
the next synchronisation. The wall clock runs backwards: a duration taken from it is
negative.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2.data.loading.corpus import Corpus
from gpt2.distributed.ddp import DataParallel
from gpt2.pruning import Pruner
from gpt2.training import cell, checkpoint, clock, device, trainer
from gpt2.training.stop_signals import StopSignals
from gpt2.training.update import OnePass, Update
from records import heartbeat, progress_line
from records.lease import Lease
from records.progress_line import Steps

COST = {
    "setup": 20001,  # of the device, before the model
    "build": 70001,  # the model, the optimizer, the working copy
    "resume": 40001,
    "feed": 7,  # waiting for a step's batches
    "micro": 67,  # a micro-batch, on the host
    "device": 131,  # a step's work that is queued on the device
    "update": 31,
    "prune": 19,
    "refresh": 11,
    "show": 13,  # a logged row
    "beat": 5,
    "ask": 3,  # for a stop signal
    "eval": 4099,
    "window": 257,  # within an evaluation, per micro-batch
    "look": 8209,  # attention statistics
    "save": 16411,
    "weights": 9001,  # model.pt
}


def seconds(**counts: int) -> float:
    """What so many of each take."""
    return sum(COST[name] * count for name, count in counts.items()) / 1024


@dataclass
class Script:
    """The time; `happened` counts what took it, `on` holds what else is to be done
    when something happens for the n-th time.
    """

    now: float = 0.0
    queued: float = 0.0
    happened: Counter = field(default_factory=Counter)
    on: dict[tuple[str, int], Callable[[], Any]] = field(default_factory=dict)
    shown: list[float] = field(default_factory=list)

    def take(self, name: str) -> None:
        """Something happens, and takes its time."""
        self.happened[name] += 1
        if name == "device":
            self.queued += seconds(device=1)
        else:
            self.now += seconds(**{name: 1})
        act = self.on.get((name, self.happened[name]))
        if act is not None:
            act()

    def synchronize(self, kind: str) -> None:
        """The device finishes what is queued."""
        self.now, self.queued = self.now + self.queued, 0.0

    @property
    def clocks(self) -> SimpleNamespace:
        """What stands for the module `time`; each clock has an epoch of its own."""
        return SimpleNamespace(
            perf_counter=lambda: 500 + self.now,
            monotonic=lambda: 7000 + self.now,
            time=lambda: 1e6 - self.now,
        )


def install(script: Script, patch: pytest.MonkeyPatch) -> None:
    """Have everything that a run does take the script's time."""
    for module in (clock, trainer, cell, progress_line, heartbeat):
        patch.setattr(module, "time", script.clocks)
    patch.setattr(device, "synchronize", script.synchronize)

    def around(owner: Any, name: str, before: str = "", after: str = "") -> None:
        plain = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            if before:
                script.take(before)
            found = plain(*arguments, **named)
            if after:
                script.take(after)
            return found

        patch.setattr(owner, name, timed)

    around(device, "configure", "setup")
    around(cell, "_build", "build")
    around(checkpoint, "resume", "resume")
    around(checkpoint, "save", "save")
    around(checkpoint, "save_weights", "weights")
    around(DataParallel, "micro_batch", "micro")
    for kind in (Update, OnePass):
        around(kind, "step", "device", "update")
        around(kind, "refresh", "refresh")
    around(Pruner, "after_step", "prune")
    around(trainer, "evaluate", "eval")
    around(trainer, "attention_stats", "look")
    around(StopSignals, "requested", "ask")
    around(Lease, "beat", "beat")
    between, show = trainer.Trainer._between_windows, Steps.step
    batches = Corpus.batches

    def window(self: trainer.Trainer) -> None:
        script.take("window")
        between(self)

    def shown(self: Steps, done: int, text: str) -> None:
        script.shown.append(script.now)
        script.take("show")
        show(self, done, text)

    def fed(self: Corpus, *arguments: Any) -> Any:
        for step in batches(self, *arguments):
            script.take("feed")
            yield step

    patch.setattr(trainer.Trainer, "_between_windows", window)
    patch.setattr(Steps, "step", shown)
    patch.setattr(Corpus, "batches", fed)
