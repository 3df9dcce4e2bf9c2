"""A training program that trains nothing and keeps the contract of a run.

Tests copy it to gpt2/train_ra_mla.py of a throw-away checkout. stub.json in
the working directory steers it: steps, sleep (seconds per step), and for a
step's id one of fail, diverge, crash, hang, stubborn, stall, stall-once, held-once,
import-error, no-summary; and losses: what each step's final loss is beyond 3.
"""

import argparse
import faulthandler
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from kconf import config_py  # noqa: E402
from records import atomic, provenance  # noqa: E402
from records.heartbeat import Heartbeat  # noqa: E402
from records.jsonl import open_append, read_rows  # noqa: E402
from records.layout import CellDir, read_record  # noqa: E402
from records.lease import Lease, LeaseHeld  # noqa: E402

STOP = []
PLACED = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "MASTER_PORT")
PLACED += ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "SLURM_JOB_ID")


def behaviour() -> dict:
    return {"steps": 3, "sleep": 0.01, **json.loads(Path("stub.json").read_text())}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--facts", nargs="+", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--ra-mla-ablation-step")
    options = parser.parse_args()
    if options.facts:
        parameters = behaviour().get("parameters", 1000)
        for path in options.facts:
            config_py.read(path)
            counts = {"parameters": parameters, "flops_per_token": 6000}
            kept = {"adamw": 8 * parameters, "adamwspam": 8 * parameters}
            masks = {"none": 0, "magnitude": parameters, "state": parameters}
            costs = {"optimizer_bytes": kept, "pruning_bytes": masks}
            print(json.dumps({**counts, **costs}))
        with open("facts-asked", "a", encoding="utf-8") as asked:
            asked.write(f"{len(options.facts)}\n")
        return 0
    if options.dry_run:
        print("dry run", options.ra_mla_ablation_step)
        return behaviour().get("dry_run", 0)
    cell = CellDir(options.run_dir)
    if os.environ.get("RANK", "0") != "0":
        return follow(cell)
    try:
        lease = Lease(cell.lease).acquire()
    except LeaseHeld:
        return 75
    with lease:
        if cell.summary.exists():
            return 0
        return attempt(cell, lease)


def follow(cell: CellDir) -> int:
    """A rank that waits for rank 0's last word."""
    Path(f"rank-{os.environ['RANK']}-of-{os.environ['WORLD_SIZE']}").touch()
    while not cell.summary.exists():
        time.sleep(0.05)
    return 0


def attempt(cell: CellDir, lease: Lease) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: STOP.append(n))
    run, rules = read_record(cell.run_json), behaviour()
    assert config_py.read(cell.config_py).values["SEED"] == run["cell"]["seed"]
    kind = rules.get(run["cell"]["step"])
    if kind == "import-error":
        raise ImportError("no such module")
    if kind == "held-once" and not Path("was-held").exists():
        Path("was-held").touch()
        return 75
    earlier = read_rows(cell.attempts) if cell.attempts.exists() else []
    k = 1 + sum(row["event"] == "start" for row in earlier)
    started = {"event": "start", "attempt": k, "time": time.time(), "pid": os.getpid()}
    started["environment"] = {name: os.environ.get(name) for name in PLACED}
    started["placement"] = provenance.placement()
    started["affinity"] = sorted(os.sched_getaffinity(0))
    with open_append(cell.attempts) as attempts, open_append(cell.metrics) as metrics:
        attempts.append({**started, "host": socket.gethostname()})
        cell.failure.unlink(missing_ok=True)
        status, step, code = train(cell, lease, rules, kind, k, metrics)
        end = {"event": "end", "attempt": k, "time": time.time(), "step": step}
        error = "RuntimeError: told to" if code == 1 else None
        if code == 1:
            record = {"attempt": k, "status": status, "exit_code": 1, "error": error}
            atomic.write_json(cell.failure, {**record, "time": time.time()})
        if status == "done" and kind != "no-summary":
            finish(cell, run["cell"]["hash"], step, k)
        attempts.append({**end, "status": status, "error": error})
    return code


def train(cell, lease, rules, kind, k, metrics) -> tuple[str, int, int]:
    saved = cell.checkpoint_dir / "step.json"
    step = json.loads(saved.read_text()) if saved.exists() else 0
    cell.checkpoint_dir.mkdir(exist_ok=True)
    print(f"attempt {k} from step {step}", flush=True)
    facts = {"max_iters": rules["steps"], "tokens_per_step": 10}
    metrics.append({"kind": "facts", "attempt": k, "step": step, **facts})
    heart = Heartbeat(cell.progress(), k, lambda: 0)
    faulthandler.register(signal.SIGUSR1, open(cell.stacks, "a"))
    while step < rules["steps"]:
        heart.beat(step, "training")
        time.sleep(rules["sleep"])
        row = {"kind": "train", "attempt": k, "step": step, "loss": 4.0 - step / 10}
        metrics.append({**row, "tokens_per_s": 100.0, "time": time.time()})
        step += 1
        lease.beat(step)
        atomic.write_json(saved, step)
        if STOP and kind != "stubborn":
            return "stopped", step, 128 + STOP[0]
        if kind == "fail":
            print("Traceback: told to", flush=True)
            return "failed", step, 1
        if kind == "diverge":
            return "diverged", step, 1
        while kind == "stall" or (kind == "stall-once" and k == 1):
            time.sleep(0.02)
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        while kind in ("hang", "stubborn") and not (STOP and kind == "hang"):
            time.sleep(0.02)
    row = {"kind": "eval", "attempt": k, "step": step, "loss": final_loss(cell)}
    metrics.append({**row, "tokens": 10 * step})
    return "done", step, 0


def final_loss(cell: CellDir) -> float:
    """3, or with the rule "losses" 3 + what it says of the step + noise over seeds."""
    shifts = behaviour().get("losses")
    if shifts is None:
        return 3.0
    step, seed = cell.path.parts[-3:-1]
    noise = random.Random(f"{step} {seed}").gauss(0, 0.001)
    return 3.0 + shifts.get(step, 0.0) + noise


def finish(cell: CellDir, hash_: str, step: int, k: int) -> None:
    summary = {"schema": 1, "status": "done", "hash": hash_, "step": step}
    summary |= {"tokens": 10 * step, "train_time": 2.0, "eval_time": 1.0}
    final = {"loss": final_loss(cell), "step": step}
    summary |= {"final_eval": final, "attempts": k}
    summary |= {"device": {"kind": "cpu"}, "threads": None}
    summary |= {"facts": {"flops_per_token": 6000, "ranks": 1}}
    atomic.write_json(cell.summary, summary)


if __name__ == "__main__":
    sys.exit(main())
