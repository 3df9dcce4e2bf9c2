"""What a cell gains from more GPUs, and whether two cells disturb each other.

Every number comes from whole cells, started by gpt2/distributed/torchrun.py as a study starts
them, and is read from their metrics.jsonl: medians of tokens/s over log intervals
after warm-up. The corpus is synthetic.
"""

import hashlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import run_settings
from kconf import config_py
from kconf.strict import Resolved
from records import atomic, read
from records.jsonl import last_per_step

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.1
INTERVAL = 5  # steps between two log rows
WARMUP = 10  # steps that are not timed
SIDE_INTERVALS = 10  # log rows of a cell alone, and as many beside the other
METRICS = "metrics.jsonl"
GRACE = 60.0  # seconds for the checkpoint of a cell that is stopped

# NVLink multicast can put GPUs out of service that others share.
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}

Resolve = Callable[..., Resolved]
"""The configuration under some symbols that differ."""


class Unfinished(RuntimeError):
    """A cell failed, or was too slow; the message ends with its log."""


@dataclass
class Bench:
    """Where and how cells run. environment: of their processes; limit: the
    time.monotonic() at which everything must be over.
    """

    resolve: Resolve
    operational: frozenset[str]
    folder: Path
    environment: Mapping[str, str]
    batch: int
    limit: float
    cells: list["Running"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.corpus = self.folder / "corpus"
        data = run_settings(self.resolve(**self._symbols(1, 1)).values).data
        prepare(data, self.corpus, say=lambda line: None)

    def _symbols(self, ranks: int, steps: int) -> dict[str, str]:
        return {
            "DATASET_SYNTHETIC": "y",
            "SYNTHETIC_MB": "8",
            "TOKENIZER_BYTE": "y",
            "GPUS_PER_RUN": str(ranks),
            "BATCH_SIZE": str(self.batch),
            "EFFECTIVE_BATCH": str(self.batch * ranks),
            "GPT2_MAX_ITERS": str(steps),
            "GPT2_EVAL_INTERVAL": "1000000000",
            "GPT2_EVAL_WINDOWS": "8",
            "GPT2_FINAL_EVAL_WINDOWS": "0",
            "LOG_INTERVAL": str(INTERVAL),
            "TIMING_WARMUP_STEPS": str(WARMUP),
            "CHECKPOINT_INTERVAL": "0",
            "SAVE_MODEL": "n",
        }

    def start(self, name: str, gpus: range, steps: int) -> "Running":
        """A cell of that many steps on these GPUs."""
        directory = self.folder / name
        directory.mkdir()
        values = self.resolve(**self._symbols(len(gpus), steps)).values
        config_py.write(directory / "config.py", values, self.operational)
        hash_ = hashlib.sha256(name.encode()).hexdigest()
        record = {"schema": 1, "cell": {"hash": hash_}}
        atomic.write_json(directory / "run.json", record)
        command = [
            sys.executable,
            str(ROOT / "gpt2" / "distributed" / "torchrun.py"),
            "--standalone",
        ]
        command += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(len(gpus))]
        command += [str(ROOT / "gpt2" / "train_ra_mla.py"), "--run-dir", str(directory)]
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
        with open(directory / "train.log", "ab") as log:
            process = subprocess.Popen(
                [*command, "--data-dir", str(self.corpus)],
                env={**self.environment, **NO_MULTICAST, **visible},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.cells.append(Running(name, directory, process, self.limit))
        return self.cells[-1]

    def close(self) -> None:
        """End what still runs."""
        for cell in self.cells:
            if cell.process.poll() is None:
                os.killpg(cell.process.pid, signal.SIGKILL)
                cell.process.wait()


@dataclass
class Running:
    """A started cell."""

    name: str
    directory: Path
    process: subprocess.Popen
    limit: float

    def rates(self) -> list[float]:
        """tokens/s of every log interval so far that was timed as a whole."""
        path = self.directory / METRICS
        found = last_per_step(read.metrics(path), "train") if path.exists() else []
        whole = [row for row in found if row["step"] > WARMUP + INTERVAL]
        return [row["tokens_per_s"] for row in whole]

    def wait_for(self, count: int) -> list[float]:
        """Until there are so many rates; all of them."""
        while len(self.rates()) < count:
            if self.process.poll() is not None:
                raise self._unfinished("ended early")
            self._look_at_the_time()
        return self.rates()

    def finish(self) -> dict[str, Any]:
        """Wait for the end; the summary."""
        while self.process.poll() is None:
            self._look_at_the_time()
        if self.process.returncode != 0:
            raise self._unfinished("failed")
        return read.summary(self.directory / "summary.json")

    def stop(self) -> None:
        """Ask for the end and wait for it."""
        self.process.terminate()
        self.process.wait(GRACE)

    def _look_at_the_time(self) -> None:
        if time.monotonic() > self.limit:
            raise self._unfinished("is not done in time")
        time.sleep(POLL)

    def _unfinished(self, what: str) -> Unfinished:
        log = (self.directory / "train.log").read_text(
            encoding="utf-8", errors="replace"
        )
        return Unfinished(f"{self.name} {what}:\n" + "\n".join(log.splitlines()[-30:]))


def measure(
    bench: Bench, ranks: Sequence[int], steps: int, groups: int, command: str
) -> dict[str, Any]:
    """Everything as a record. groups: GPUs of each of two cells, 0 for none."""
    rows = scaling(bench, ranks, steps)
    side = side_by_side(bench, groups, SIDE_INTERVALS) if groups else []
    facts = last_per_step(read.metrics(bench.cells[0].directory / METRICS), "facts")[0]
    return {
        "schema": 1,
        "kind": "scaling",
        "command": command,
        "device": rows[0]["device"]["name"],
        "torch": rows[0]["torch"],
        "batch": bench.batch,
        "context": facts["tokens_per_step"] // facts["effective_batch"],
        "parameters": facts["parameters"],
        "param_dtype": facts["param_dtype"],
        "scaling": rows,
        "groups": side,
    }


def scaling(bench: Bench, ranks: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """A row for every number of ranks, the first the one to compare with.

    efficiency: tokens/s per rank over that of the first row.
    """
    rows: list[dict[str, Any]] = []
    for count in ranks:
        cell = bench.start(f"ranks-{count}", range(count), steps)
        summary = cell.finish()
        rate = statistics.median(cell.rates())
        first = rows[0] if rows else {"tokens_per_s": rate, "ranks": count}
        per_rank = first["tokens_per_s"] / first["ranks"]
        rows.append(
            {
                "ranks": count,
                "tokens_per_s": rate,
                "efficiency": rate / count / per_rank,
                "rates": cell.rates(),
                "step_ms": 1e3 * summary["average_step_time"],
                "peak_bytes": summary["peak_memory_bytes"],
                "loss": summary["final_eval"]["loss"],
                "device": summary["device"],
                "torch": summary["torch"],
                "seconds": summary["wall_time"],
            }
        )
    return rows


def side_by_side(bench: Bench, gpus: int, intervals: int) -> list[dict[str, Any]]:
    """Two cells of `gpus` GPUs each: the first alone, both, the second alone.

    A row per cell with tokens/s alone and beside the other, each over so many log
    intervals of one process, and the share it lost.
    """
    endless = 10**8
    first = bench.start("first", range(gpus), endless)
    alone = [first.wait_for(intervals)[:intervals]]
    second = bench.start("second", range(gpus, 2 * gpus), endless)
    second.wait_for(1)
    before = len(first.rates()) + 1  # one interval may have begun earlier
    beside_second = second.wait_for(1 + intervals)[1 : 1 + intervals]
    beside_first = first.wait_for(before + intervals)[before : before + intervals]
    first.stop()
    after = len(second.rates()) + 1
    alone.append(second.wait_for(after + intervals)[after : after + intervals])
    second.stop()
    rows = []
    for name, own, both in zip(
        ("first", "second"), alone, (beside_first, beside_second)
    ):
        rates = statistics.median(own), statistics.median(both)
        rows.append(
            {
                "cell": name,
                "gpus": gpus,
                "alone": rates[0],
                "beside": rates[1],
                "slowed": 1 - rates[1] / rates[0],
                "rates_alone": own,
                "rates_beside": both,
            }
        )
    return rows


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""
    rows, device = record["scaling"], record["device"]
    lines = [
        f"# Several GPUs, {device}",
        "",
        f"`{record['command']}`: {record['batch']} x {record['context']} tokens per GPU "
        f"and step, {record['parameters']:,} parameters, synthetic corpus, torch "
        f"{record['torch']}; medians over log intervals of {INTERVAL} steps.",
        "",
        "| GPUs | tokens/s | per GPU | efficiency | ms/step | peak GiB | val loss |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['ranks']} | {row['tokens_per_s']:,.0f} | "
            f"{row['tokens_per_s'] / row['ranks']:,.0f} | {row['efficiency']:.3f} | "
            f"{row['step_ms']:.1f} | {row['peak_bytes'] / 2**30:.2f} | "
            f"{row['loss']:.4f} |"
        )
    if record["groups"]:
        lines += [
            "",
            f"Two cells of {record['groups'][0]['gpus']} GPUs each, on GPUs of their "
            "own:",
            "",
            "| cell | tokens/s alone | beside the other | slowed by |",
            "|---|---:|---:|---:|",
        ]
    for row in record["groups"]:
        lines.append(
            f"| {row['cell']} | {row['alone']:,.0f} | {row['beside']:,.0f} | "
            f"{row['slowed']:.2%} |"
        )
    return "\n".join(lines) + "\n"
