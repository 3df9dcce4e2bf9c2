"""Ctrl-C: an end with checkpoints, and the same bits after the next make."""

import os
import signal
import time

import pytest


@pytest.mark.slow
def test_ctrl_c_and_go_on(checkout, wait_until, curve, starts):
    checkout.toy(
        GPT2_MAX_ITERS="600",
        GPT2_EVAL_INTERVAL="50",
        CHECKPOINT_INTERVAL="0",
        GPT2_DROPOUT='"0.1"',
    )
    assert checkout.make("data").status == 0
    assert checkout.make(OUTPUT="calm").status == 0
    calm = checkout.cells("calm")

    def under_way() -> bool:
        steps = [cell.step for cell in checkout.cells().values()]
        return len(steps) == 2 and min(steps) > 20

    make = checkout.start()
    wait_until(under_way, 120)
    began = time.monotonic()
    os.killpg(make.pid, signal.SIGINT)  # what a terminal does
    output, _ = make.communicate(timeout=60)
    seconds = time.monotonic() - began
    print(f"\nended {seconds:.1f} s after Ctrl-C with status {make.returncode}")
    assert make.returncode and seconds < 30, output
    assert "Traceback" not in output, output
    last = [line for line in output.splitlines() if not line.startswith("make: ***")]
    assert last[-1] == "interrupted; make goes on from here"
    assert checkout.trainers() == []
    stopped = checkout.cells()
    for name, cell in stopped.items():
        assert cell.state == "interrupted", f"{name} is {cell.state}:\n{output}"
        assert cell.attempts[-1]["status"] == "stopped"
        assert 20 < cell.attempts[-1]["step"] < 600
        step = cell.attempts[-1]["step"]
        assert [path.name for path in cell.dir.checkpoint_dir.iterdir()] == [
            f"step-{step:09d}.pt"
        ]
        torn = cell.dir.checkpoint_dir / ".step-000000099.pt.0123abcd.tmp"
        torn.write_bytes(b"what a kill in the middle of a checkpoint leaves")

    done = checkout.make()
    assert done.status == 0, done.output
    assert all(
        f"interrupted, goes on from the checkpoint of step {cell.attempts[-1]['step']}\n"
        in done.output
        for cell in stopped.values()
    )
    cells = checkout.cells()
    assert set(cells) == set(calm)
    for name, cell in cells.items():
        assert starts(cell) == 2
        assert "resumed at step" in cell.dir.train_log.read_text()
        assert curve(cell) == curve(calm[name]), f"{name} took another course"
        left = [path.name for path in cell.dir.checkpoint_dir.iterdir()]
        assert left == ["model.pt"], f"{name}: a torn checkpoint stays for ever"
