"""The settings of one run: a frozen tree, built from config.py and nothing else.

No module below gpt2/ reads a .config, an environment variable or a global for
its settings. Every Kconfig symbol outside matrix/Kconfig is read by exactly
one field here (tests/kconf/test_symbols.py). No torch in this file: planners
and checkers read settings without it.
"""

from dataclasses import dataclass
from typing import Any, Mapping

from gpt2.settings.model import ModelSettings
from gpt2.settings.optim import OptimSettings, PruningSettings
from gpt2.settings.recall import RecallSettings
from kconf.bind import (
    SettingsError,
    assigned,
    build,
    flag,
    integer,
    one_of,
    real,
    section,
    text,
    weighted,
)
from kconf.derived import VOCABULARIES

# What a file of a local corpus holds (gpt2/data/sources/folder.py); skip: it is left out.
FILE_KINDS = ("jsonl", "parquet", "text", "skip")


@dataclass(frozen=True)
class DataSettings:
    """Which corpus, how it is cut into tokens and splits."""

    corpus: str = one_of(
        DATASET_STDLIB="stdlib",
        DATASET_LOCAL="local",
        DATASET_FINEWEBEDU="finewebedu",
        DATASET_OPENWEBTEXT="openwebtext",
        DATASET_TINYSTORIES="tinystories",
        DATASET_SHAKESPEARE="shakespeare",
        DATASET_SYNTHETIC="synthetic",
        DATASET_RECALL="recall",
    )
    synthetic_mb: int | None = integer("SYNTHETIC_MB", optional=True)
    recall: RecallSettings | None = section(RecallSettings, ("DATASET_RECALL",))
    stdlib_tests: bool = flag("STDLIB_TESTS")
    local_path: str | None = text("LOCAL_PATH", optional=True)
    local_sources: tuple[tuple[str, float], ...] | None = weighted(
        "LOCAL_SOURCES", optional=True
    )
    local_field: str | None = text("LOCAL_FIELD", optional=True)
    local_files: tuple[tuple[str, str], ...] | None = assigned(
        "LOCAL_FILES", FILE_KINDS, optional=True
    )
    local_shuffle: bool = flag("LOCAL_SHUFFLE")
    finewebedu_sample: str | None = one_of(
        optional=True,
        FINEWEBEDU_10BT="sample-10BT",
        FINEWEBEDU_100BT="sample-100BT",
        FINEWEBEDU_350BT="sample-350BT",
    )
    hf_path: str | None = text("HF_PATH", optional=True)
    hf_revision: str | None = text("HF_REVISION", optional=True)
    shuffle_buffer: int | None = integer("SHUFFLE_BUFFER", optional=True)
    shuffle_seed: int | None = integer("SHUFFLE_SEED", optional=True)
    tokens: int | None = integer("DATA_TOKENS", optional=True)
    on_the_fly: bool = flag("DATA_ON_THE_FLY")
    val_tokens: int | None = integer("DATA_VAL_TOKENS", optional=True)
    workers: int | None = integer("DATA_WORKERS", optional=True)
    report_documents: int | None = integer("DATA_REPORT_DOCUMENTS", optional=True)
    tokenizer: str = one_of(
        TOKENIZER_BYTE="byte", TOKENIZER_GPT2="gpt2", TOKENIZER_BPE="bpe"
    )
    gpt2_vocab_path: str | None = text("GPT2_VOCAB_PATH", optional=True)
    bpe_vocab_size: int | None = integer("BPE_VOCAB_SIZE", optional=True)
    bpe_train_mb: int | None = integer("BPE_TRAIN_MB", optional=True)
    split: str = one_of(VAL_SPLIT_DOCUMENT="document", VAL_SPLIT_TAIL="tail")
    val_fraction: float = real("VAL_FRACTION", above=0.0, below=1.0)
    directory: str = text("DATA_DIR")
    shard_tokens: int = integer("SHARD_TOKENS")
    prefetch: int = integer("DATA_PREFETCH")
    timeout: int = integer("DATA_TIMEOUT")

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer, the separator included."""
        return VOCABULARIES.get(self.tokenizer) or self.bpe_vocab_size

    @property
    def streamed(self) -> bool:
        """Whether the corpus is read once, as a stream, and never stored."""
        return self.corpus not in ("stdlib", "local", "synthetic", "recall")

    def __post_init__(self) -> None:
        if self.split == "tail" and (self.streamed or self.tokens):
            raise SettingsError(
                "VAL_SPLIT_TAIL",
                True,
                "the tail of a corpus is known when all of it was read; a stream "
                "and a token budget need CONFIG_VAL_SPLIT_DOCUMENT=y",
            )
        if self.recall and self.tokenizer != "byte":
            why = "recall is rows of bytes that mean nothing: CONFIG_TOKENIZER_BYTE=y"
            raise SettingsError(f"TOKENIZER_{self.tokenizer.upper()}", True, why)
        if self.corpus != "local":
            return
        if self.local_path and self.local_sources:
            raise SettingsError(
                "LOCAL_PATH",
                self.local_path,
                "CONFIG_LOCAL_SOURCES is set too; clear one of them",
            )
        if not self.local_path and not self.local_sources:
            raise SettingsError(
                "LOCAL_PATH",
                self.local_path,
                "names no file or folder to read; set it or CONFIG_LOCAL_SOURCES",
            )


@dataclass(frozen=True)
class TrainSettings:
    """Budget, batch and evaluation."""

    budget: str = one_of(BUDGET_TOKENS="tokens", BUDGET_TIME="time")
    max_iters: int = integer("GPT2_MAX_ITERS")
    max_time: int = integer("GPT2_MAX_TIME")
    micro_batch: int = integer("BATCH_SIZE")
    accumulation: int = integer("GPT2_GRADIENT_ACCUMULATION")
    effective_batch: int = integer("EFFECTIVE_BATCH")
    ranks: int = integer("GPUS_PER_RUN")
    eval_interval: int = integer("GPT2_EVAL_INTERVAL")
    eval_windows: int = integer("GPT2_EVAL_WINDOWS")
    final_eval_windows: int = integer("GPT2_FINAL_EVAL_WINDOWS")
    timing_warmup: int = integer("TIMING_WARMUP_STEPS")
    seed: int = integer("SEED")
    init_salt: str = text("INIT_SALT")
    log_interval: int = integer("LOG_INTERVAL")
    attention_stats: bool = flag("LOG_ATTENTION_STATS")
    checkpoint_interval: int = integer("CHECKPOINT_INTERVAL")
    save_model: bool = flag("SAVE_MODEL")
    keep_checkpoints: bool = flag("KEEP_CHECKPOINTS")

    def __post_init__(self) -> None:
        if self.budget == "time" and self.max_time == 0:
            raise SettingsError(
                "GPT2_MAX_TIME", 0, "the time budget needs a number of seconds"
            )
        cut = max(self.micro_batch, 1) * max(self.accumulation, 1) * self.ranks
        said = self.micro_batch and self.accumulation
        if (self.micro_batch or self.accumulation) and (
            self.effective_batch % cut
            or (said and self.effective_batch not in (0, cut))
        ):
            raise SettingsError(
                "EFFECTIVE_BATCH",
                self.effective_batch,
                f"is not {'' if said else 'a multiple of '}micro-batch "
                f"{self.micro_batch or 'auto'} x accumulation "
                f"{self.accumulation or 'auto'} x GPUs {self.ranks}"
                f"{f' = {cut}' if said else ''}; CONFIG_BATCH_SIZE=0 or "
                "CONFIG_GPT2_GRADIENT_ACCUMULATION=0 follows the other one",
            )
        if self.ranks > 1 and self.effective_batch == 0:
            raise SettingsError(
                "GPUS_PER_RUN",
                self.ranks,
                "GPUs share the effective batch: set CONFIG_EFFECTIVE_BATCH",
            )
        if self.effective_batch % self.ranks:
            raise SettingsError(
                "EFFECTIVE_BATCH",
                self.effective_batch,
                f"does not divide among CONFIG_GPUS_PER_RUN={self.ranks}",
            )
        if self.micro_batch == 0 and self.effective_batch == 0:
            raise SettingsError(
                "BATCH_SIZE",
                0,
                "an automatic micro-batch divides CONFIG_EFFECTIVE_BATCH: set it",
            )


@dataclass(frozen=True)
class SystemSettings:
    """Device and numerics."""

    device: str = one_of(DEVICE_AUTO="auto", DEVICE_CPU="cpu", DEVICE_CUDA="cuda")
    cpu_threads: int = integer("CPU_THREADS")
    rank_timeout: int = integer("RANK_TIMEOUT")
    dtype: str = one_of(DTYPE_FP32="fp32", DTYPE_BF16="bf16")
    param_dtype: str = one_of(PARAM_DTYPE_FP32="fp32", PARAM_DTYPE_BF16="bf16")
    compile: bool = flag("GPT2_COMPILE")
    compile_blocks: bool = flag("GPT2_COMPILE_BLOCKS")
    tf32: bool = flag("GPT2_TF32")
    cudnn_benchmark: bool = flag("CUDNN_BENCHMARK")
    expandable_segments: bool = flag("CUDA_EXPANDABLE_SEGMENTS")
    gpu_monitor: bool = flag("GPU_MONITOR")
    gpu_monitor_interval: int | None = integer("GPU_MONITOR_INTERVAL", optional=True)

    def __post_init__(self) -> None:
        if self.param_dtype == "bf16" and self.dtype != "bf16":
            raise SettingsError(
                "PARAM_DTYPE_BF16", True, "needs products in bf16: CONFIG_DTYPE_BF16"
            )


@dataclass(frozen=True)
class RunSettings:
    """Everything one run needs."""

    model: ModelSettings = section(ModelSettings)
    data: DataSettings = section(DataSettings)
    optim: OptimSettings = section(OptimSettings)
    pruning: PruningSettings = section(PruningSettings)
    train: TrainSettings = section(TrainSettings)
    system: SystemSettings = section(SystemSettings)

    def __post_init__(self) -> None:
        self.pruning.require_state_of(self.optim)
        layers = self.model.layers
        if self.train.attention_stats and not any(m.statistics for m in layers):
            why = f"no layer has attention heads: all are {layers[0].name}"
            raise SettingsError("LOG_ATTENTION_STATS", True, why)
        if self.pruning.kind != "none" and self.train.budget == "tokens":
            self.pruning.require_an_end(self.optim, self.train.max_iters)


def run_settings(values: Mapping[str, Any]) -> RunSettings:
    """RunSettings from typed symbol values; raises kconf.bind.SettingsError."""
    settings = build(RunSettings, values)
    rows, data = settings.model.vocab_size, settings.data
    if data.recall and data.recall.length != settings.model.block_size:
        raise SettingsError(
            "RECALL_LENGTH",
            data.recall.length,
            f"is not CONFIG_GPT2_BLOCK_SIZE={settings.model.block_size}: a window is a row",
        )
    if rows < data.vocab_size:
        raise SettingsError(
            "GPT2_VOCAB_SIZE",
            rows,
            f"is below the vocabulary of {data.vocab_size} of "
            f"CONFIG_TOKENIZER_{data.tokenizer.upper()}: set it to that or more",
        )
    return settings
