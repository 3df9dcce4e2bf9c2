"""A study of tiny cells, disturbed until a number of faults is spent.

Round after round the study runs to its end in an output of its own; while it
runs, faults come at random moments. After each round every cell must have come
to its end exactly once, and every curve must equal the undisturbed one bit for
bit. A seed decides which faults come in which order; moments and victims follow
it as far as the machine's own timing lets them.
"""

import importlib.util
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from records.cell import CellRecord
from tests.chaos import faults
from tests.chaos.faults import Scene, Volume
from tests.e2e.conftest import Checkout

STUDY = {
    "SEEDS": '"1-2"',
    "GPT2_MAX_ITERS": "600",
    "GPT2_EVAL_INTERVAL": "150",
    "LOG_INTERVAL": "10",
    "CHECKPOINT_INTERVAL": "50",
    "GPT2_DROPOUT": '"0.1"',
    "WATCHDOG_SECONDS": "30",
    "WATCHDOG_RETRIES": "1000",
}
CELLS = 4
MIRRORED = {"TRACKER": '"wandb"', "WANDB_MODE": '"offline"'}
"""Added where wandb is installed: without a tracker there is no mirror to kill."""

# Kind of fault -> its share.
SHARES = {
    "runner": 20,
    "training": 30,
    "mirror": 10,
    "checkpoint": 18,
    "disk": 14,
    "stop": 8,
}
SIMPLE: dict[str, Callable[[Scene], str | None]] = {
    "runner": faults.kill_runner,
    "training": faults.kill_training,
    "mirror": faults.kill_helper,
    "checkpoint": faults.damage_checkpoint,
}
PATIENCE = 240.0
"""Seconds after which a study that does not move is a failure of its own."""
FULL = 6.0
"""Seconds a disk stays full at most."""
LAST = 8
"""Undisturbed makes until a round has to be done."""
CLOCKS = ("time", "tokens_per_s", "mfu", "attempt")


class Broken(AssertionError):
    """The study did not survive; the message says what."""


class Make:
    """A make under way and what it printed."""

    def __init__(self, checkout: Checkout, output: str):
        self.checkout, self.output = checkout, output
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        """Again, after its end; `lines` go on."""
        self.process = self.checkout.start(OUTPUT=self.output)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self.process.poll()

    def wait(self) -> int:
        """To its end; the exit status."""
        status = self.process.wait()
        self._reader.join(10)
        return status


class Storm:
    """`count` faults over the study of `checkout`, by `seed`."""

    def __init__(self, checkout: Checkout, seed: int, say: Callable[[str], None]):
        self.checkout, self.say = checkout, say
        self.rng = random.Random(seed)
        self.mirrored = importlib.util.find_spec("wandb") is not None
        self.shares = {
            k: n for k, n in SHARES.items() if self.mirrored or k != "mirror"
        }
        self.spent: Counter[str] = Counter()
        self.hung = 0
        self.attempts = 0
        self.resumed = 0
        self.rounds = 0

    def prepare(self) -> None:
        """Configure, pack, and run the study once in peace."""
        self.checkout.toy(**STUDY, **(MIRRORED if self.mirrored else {}))
        for targets, output in ((["data"], "calm"), ([], "calm")):
            done = self.checkout.make(*targets, OUTPUT=output)
            if done.status:
                raise Broken(f"undisturbed make {targets}:\n{done.output}")
        cells = self.checkout.cells("calm")
        self.calm = {name: curve(cell) for name, cell in cells.items()}
        if len(self.calm) != CELLS:
            raise Broken(f"{len(self.calm)} cells")

    def rage(self, count: int) -> None:
        """Rounds until `count` faults are spent."""
        while sum(self.spent.values()) < count:
            self.rounds += 1
            output = f"stormy-{self.rounds}"
            volume = Volume(self.checkout.root / output)
            try:
                self._round(output, volume, count)
                self._verify(output)
            finally:
                volume.free()
                volume.close()

    def _round(self, output: str, volume: Volume, count: int) -> None:
        """Faults until the cells are done or the count is reached; then peace."""
        make = Make(self.checkout, output)
        while sum(self.spent.values()) < count:
            time.sleep(self.rng.uniform(0.1, 2.0))
            if make.status() is not None:
                if make.wait() == 0:
                    break
                make.start()
            kind = self.rng.choices([*self.shares], [*self.shares.values()])[0]
            scene = Scene(self.checkout, output, self.rng, make.process)
            done = self._strike(kind, scene, volume, make)
            if done is not None:
                self.spent[kind] += 1
                number = sum(self.spent.values())
                self.say(f"{number:4d} {kind:10s} {done}")
        make.wait()
        for _ in range(LAST):
            if make.status() == 0:
                break
            make.start()
            make.wait()
        self.hung += sum("starting again" in line for line in make.lines)
        if make.status():
            raise Broken(f"not done after {LAST} makes:\n{''.join(make.lines[-60:])}")

    def _strike(
        self, kind: str, scene: Scene, volume: Volume, make: Make
    ) -> str | None:
        """One fault; what was done, None when there is nobody to hit any more."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if kind == "disk":
                done = self._fill(scene, volume)
                if done is not None:
                    return done
            elif kind == "stop":
                done = faults.stop_training(scene)
                if done is not None:
                    self._wait_for_watchdog(done[1], make)
                    return done[0]
            else:
                done = SIMPLE[kind](scene)
                if done is not None:
                    return done
            if make.status() is not None:
                return None
            time.sleep(0.1)
        raise Broken(f"nothing to hit by {kind} in {PATIENCE:.0f} s")

    def _fill(self, scene: Scene, volume: Volume) -> str | None:
        """A full disk until a cell has fallen over it, or for a while."""
        before = scene.busy(saved=False)
        if not before:
            return None
        volume.fill()
        deadline = time.monotonic() + self.rng.uniform(0.5, FULL)
        while time.monotonic() < deadline:
            if self.rng.random() < 0.05 or not scene.checkout.trainers():
                break
            time.sleep(0.1)
        volume.free()
        return f"filled the disk under {', '.join(name for name, _ in before)}"

    def _wait_for_watchdog(self, pid: int, make: Make) -> None:
        """Until the stopped process is gone, by this make or one after it."""
        deadline = time.monotonic() + PATIENCE
        while faults.end(pid, 0):
            if make.status() is not None:  # its cells failed: the next one watches
                make.wait()
                make.start()
            if time.monotonic() > deadline:
                raise Broken(f"{pid} was stopped and nobody killed it")
            time.sleep(0.2)

    def _verify(self, output: str) -> None:
        """Each cell done once, each curve the calm one, nothing done again."""
        cells = self.checkout.cells(output)
        if set(cells) != set(self.calm):
            raise Broken(f"{output} holds {sorted(cells)}")
        for name, cell in cells.items():
            self._verify_cell(name, cell)
        summaries = {name: cell.summary for name, cell in cells.items()}
        again = self.checkout.make(OUTPUT=output)
        after = self.checkout.cells(output)
        if again.status or {n: c.summary for n, c in after.items()} != summaries:
            raise Broken(f"a make after the storm:\n{again.output}")

    def _verify_cell(self, name: str, cell: CellRecord) -> None:
        starts = [row for row in cell.attempts if row["event"] == "start"]
        done = [row for row in cell.attempts if row.get("status") == "done"]
        log = cell.dir.train_log.read_text(errors="replace")
        self.attempts += len(starts)
        self.resumed += log.count("resumed at step")
        if cell.state != "done" or len(done) > 1:
            raise Broken(f"{name} is {cell.state}, {len(done)} times done")
        if [row["attempt"] for row in starts] != list(range(1, len(starts) + 1)):
            raise Broken(f"{name}: attempts {[row['attempt'] for row in starts]}")
        if done and done[0] is not cell.attempts[-1]:
            raise Broken(f"{name} was trained after it was done")
        if curve(cell) != self.calm[name]:
            raise Broken(f"{name} took another course")


def curve(cell: CellRecord) -> Any:
    """What must be equal bit for bit: rows without clocks, and the weights."""
    rows = [*cell.train, *cell.evals]
    kept = [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
    return kept, cell.summary["model_sha256"]
