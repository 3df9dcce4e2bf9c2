"""What can happen to a study, on purpose: every fault picks its victim by a seed."""

import os
import random
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from records.cell import CellRecord
from records.lease import is_held
from tests.e2e.conftest import Checkout, processes

MOUNT_SIZE = "192m"


class Volume:
    """A small file system of its own, for a disk that can be full."""

    def __init__(self, path: Path):
        """Raises PermissionError where mounting is not allowed."""
        self.path, self.ballast = path, path / ".ballast"
        path.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_SIZE}", "tmpfs", str(path)]
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            path.rmdir()
            raise PermissionError(f"no tmpfs can be mounted here: {error}") from None

    def fill(self) -> None:
        """Take every byte that is left."""
        with open(self.ballast, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                return

    def free(self) -> None:
        """Give them back."""
        self.ballast.unlink(missing_ok=True)

    def writable(self, yes: bool) -> None:
        """Mount it again for reading alone, or for both."""
        options = f"remount,{'rw' if yes else 'ro'}"
        subprocess.run(["mount", "-o", options, str(self.path)], check=True)

    def close(self) -> None:
        """Unmount; what lay there is gone."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)
        self.path.rmdir()


@dataclass
class Scene:
    """The study while it runs, as the faults see it."""

    checkout: Checkout
    output: str
    rng: random.Random
    make: subprocess.Popen

    def cells(self) -> dict[str, CellRecord]:
        """Every cell by name."""
        return self.checkout.cells(self.output)

    def pid_of(self, cell: CellRecord) -> int | None:
        """The process that trains the cell."""
        holder = is_held(cell.dir.lease)
        return holder.pid if holder and holder.pid else None

    def busy(self, saved: bool) -> list[tuple[str, int]]:
        """(name, pid) of the cells in training; `saved`: that wrote a checkpoint."""
        found = []
        for name, cell in self.cells().items():
            pid = self.pid_of(cell)
            starts = [row for row in cell.attempts if row["event"] == "start"]
            if not pid or not starts or starts[-1]["pid"] != pid:
                continue
            since = starts[-1]["time"]
            files = cell.dir.checkpoint_dir.glob("step-*.pt")
            if not saved or any(_modified(path) > since for path in files):
                found.append((name, pid))
        return sorted(found)

    def helpers(self) -> list[int]:
        """Processes below the runner that do not train: mirrors of the metrics."""
        runner = self.checkout.runner(self.make)
        return sorted(
            pid
            for pid, (parent, argv) in processes().items()
            if runner and parent == runner and "matrix.trackers" in " ".join(argv)
        )


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # replaced by a newer one meanwhile
        return 0.0


def end(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process; False when it ended by itself."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_runner(scene: Scene) -> str | None:
    """kill -9 of the runner; its cells train on."""
    runner = scene.checkout.runner(scene.make)
    if runner is None or not end(runner):
        return None
    return f"killed the runner {runner}"


def kill_training(scene: Scene) -> str | None:
    """kill -9 of a training process."""
    found = scene.busy(saved=scene.rng.random() < 0.7)
    if not found:
        return None
    name, pid = scene.rng.choice(found)
    return f"killed {name}, {pid}" if end(pid) else None


def kill_helper(scene: Scene) -> str | None:
    """kill -9 of a mirror of the metrics."""
    found = scene.helpers()
    if not found:
        return None
    pid = scene.rng.choice(found)
    return f"killed the mirror {pid}" if end(pid) else None


def damage_checkpoint(scene: Scene) -> str | None:
    """Cut or overwrite the newest checkpoint of a training process, and kill it."""
    found = scene.busy(saved=True)
    if not found:
        return None
    name, pid = scene.rng.choice(found)
    if not end(pid):
        return None
    files = sorted(scene.cells()[name].dir.checkpoint_dir.glob("step-*.pt"))
    if not files:  # it had come to its end
        return f"killed {name}, {pid}"
    size = files[-1].stat().st_size
    place = scene.rng.randrange(size)
    if scene.rng.random() < 0.5:
        os.truncate(files[-1], place)
        return f"killed {name}, {pid}, and cut {files[-1].name} at {place} of {size}"
    with open(files[-1], "r+b") as file:
        file.seek(place)
        file.write(scene.rng.randbytes(min(4096, size - place)))
    return f"killed {name}, {pid}, and overwrote {files[-1].name} at {place}"


def stop_training(scene: Scene) -> tuple[str, int] | None:
    """SIGSTOP of a training process, for the watchdog; what was done, and its pid."""
    found = scene.busy(saved=False)
    if not found:
        return None
    name, pid = scene.rng.choice(found)
    return (f"stopped {name}, {pid}", pid) if end(pid, signal.SIGSTOP) else None
