"""Text from a finished run: load its weights, sample, measure the speed.

The loop reads the prompt once and then one token at a time, through the cache
of GPT.decode or, to compare, by a forward pass over the whole text each time.
Either way token i depends on the weights, the prompt, the settings and the i-th
number of a generator keyed by the seed.

Legend: n new tokens, V tokens of the tokenizer (a padded row of the embedding
has no token and is cut off before anything looks at it).
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2.data.tokenization.bpe import tokenizer_of
from gpt2.data.tokenization.tokenizers import Tokenizer, TokenizerError
from gpt2.generation.sampling import Sampling
from gpt2.generation.text_stream import TextStream
from gpt2.model.costs import meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import weights_sha256
from gpt2.model.mixers.attention.decoder import resolve_decoder
from gpt2.model.values import Cache
from gpt2.settings.run import DataSettings, ModelSettings
from gpt2.training import checkpoint
from kconf import config_py
from kconf.bind import SettingsError, build
from kconf.declared import require_declared
from kconf.tree import Facts
from records import history, read
from records.cell import read_status
from records.layout import CellDir

ROOT = Path(__file__).resolve().parents[2]
COMPARED = 16
"""Tokens for which the speed without the cache is measured, at most."""


class GenerateError(RuntimeError):
    """A run or a prompt that no text can come from; the message says why."""


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, on its device, and its tokenizer; decoded says what
    computes its steps, and who chose it; note, what the checksum of an export covers.
    """

    model: GPT
    tokenizer: Tokenizer
    kind: str = "cpu"
    decoded: str = "decode: the reference"
    note: str = ""

    @property
    def context(self) -> int:
        """Tokens that the model can read."""
        return self.model.settings.block_size


@dataclass(frozen=True)
class Request:
    """What to generate: at most `tokens` of them, up to one of `stops`."""

    prompt: str
    tokens: int = 200
    sampling: Sampling = Sampling()
    seed: int = 1
    stops: tuple[str, ...] = ()


@dataclass
class Reader:
    """The logits after all tokens read so far; seconds of every read."""

    trained: Trained
    cached: bool = True
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cache: Cache | None = None

    @torch.no_grad()
    def read(self, new: list[int]) -> torch.Tensor:
        """logits_V in float64 on the CPU."""
        began = time.perf_counter()
        self.tokens += new
        seen = new if self.cached else self.tokens
        tokens_1n = torch.tensor([seen], device=self.trained.kind)
        if self.cached:
            logits_1nV, self.cache = self.trained.model.decode(tokens_1n, self.cache)
        else:
            logits_1nV = self.trained.model(tokens_1n)
        vocabulary = self.trained.tokenizer.vocab_size
        logits_V = logits_1nV[0, -1, :vocabulary].double().cpu()
        self.seconds.append(time.perf_counter() - began)
        return logits_V


@dataclass(frozen=True)
class Generated:
    """The tokens, why they end, and what reading cost: the prompt, then every
    token but the last, which nothing follows. cache: what is held at the end.
    """

    prompt: list[int]
    tokens: list[int]
    ended: str
    seconds: list[float]
    cache: Cache | None = None


def load(directory: Path, kind: str, decoder: str = "reference") -> Trained:
    """The finished run in `directory`, its fp32 weights on the device `kind`, to be
    decoded by `decoder` (gpt2/model/mixers/attention/decoder.py).

    Raises GenerateError, RecordError for records of a newer schema,
    kconf.syntax.ConfigError for a config.py, CheckpointError for weights.
    """
    cell = CellDir(directory)
    require_directory(directory)
    if not cell.config_py.exists():
        inside = len(list(directory.glob("**/config.py")))
        raise GenerateError(
            f"{directory} is not a run directory (no config.py); {inside} lie below "
            "it: RUN=OUTPUT_DIR/STUDY/STEP/seed-K/HASH8"
        )
    status = read_status(cell)
    if status.state != "done":
        raise GenerateError(
            f"{directory}: {status.reason}. The weights are written when a run is "
            "done: `make` takes it there"
        )
    config = config_py.read(cell.config_py)
    try:
        settings, data = (
            declared(settings, config.values, config.operational)
            for settings in (ModelSettings, DataSettings)
        )
    except SettingsError as error:
        raise GenerateError(
            f"{cell.config_py}: {error}; another version of this code wrote it "
            "(run.json names the commit)"
        ) from None
    try:
        _require_size(cell.checkpoint_dir / "model.pt", settings)
        model = empty_model(settings, kind, decoder)
        checkpoint.load_weights(cell.checkpoint_dir, model)
    except FileNotFoundError:
        raise GenerateError(
            f"{directory} is done, but holds no weights (checkpoint/model.pt), as with "
            "CONFIG_SAVE_MODEL=n. Set CONFIG_SAVE_MODEL=y, move the directory away "
            "(the plan counts it as done) and run make"
        ) from None
    if weights_sha256(model) != read.summary(cell.summary).get("model_sha256"):
        raise GenerateError(
            f"{cell.checkpoint_dir}/model.pt does not hold the weights that "
            "summary.json names: it is damaged, or was replaced"
        )
    packed = Path(read.trained(cell.run_json).get("data_dir", data.directory))
    try:
        tokenizer = tokenizer_of(data, packed)
    except TokenizerError as error:
        raise GenerateError(f"the tokenizer of {directory}: {error}") from error
    return Trained(model.to(kind).eval(), tokenizer, kind, says(model, decoder))


def require_directory(directory: Path) -> None:
    """Raise GenerateError for what cannot be a run's directory."""
    if not os.path.lexists(directory):
        raise GenerateError(f"{directory}: no such directory (make plan lists runs)")
    if not directory.is_dir() or (directory / "kablate.json").exists():
        raise GenerateError(
            f"{directory} is no run's directory; an export is read by make generate "
            "alone: name the run that it left (make plan lists runs)"
        )


def _require_size(weights: Path, settings: ModelSettings) -> None:
    """Raise GenerateError where a file is too small for the model, of 2 bytes a value at
    least, before that is built; FileNotFoundError where there is none.
    """
    count = sum(p.numel() for p in meta_model(settings).parameters())
    if weights.stat().st_size < 2 * count:
        raise GenerateError(
            f"{weights} has {weights.stat().st_size} bytes, too few for the {count:,} "
            "values of the model in config.py: one of the two was changed"
        )


def declared(
    cls: type, values: Mapping[str, Any], operational: Collection[str] = ()
) -> Any:
    """The settings of a class for values that a record of any age holds.

    Raises SettingsError, also for a value that Kconfig would not take.
    """
    require_declared(Facts(ROOT), values, operational)
    return build(cls, history.completed(values))


def empty_model(settings: ModelSettings, kind: str, decoder: str = "reference") -> GPT:
    """The model to fill with weights and sample from.

    What computed the attention in training does not bind it: Triton's kernels,
    which no CPU runs, make way for `auto` there. Raises GenerateError for a decoder
    that cannot serve.
    """
    try:
        decoder = resolve_decoder(settings, decoder, kind)
    except ValueError as error:
        raise GenerateError(str(error)) from None
    attention = settings.attention
    if kind == "cpu" and attention is not None and attention.impl == "triton":
        settings = settings.with_attention(impl="auto")
    if kind == "cpu" and settings.mixer_impl == "triton":
        settings = replace(settings, mixer_impl="auto")
    return GPT(settings, decoder)


def says(model: GPT, asked: str) -> str:
    """What decodes the model, and how that was chosen: a line for the reader."""
    names = {"reference": "the reference", "triton": "our kernels"}
    return f"decode: {names[model.decoder]} (DECODE={asked})"


def prompt_tokens(trained: Trained, prompt: str) -> list[int]:
    """The prompt as tokens; an empty one is the separator: a document begins.

    Raises GenerateError for a prompt that is not UTF-8 (its bytes came in as
    lone surrogates) or longer than the context.
    """
    try:
        text = prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise GenerateError(
            f"the prompt is not UTF-8: invalid bytes after {prompt[:error.start]!r}"
        ) from None
    tokens = trained.tokenizer.encode(text).tolist() or [trained.tokenizer.eot]
    if len(tokens) > trained.context:
        raise GenerateError(
            f"the prompt has {len(tokens)} tokens, the model reads {trained.context} "
            "(CONFIG_GPT2_BLOCK_SIZE): shorten it"
        )
    return tokens


def sample(reader: Reader, prompt: list[int], request: Request) -> Iterator[int]:
    """At most `request.tokens` tokens, fewer where the context is full: a token
    is read only when another one is asked for.
    """
    draws = np.random.Generator(np.random.Philox(request.seed))
    new = prompt
    for _ in range(request.tokens):
        if len(reader.tokens) + len(new) > reader.trained.context:
            return
        token = request.sampling.choose(reader.read(new), draws.random())
        yield token
        new = [token]


def generate(
    trained: Trained,
    request: Request,
    write: Callable[[str], object],
    cached: bool = True,
) -> Generated:
    """Write the prompt and, piece by piece, its continuation, without the stop
    string and without the token that ends a document.

    Raises GenerateError for the prompt, ArithmeticError for logits.
    """
    prompt = prompt_tokens(trained, request.prompt)
    write(request.prompt)
    reader, stream = Reader(trained, cached), TextStream(request.stops)
    tokens, ended = [], None
    for token in sample(reader, prompt, request):
        tokens.append(token)
        if token == trained.tokenizer.eot:
            ended = "the document ended"
            break
        write(stream.feed(trained.tokenizer.decode(np.array([token]))))
        if stream.met is not None:
            break
    write(stream.close())
    if stream.met is not None:
        ended = f"the stop string {stream.met!r} came"
    elif ended is None and len(tokens) == request.tokens:
        ended = f"TOKENS={request.tokens} were asked for"
    elif ended is None:
        ended = f"the context of {trained.context} tokens is full"
    return Generated(prompt, tokens, ended, reader.seconds, reader.cache)


def key_reads(model: GPT, cache: Cache | None) -> tuple[dict[str, float], int]:
    """Keys that each token of a decode read on average, by branch, as its layers counted
    them, and the number of layers that did: their mean.
    """
    layers = [] if cache is None else zip(model.h, cache.layers)
    each = [block.attn.reads(layer.mixer, cache.length) for block, layer in layers]
    each = [reads for reads in each if reads]
    names = dict.fromkeys(name for reads in each for name in reads)
    sums = {name: sum(reads.get(name, 0.0) for reads in each) for name in names}
    return {name: total / len(each) for name, total in sums.items()}, len(each)


def reads_line(model: GPT, cache: Cache | None) -> list[str]:
    """What was read, beside what every query would read of all tokens up to its own."""
    reads, layers = key_reads(model, cache)
    if not reads:
        return []
    parts = " + ".join(f"{name} {n:.1f}" for name, n in reads.items())
    return [
        f"keys read per token, mean of {layers} layers: {parts} = "
        f"{sum(reads.values()):.1f}; dense attention reads {(cache.length + 1) / 2:.1f}"
    ]


def speed(trained: Trained, generated: Generated) -> list[str]:
    """Lines that say what was measured: tokens/s with the cache, and by forward
    passes over the whole text for the same tokens or COMPARED of them.

    The first token is left out of both: it costs the reading of the prompt.
    """
    prompt, tokens = generated.prompt, generated.tokens
    first, *rest = generated.seconds
    read = f"prompt: {len(prompt)} tokens, read in {first:.3f} s"
    lines = [trained.decoded, read]
    if not rest:
        return [*lines, "too few tokens to measure tokens/s"]
    count = min(len(rest), COMPARED)
    picked = np.linspace(1, len(rest), count).round().astype(int).tolist()
    plain = []
    for i in [picked[0], *picked]:  # the first one warms up
        reader = Reader(trained, cached=False)
        reader.read(prompt + tokens[:i])
        plain += reader.seconds
    which = "the same" if count == len(rest) else f"{count} of these, evenly spaced"
    fast, slow = len(rest) / sum(rest), count / sum(plain[1:])
    return [
        *lines,
        f"with the cache: {len(rest)} tokens, {fast:.1f} tokens/s",
        f"without it: {which}, {slow:.1f} tokens/s "
        "(a forward pass over the whole text for each)",
        f"the cache makes it {fast / slow:.1f} times as fast",
    ]


def summary(trained: Trained, generated: Generated) -> list[str]:
    """Lines for the reader: why the text ends, the speed, and what layers that choose
    their keys have read.
    """
    ended = f"{len(generated.tokens)} tokens: {generated.ended}"
    reads = reads_line(trained.model, generated.cache)
    notes = [trained.note] if trained.note else []
    return [*notes, ended, *speed(trained, generated), *reads]
