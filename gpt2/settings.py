"""The settings of one run: a frozen tree, built from config.py and nothing else.

No module below gpt2/ reads a .config, an environment variable or a global for
its settings. Every Kconfig symbol outside matrix/Kconfig is read by exactly
one field here (tests/kconf/test_symbols.py). No torch in this file: planners
and checkers read settings without it.
"""

from dataclasses import dataclass
from typing import Any, Mapping

from kconf.bind import (
    SettingsError,
    build,
    flag,
    integer,
    one_of,
    real,
    section,
    text,
)

VOCAB_MULTIPLE = 64


@dataclass(frozen=True)
class AttentionSettings:
    """Slots of the attention (docs/mechanisms.md)."""

    projection: str = one_of(MHA="mha", MLA="mla")
    mla_latent: int | None = integer("MLA_LATENT", optional=True)
    impl: str = one_of(
        ATTENTION_IMPL_AUTO="auto",
        ATTENTION_IMPL_REFERENCE="reference",
        ATTENTION_IMPL_SDPA="sdpa",
    )


@dataclass(frozen=True)
class MlpSettings:
    """Slots of the MLP."""

    dim: int = integer("MLP_DIM")


@dataclass(frozen=True)
class ModelSettings:
    """Shape of the network. Widths are as configured; `scaled` divides them."""

    size: str = one_of(
        GPT2_SIZE_TINY="tiny",
        GPT2_SIZE_124M="124M",
        GPT2_SIZE_350M="350M",
        GPT2_SIZE_774M="774M",
        GPT2_SIZE_1_5B="1.5B",
        GPT2_SIZE_CUSTOM="custom",
    )
    layers: int = integer("GPT2_LAYERS")
    width: int = integer("GPT2_WIDTH")
    heads: int = integer("GPT2_HEADS")
    block_size: int = integer("GPT2_BLOCK_SIZE")
    vocab_size: int = integer("GPT2_VOCAB_SIZE")
    width_divisor: int = integer("WIDTH_DIVISOR")
    bias: bool = flag("GPT2_BIAS")
    dropout: float = real("GPT2_DROPOUT", low=0.0, below=1.0)
    attention: AttentionSettings = section(AttentionSettings)
    mlp: MlpSettings = section(MlpSettings)

    def __post_init__(self) -> None:
        divisor = self.width_divisor
        widths = [
            ("GPT2_WIDTH", self.width),
            ("MLP_DIM", self.mlp.dim),
            ("MLA_LATENT", self.attention.mla_latent),
        ]
        for symbol, value in widths:
            if value is not None and value % divisor:
                raise SettingsError(
                    symbol,
                    value,
                    f"is not a multiple of CONFIG_WIDTH_DIVISOR={divisor}",
                )
        if self.width // divisor % self.heads:
            raise SettingsError(
                "GPT2_HEADS",
                self.heads,
                f"does not divide the width {self.width} / {divisor}",
            )

    @property
    def embed(self) -> int:
        """Model width E after the divisor."""
        return self.width // self.width_divisor

    @property
    def head_width(self) -> int:
        """D = E / H."""
        return self.embed // self.heads

    @property
    def mlp_dim(self) -> int:
        """MLP width F after the divisor."""
        return self.mlp.dim // self.width_divisor

    @property
    def latent(self) -> int | None:
        """Latent width L after the divisor, None without MLA."""
        wide = self.attention.mla_latent
        return None if wide is None else wide // self.width_divisor

    @property
    def vocab_rows(self) -> int:
        """Rows of the embedding: the vocabulary padded to a multiple of 64."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


@dataclass(frozen=True)
class DataSettings:
    """Which corpus, how it is cut into tokens and splits."""

    corpus: str = one_of(DATASET_STDLIB="stdlib", DATASET_LOCAL="local")
    stdlib_tests: bool = flag("STDLIB_TESTS")
    local_path: str | None = text("LOCAL_PATH", optional=True)
    local_field: str | None = text("LOCAL_FIELD", optional=True)
    tokenizer: str = one_of(TOKENIZER_BYTE="byte")
    split: str = one_of(VAL_SPLIT_DOCUMENT="document", VAL_SPLIT_TAIL="tail")
    val_fraction: float = real("VAL_FRACTION", above=0.0, below=1.0)
    directory: str = text("DATA_DIR")
    shard_tokens: int = integer("SHARD_TOKENS")
    prefetch: int = integer("DATA_PREFETCH")

    def __post_init__(self) -> None:
        if self.corpus == "local" and not self.local_path:
            raise SettingsError(
                "LOCAL_PATH", self.local_path, "names no file or folder to read"
            )


@dataclass(frozen=True)
class OptimSettings:
    """The optimizer and its schedule."""

    kind: str = one_of(OPTIMIZER_ADAMW="adamw")
    lr: float = real("LEARNING_RATE", above=0.0)
    min_lr: float = real("MIN_LEARNING_RATE", low=0.0)
    warmup: int = integer("GPT2_WARMUP_STEPS")
    weight_decay: float = real("WEIGHT_DECAY", low=0.0)
    beta1: float = real("ADAM_BETA1", low=0.0, below=1.0)
    beta2: float = real("ADAM_BETA2", low=0.0, below=1.0)
    eps: float = real("ADAM_EPS", above=0.0)
    clip: float = real("GRAD_CLIP", low=0.0)

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise SettingsError(
                "MIN_LEARNING_RATE",
                f"{self.min_lr:g}",
                f"is above CONFIG_LEARNING_RATE={self.lr:g}",
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
    eval_interval: int = integer("GPT2_EVAL_INTERVAL")
    eval_windows: int = integer("GPT2_EVAL_WINDOWS")
    timing_warmup: int = integer("TIMING_WARMUP_STEPS")
    seed: int = integer("SEED")
    init_salt: str = text("INIT_SALT")
    log_interval: int = integer("LOG_INTERVAL")
    checkpoint_interval: int = integer("CHECKPOINT_INTERVAL")
    save_model: bool = flag("SAVE_MODEL")
    keep_checkpoints: bool = flag("KEEP_CHECKPOINTS")

    def __post_init__(self) -> None:
        if self.budget == "time" and self.max_time == 0:
            raise SettingsError(
                "GPT2_MAX_TIME", 0, "the time budget needs a number of seconds"
            )
        cut = self.micro_batch * max(self.accumulation, 1)
        if self.effective_batch and cut and self.effective_batch % cut:
            raise SettingsError(
                "EFFECTIVE_BATCH",
                self.effective_batch,
                f"is not a multiple of micro-batch {self.micro_batch} x accumulation "
                f"{max(self.accumulation, 1)}",
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
    dtype: str = one_of(DTYPE_FP32="fp32", DTYPE_BF16="bf16")
    compile: bool = flag("GPT2_COMPILE")
    tf32: bool = flag("GPT2_TF32")
    cudnn_benchmark: bool = flag("CUDNN_BENCHMARK")
    expandable_segments: bool = flag("CUDA_EXPANDABLE_SEGMENTS")


@dataclass(frozen=True)
class RunSettings:
    """Everything one run needs."""

    model: ModelSettings = section(ModelSettings)
    data: DataSettings = section(DataSettings)
    optim: OptimSettings = section(OptimSettings)
    train: TrainSettings = section(TrainSettings)
    system: SystemSettings = section(SystemSettings)


def run_settings(values: Mapping[str, Any]) -> RunSettings:
    """RunSettings from typed symbol values; raises kconf.bind.SettingsError."""
    return build(RunSettings, values)
