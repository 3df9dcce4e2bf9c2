"""Mutants of what keeps a study whole when something breaks."""

from tests.mutants.mutant import Mutant, Test

SURVIVE, DISK = (
    "tests/gpt2/training/test_survive.py",
    "tests/gpt2/training/test_survive_disk.py",
)
DOG, AGAIN = "tests/matrix/launch/test_watchdog.py", "tests/matrix/plan/test_rerun.py"

SURVIVAL = [
    Mutant(
        "divergence-one-late",
        "a step that diverged is named one too late",
        "divergence:DivergenceWatch.watch",
        "self._pending.append(_PendingStep(step, numbers",
        "self._pending.append(_PendingStep(step + 1, numbers",
        Test(f"{SURVIVE}::test_on_a_gpu_the_step_is_found_late_and_is_the_right_one"),
    ),
    Mutant(
        "divergence-waits",
        "every step waits for the device",
        "divergence:DivergenceWatch.watch",
        "len(self._pending) > DELAY or self._has_arrived()",
        "self._pending",
        Test(f"{SURVIVE}::test_on_a_gpu_nothing_is_waited_for_in_the_meantime"),
    ),
    Mutant(
        "diverged-after-checkpoint",
        "the checkpoint beside a diverged step is one after it",
        "checkpoint:newest",
        "checkpoints.step_of(p) <= step",
        "checkpoints.step_of(p) < step",
        Test(
            f"{SURVIVE}::test_a_diverged_run_names_the_step_and_keeps_what_it_saw",
        ),
    ),
    Mutant(
        "generators-after-the-step",
        "the generators kept are those after the step",
        "trainer:Trainer._step",
        "self.divergence.watch(step, self._loss, self._norm, states)",
        "self.divergence.watch(step, self._loss, self._norm, generators(self.kind))",
        Test(
            f"{SURVIVE}::test_a_diverged_run_names_the_step_and_keeps_what_it_saw",
        ),
    ),
    Mutant(
        "checkpoint-unchecked",
        "a flipped bit of a checkpoint becomes another weight",
        "checkpoints:require_intact",
        "damaged = archive.testzip()",
        "damaged = None",
        Test(f"{SURVIVE}::test_a_checkpoint_damaged_anywhere_is_left_out"),
    ),
    Mutant(
        "stop-without-deadline",
        "a step that never ends is never left",
        "stop_signals:Deadline.__enter__",
        "signal.set_wakeup_fd(self._write.fileno())",
        "-1",
        Test(f"{SURVIVE}::test_a_step_that_never_ends_is_left_in_time"),
    ),
    Mutant(
        "short-row-stays",
        "what a full disk took of a row stays in the file",
        "jsonl:Appender.append",
        "os.ftruncate(self._fd, size)",
        "pass",
        Test("tests/records/test_jsonl.py::test_a_short_write_is_an_error"),
    ),
    Mutant(
        "attempt-by-wall-clock",
        "an attempt's seconds follow the clock that was set back",
        "records.cell:spent_seconds",
        'total += row["seconds"]',
        'total += row["time"] - starts[row["attempt"]]',
        Test(
            "tests/records/test_heartbeat.py::"
            "test_time_is_what_a_clock_that_nobody_sets_says"
        ),
    ),
    Mutant(
        "watchdog-asleep",
        "a heartbeat that stops is never seen",
        "watchdog:Watchdog.stalled_for",
        "if not self.limit or now - since < self.limit:",
        "if True:",
        Test(f"{DOG}::test_a_heartbeat_that_stops_is_seen_once_per_limit"),
    ),
    Mutant(
        "watchdog-kills-strangers",
        "a process that has the number of a dead one is signalled",
        "watchdog:_trains",
        'return str(cell.path).encode() in command.split(b"\\0")',
        "return bool(command)",
        Test(f"{DOG}::test_a_number_that_came_again_is_not_killed"),
    ),
    Mutant(
        "diverged-again",
        "a diverged cell is run by every make",
        "cells:Plan.pending",
        'settled.add("diverged")',
        "pass",
        Test(f"{DOG}::test_diverged_cells_are_left_alone_until_asked_for"),
    ),
    Mutant(
        "failure-of-before",
        "a failure of before keeps a cell from being run",
        "launch.local:Runner._settled",
        "stamp(cell.dir) != self._before[cell.hash]",
        "True",
        Test(f"{DOG}::test_a_clock_that_was_ahead_does_not_hold_a_cell_back"),
    ),
    Mutant(
        "rerun-overwrites",
        "the second rerun takes the place of the first",
        "rerun:_aside",
        "number += 1",
        "break",
        Test(f"{AGAIN}::test_rerun_moves_aside_and_overwrites_nothing"),
    ),
    Mutant(
        "gpu-zero-for-unknown",
        "what the driver does not give is written as 0",
        "gpu_monitor:row_of",
        "n: reading[quantity]\n"
        "            for n, reading in enumerate(readings)\n"
        "            if quantity in reading\n",
        "n: reading.get(quantity, 0.0)\n"
        "            for n, reading in enumerate(readings)\n",
        Test("tests/gpt2/training/test_gpu_monitor.py::test_amd_through_sysfs"),
    ),
]

SECTIONS = {"What breaks": SURVIVAL}
