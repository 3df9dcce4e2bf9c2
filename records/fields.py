"""What the records of a run hold: one declaration per file, one reader for each.

A field that is there is of its kind, whoever wrote it; a required one is there. So
whoever gets a record from here formats, sums and draws it without looking again.
docs/records.md says what the fields mean.
"""

from records.jsonl import Row
from records.kinds import (
    FP32,
    Unfit,
    choice,
    digest,
    either,
    fields,
    flag,
    integer,
    listed,
    mapped,
    matching,
    measured,
    name,
    nullable,
    number,
    real,
    sound,
    text,
)

COUNT, ATTEMPT, POSITIVE = integer(0), integer(1), integer(1)
PID = integer(1, 2**31 - 1)
SECONDS = number(0, 1e12)
MOMENT = number(0, 253402300799)
"""Unix seconds, to the end of the year 9999."""
RATE = number(0, 1e18)
SHARE = number(0, 1)
LOSS = measured(-FP32, FP32)
NAMED = matching("[a-z][a-z0-9_]*", "the name of a statistic")
LAYER = matching("[0-9]{1,4}", "a layer")
MAPS = mapped(mapped(listed(listed(number())), LAYER), NAMED)
PERPLEXITY = measured(0, 1.1e304)  # exp(loss), at most exp(700)
STAGES = ("one", "screen", "confirm", "tune")
ENDS = ("done", "failed", "stopped", "diverged")

DEVICE = fields(
    {},
    {
        "kind": name,
        "name": name,
        "total_memory": nullable(COUNT),
        "driver": nullable(name),
        "kernel_driver": nullable(name),
        "peak_flops": nullable(RATE),
    },
)
FACTS = {
    "parameters": COUNT,
    "parameters_no_embedding": COUNT,
    "attn_mlp_ratio": nullable(number()),
    "network_ratio": number(),
    "flops_per_token": COUNT,
    "flops_per_token_causal": COUNT,
    "cache_per_token_layer": nullable(COUNT),
    "cache_constant_layer": nullable(COUNT),
    "cache_per_token": COUNT,
    "cache_constant": COUNT,
    "cache_fp32": COUNT,
    "mixers": name,
    "tokens_per_step": POSITIVE,
    "effective_batch": POSITIVE,
    "micro_batch": POSITIVE,
    "accumulation": POSITIVE,
    "ranks": POSITIVE,
    "init_sha256": digest,
    "max_iters": COUNT,
    "budget": choice("tokens", "time"),
    "eval_windows": COUNT,
    "eval_sha256": name,
    "last_eval_windows": COUNT,
    "last_eval_sha256": name,
    "attention_impl": name,
    "recurrence_impl": name,
    "loss_impl": name,
    "update_impl": name,
    "documents_apart": flag,
    "dtype": name,
    "param_dtype": name,
    "compile": flag,
}
STEP = {"attempt": ATTEMPT, "step": COUNT}
TIMED = {"tokens": COUNT, "time": SECONDS}
DEFINED = nullable(number())
METRICS = {
    "facts": fields({**STEP}, FACTS),
    "train": fields(
        {**STEP, "loss": LOSS},
        {
            **TIMED,
            "lr": number(),
            "grad_norm": LOSS,
            "tokens_per_s": nullable(RATE),
            "mfu": nullable(number()),
            "sparsity": SHARE,
        },
    ),
    "eval": fields(
        {**STEP, "loss": LOSS, "tokens": COUNT},
        {
            "time": SECONDS,
            "perplexity": PERPLEXITY,
            "bits_per_byte": LOSS,
            "curve_loss": LOSS,
        },
    ),
    # by layer: of lists by head, or of numbers; null is what is not defined. maps: rows
    # of numbers, by name and layer
    "attention": fields(
        {**STEP},
        {"kind": name, "windows": COUNT, "maps": MAPS},
        either(listed(either(listed(DEFINED), DEFINED)), DEFINED),
        NAMED,
    ),
}
EVALUATED = {"step": COUNT, "loss": LOSS}
LAST_EVALUATION = fields(
    {"sha256": digest, "text_sha256": digest, "tokens": POSITIVE, "bytes": POSITIVE},
    {
        "windows": POSITIVE,
        "most_tokens": POSITIVE,
        "unit": choice("document", "window"),
        "units": POSITIVE,
    },
)
SUMMARY = fields(
    {"hash": digest, "step": COUNT},
    {
        "status": choice("done"),
        "stopped_by": choice("tokens", "time"),
        "attempts": ATTEMPT,
        "tokens": COUNT,
        "final_eval": fields(
            EVALUATED,
            {**TIMED, "perplexity": PERPLEXITY, "bits_per_byte": LOSS},
        ),
        "last_evaluation": LAST_EVALUATION,
        "wall_time": SECONDS,
        "time_to_first_step": nullable(SECONDS),
        "total_time_all_attempts": SECONDS,
        "train_time": SECONDS,
        "eval_time": SECONDS,
        "average_step_time": nullable(SECONDS),
        "tokens_per_s": nullable(RATE),
        "peak_memory_bytes": nullable(COUNT),
        "model_sha256": digest,
        "sparsity": fields({}, {"covered": SHARE, "all": SHARE}),
        "facts": fields({}, FACTS),
        "device": nullable(DEVICE),
        "threads": nullable(COUNT),
        "torch": name,
        "python": name,
        "triton": nullable(name),
        "numeric_environment": mapped(text),
    },
)
HASHES = {"config": digest, "code": digest, "dataset": digest}
IDENTITY = fields(HASHES, {"threads": nullable(COUNT), "code_rule": POSITIVE})
ARM = fields({}, {"point": mapped(name), "dense": nullable(name)})
GIT = fields(
    {}, {"commit": nullable(name), "dirty": flag, "why": text, "diff": nullable(text)}
)
RUN = fields(
    {
        "cell": fields(
            {
                "study": name,
                "step": name,
                "seed": COUNT,
                "hash": digest,
                "identity": IDENTITY,
            },
            {
                "help": text,
                "control": flag,
                "stage": choice(*STAGES),
                "changes": listed(name),
                "fragment": text,
                "arm": nullable(ARM),
            },
        ),
        "data_dir": name,
        "provenance": fields(
            {"time": MOMENT}, {"cpu": name, "cores": POSITIVE, "git": GIT}
        ),
    },
    {"code_files": mapped(digest)},
)
TRAINED = fields(
    {
        "cell": fields(
            {"hash": digest},
            {
                "study": name,
                "step": name,
                "seed": COUNT,
                "identity": fields({}, HASHES),
            },
        )
    },
    {"data_dir": name, "provenance": fields({}, {"git": GIT})},
)
"""Of run.json, what a run itself needs, which need not belong to a study."""
START = fields(
    {"event": choice("start", "end"), "attempt": ATTEMPT, "time": MOMENT},
    {
        "pid": PID,
        "host": name,
        "torch": name,
        "python": name,
        "triton": nullable(name),
        "numeric_environment": mapped(text),
        "threads": nullable(COUNT),
        "device": nullable(DEVICE),
        "gpus": listed(name),
        "placement": nullable(mapped(sound)),
        "caches": mapped(text),
    },
)
END = fields(
    {
        "event": choice("start", "end"),
        "attempt": ATTEMPT,
        "time": MOMENT,
        "status": choice(*ENDS),
        "step": COUNT,
        "error": nullable(text),
    },
    {"seconds": SECONDS},
)
FAILURE = fields(
    {"attempt": COUNT, "error": text},
    {
        "status": choice("failed", "diverged"),
        "exit_code": nullable(integer(-255, 255)),
        "traceback": text,
        "time": MOMENT,
    },
)
LEASE = fields({"pid": PID, "host": name, "time": MOMENT}, {"step": COUNT})
PROGRESS = fields(
    {
        "attempt": ATTEMPT,
        "pid": PID,
        "time": MOMENT,
        "step": COUNT,
        "phase": name,
    },
    {"loss": nullable(LOSS), "memory_bytes": nullable(COUNT)},
)
GPU = fields({"attempt": ATTEMPT, "time": MOMENT}, {"step": nullable(COUNT)})
EVALUATION = fields(
    {
        "schema": integer(1),
        "attempt": ATTEMPT,
        "name": name,
        "kind": choice("text", "task"),
        "sha256": digest,
        "settings": mapped(sound),
        "metrics": mapped(real),
        "model_sha256": digest,
    },
    {
        "better": mapped(choice("lower", "higher")),
        "counts": mapped(COUNT),
        "time": MOMENT,
        "seconds": SECONDS,
        "device": name,
        "batch": COUNT,
        "versions": mapped(name),
    },
)
REUSED = fields({"run": name, "changes": listed(name)}, {"time": MOMENT})
SLURM = fields(
    {"job": matching("[0-9]+(_[0-9]+)?", "the number of a job")},
    {"time": MOMENT, "submitted_on": name},
)


def metric(row: Row) -> None:
    """A row of metrics.jsonl is of its kind."""
    kind = row.get("kind")
    if type(kind) is not str or kind not in METRICS:
        KIND(row)
    METRICS[kind](row)


KIND = fields({"kind": choice(*METRICS)})


def attempt(row: Row) -> None:
    """A row of attempts.jsonl is a start or an end."""
    (END if row.get("event") == "end" else START)(row)


def sample(row: Row) -> None:
    """A row of gpu.jsonl: when it was taken, and its numbers."""
    GPU(row)
    reading(row)


def reading(row: Row) -> None:
    """The numbers of a row of gpu.jsonl: what begins with gpu/."""
    sound(row)
    for key, value in row.items():
        if key.startswith("gpu/"):
            try:
                DEFINED(value)
            except Unfit as unfit:
                raise unfit.within(key) from None
