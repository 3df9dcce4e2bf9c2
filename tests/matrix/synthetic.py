"""Run directories as the harness leaves them, with made-up numbers."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from kconf import config_py
from matrix.results.whole_run import identity_hash
from records import atomic, jsonl, unit_losses
from records.layout import CellDir, cell_path
from records.unit_losses import UnitLosses

CODE, DATASET = "c0de" * 16, "da7a" * 16
TOKENS_PER_STEP = 4096
START = 1_790_000_000.0  # unix seconds
FACTS = {
    "parameters": 124_475_904,
    "parameters_no_embedding": 85_056_000,
    "flops_per_token": 860_101_632,
    "flops_per_token_causal": 803_478_528,
    "cache_per_token_layer": 1536,
    "cache_constant_layer": 0,
    "attn_mlp_ratio": 2.0,
    "network_ratio": 2.0,
    "tokens_per_step": TOKENS_PER_STEP,
    "effective_batch": 16,
    "micro_batch": 16,
    "accumulation": 1,
    "init_sha256": "1a" * 32,
    "max_iters": 100,
    "budget": "tokens",
    "attention_impl": "sdpa",
    "dtype": "fp32",
    "compile": False,
}
DEVICE = {"kind": "cpu", "name": "cpu", "total_memory": None, "driver": None}
GIT = {"commit": "feed" * 10, "dirty": False}


@dataclass
class Cell:
    """One run to be written. `losses` are its evaluations, the first at step 0.

    `repeated` holds evaluations of an earlier attempt, which a later attempt
    overwrites step by step. `rows` are further rows of the metrics, `gpu` those of
    gpu.jsonl; either of attempt 1 unless they say otherwise. `documents` are those
    of the last evaluation, whose loss is then their mean; `text` names them.
    """

    step: str
    seed: int
    losses: tuple[float, ...]
    repeated: tuple[float, ...] = ()
    finished: float = START
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] | None = ()
    operational: tuple[str, ...] = ()
    arm: Mapping[str, Any] | None = None
    control: bool = False
    salt: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    gpu: Sequence[Mapping[str, Any]] = ()
    help: str | None = None
    fragment: str | None = None
    documents: UnitLosses | None = None
    text: str = "7e87" * 16
    most_tokens: int | None = None
    data_dir: str = "/nowhere/stdlib-byte-0123abcd"

    @property
    def symbols(self) -> dict[str, Any]:
        """The values of config.py."""
        values = {"GPT2_LAYERS": 12, "GPT2_BLOCK_SIZE": 1024}
        values |= {"GPT2_EVAL_WINDOWS": 64, "SEED": self.seed}
        return values | dict(self.values)

    @property
    def whole_identity(self) -> dict[str, Any]:
        """What the hash is of; `salt` makes another cell of one that is the same."""
        config = config_py.identity(self.symbols, self.operational)
        identity = {"config": config, "code": CODE, "dataset": DATASET, "threads": 2}
        identity |= {"salt": f"{self.step}/{self.salt}"}
        return {**identity, **self.identity}

    @property
    def hash(self) -> str:
        """The hash of the identity."""
        return identity_hash(self.whole_identity)

    def path(self, output: Path, study: str = "demo") -> Path:
        """The directory of the run that was written with this step, seed and salt,
        whatever its values; without one, where this run would lie.
        """
        own = cell_path(output, study, self.step, self.seed, self.hash[:8])
        for path in sorted(own.parent.glob("*/run.json")):
            cell = json.loads(path.read_text())["cell"]
            if cell["identity"].get("salt") == self.whole_identity["salt"]:
                return path.parent
        return own

    def eval_rows(self, losses: tuple[float, ...], attempt: int) -> list[dict]:
        """Evaluations spread evenly over max_iters."""
        max_iters = {**FACTS, **self.facts}["max_iters"]
        rows = []
        for number, loss in enumerate(losses):
            step = round(number * max_iters / max(1, len(self.losses) - 1))
            rows.append(
                {
                    "kind": "eval",
                    "attempt": attempt,
                    "step": step,
                    "loss": loss,
                    "perplexity": math.exp(loss),
                    "bits_per_byte": loss / math.log(2),
                    "tokens": step * TOKENS_PER_STEP,
                    "time": 0.5 * step,
                }
            )
        return rows

    def start(self, output: Path, study: str = "demo") -> CellDir:
        """The run's directory with one started attempt."""
        path = cell_path(output, study, self.step, self.seed, self.hash[:8])
        cell = CellDir(path)
        cell.path.mkdir(parents=True)
        config_py.write(cell.config_py, self.symbols, self.operational)
        atomic.write_json(
            cell.run_json,
            {
                "schema": 1,
                "cell": {
                    "study": study,
                    "step": self.step,
                    "control": self.control,
                    "seed": self.seed,
                    "hash": self.hash,
                    **({} if self.arm is None else {"arm": self.arm}),
                    **({} if self.help is None else {"help": self.help}),
                    **({} if self.fragment is None else {"fragment": self.fragment}),
                    **({} if self.changes is None else {"changes": [*self.changes]}),
                    "identity": self.whole_identity,
                },
                "data_dir": self.data_dir,
                "provenance": {"time": START, "cpu": "A Processor", "git": GIT},
            },
        )
        with jsonl.open_append(cell.attempts) as attempts:
            attempts.append(
                {"event": "start", "attempt": 1, "time": self.finished - 60.0}
            )
        return cell

    def finish(self, output: Path, study: str = "demo") -> Path:
        """A finished run."""
        cell = self.start(output, study)
        facts = {**FACTS, **self.facts}
        first = self.eval_rows(self.repeated, 1)
        rows = self.eval_rows(self.losses, 2 if self.repeated else 1)
        with jsonl.open_append(cell.metrics) as metrics:
            for row in [{"kind": "facts", "attempt": 1, "step": 0, **facts}]:
                metrics.append(row)
            for row in [*first, *rows, *self.rows]:
                metrics.append({"attempt": 1, **row})
        if self.gpu:
            with jsonl.open_append(cell.path / "gpu.jsonl") as samples:
                for row in self.gpu:
                    samples.append({"attempt": 1, **row})
        with jsonl.open_append(cell.attempts) as attempts:
            attempts.append(
                {
                    "event": "end",
                    "attempt": 1,
                    "time": self.finished,
                    "status": "done",
                    "error": None,
                    "step": rows[-1]["step"],
                }
            )
        summary = {
            "schema": 1,
            "status": "done",
            "hash": self.hash,
            "step": rows[-1]["step"],
            "tokens": rows[-1]["tokens"],
            "final_eval": {
                key: rows[-1][key]
                for key in ("loss", "perplexity", "bits_per_byte", "step")
            },
            "evals": list(self.losses),
            "train_time": 50.0,
            "eval_time": 5.0,
            "wall_time": 60.0,
            "total_time_all_attempts": 72.0,
            "average_step_time": 0.5,
            "tokens_per_s": 8192.0,
            "peak_memory_bytes": 3 * 2**29,
            "attempts": 1,
            "stopped_by": "tokens",
            "model_sha256": self.hash[::-1],
            "facts": facts,
            "device": DEVICE,
            "threads": 2,
            "torch": "2.13.0",
            "python": "3.12.1",
        }
        summary |= self.last_evaluation(cell)
        atomic.write_json(cell.summary, {**summary, **self.summary})
        return cell.path

    def last_evaluation(self, cell: CellDir) -> dict[str, Any]:
        """The losses by document, written; what the summary says of them."""
        found = self.documents
        if found is None:
            return {}
        told = {"sha256": unit_losses.write(cell.last_evaluation, found)}
        told |= {"text_sha256": self.text, "unit": found.unit}
        told |= {"units": len(found.tokens), "tokens": sum(found.tokens)}
        told |= {
            "bytes": 2 * told["tokens"],
            "most_tokens": self.most_tokens or told["tokens"],
        }
        return {"last_evaluation": told}

    def fail(self, output: Path, error: str, study: str = "demo") -> Path:
        """A run that failed after its first evaluation."""
        cell = self.start(output, study)
        with jsonl.open_append(cell.metrics) as metrics:
            for row in self.eval_rows(self.losses[:1], 1):
                metrics.append(row)
        failure = {"attempt": 1, "status": "failed", "exit_code": 1, "error": error}
        atomic.write_json(cell.failure, {**failure, "time": self.finished})
        return cell.path
