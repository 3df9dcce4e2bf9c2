"""Whole runs against the same runs by hand: what reaches what.

A cell is trained by the real entry; tests/oracles makes every number of its records
again from the texts of the corpus and the symbols of the configuration. So which
seed, salt, split, separator, window, rate, norm or type reaches which place is proven
by where it ends: in a row.
"""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpt2.data.loading import on_the_fly
from gpt2.data.packing.prepare import prepare
from gpt2.data.tokenization.bpe import trained as trained_tokenizer
from gpt2.generation.generate import Request, generate, load
from gpt2.generation.sampling import Sampling
from gpt2.model.block import Block
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.statistics import attention_stats
from gpt2.settings.run import run_settings
from gpt2.training.cell import execute
from gpt2.training.trainer import Diverged, Trainer
from tests.gpt2.data.loading.test_on_the_fly import Beside
from tests.gpt2.hand_cells import COMMON, TEXTS, cell, places, rows
from tests.gpt2.ranks import TRAIN_CELLS, finish, launch
from tests.oracles import corpus, network
from tests.oracles.run import Run

# Of a record's fp32 numbers against float64 by hand: 6e-6 was seen.
ROUNDING = 2e-5
# Of numbers by bf16 products against others: 3e-3 was seen.
NOISE = 6e-3

APART, REFERENCE = {"DOCUMENTS_APART": "y"}, {"ATTENTION_IMPL_REFERENCE": "y"}
ALONE = {"EFFECTIVE_BATCH": "0", "BATCH_SIZE": "5"}
SPARSE_LOG = {
    "LOG_INTERVAL": "4",
    "GPT2_EVAL_INTERVAL": "5",
    "CHECKPOINT_INTERVAL": "0",
}
PARTS = {"BATCH_SIZE": "0", "GPT2_GRADIENT_ACCUMULATION": "3"}
SGD = {"OPTIMIZER_SGD": "y", "LEARNING_RATE": "2e-1", "SGD_MOMENTUM": "0.7"}
SHORT = {"DATA_WORKERS": "2", "SEED": "14"}
CELLS = {
    "packed": ("packed", {}),
    "another-seed": ("packed", {"SEED": "12"}),
    "salt": ("packed", {"INIT_SALT": "aa"}),
    "apart": ("packed", {**APART, **SPARSE_LOG}),
    "reference": ("packed", REFERENCE),
    "reference-apart": ("packed", {**APART, **REFERENCE, "SEED": "13"}),
    "chunked-loss": ("packed", {"LOSS_CHUNKED": "y", "DATA_PREFETCH": "0"}),
    "one-pass": ("packed", {"UPDATE_ONE_PASS": "y"}),
    "one-pass-alone": ("packed", {"UPDATE_ONE_PASS": "y", **ALONE}),
    "unclipped-alone": ("packed", {"GRAD_CLIP": "0", **ALONE}),
    "three-parts": ("packed", {**PARTS, "GPT2_EVAL_WINDOWS": "500"}),
    "sgd": ("packed", {**SGD, "SGD_NESTEROV": "n"}),
    "sgd-nesterov": ("packed", {**SGD, "SGD_NESTEROV": "y", "GRAD_CLIP": "0"}),
    "adam": ("packed", {"OPTIMIZER_ADAM": "y"}),
    "adamwadv": ("packed", {"OPTIMIZER_ADAMWADV": "y"}),
    "live": ("live", {}),
    "live-apart": ("live", {"SEED": "5", **APART}),
    "live-short": ("short", SHORT),
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, resolve):
    return places(tmp_path_factory.mktemp("by-hand"), resolve)


@pytest.fixture
def made(corpora, tmp_path, resolve, tree):
    """directory, values, place = made("packed", SEED="12", …)."""

    def make(place, name="cell", **more):
        place = corpora[place]
        values = resolve(COMMON, place.symbols, more)
        return cell(tmp_path / name, values, tree), values, place

    return make


@pytest.fixture
def trained(made, monkeypatch):
    """The same, trained to its end."""
    monkeypatch.setattr(
        on_the_fly, "subprocess", SimpleNamespace(Popen=Beside, PIPE=-1)
    )

    def train(place, name="cell", **more):
        directory, values, place = made(place, name, **more)
        assert execute(directory, place.packed) == 0
        return directory, values, place

    return train


def require_rows(directory, wanted, tolerance):
    """Every row is the one by hand; whole numbers exactly."""
    for kind, by_hand in (("train", wanted.train), ("eval", wanted.evals)):
        found = rows(directory, kind)
        assert [row["step"] for row in found] == [row["step"] for row in by_hand]
        for row, hand in zip(found, by_hand):
            for name, value in hand.items():
                exact = isinstance(value, int) or name == "lr"
                limit = pytest.approx(value, rel=tolerance, abs=0)
                assert row[name] == (value if exact else limit), (kind, name, row)


def require_run(directory, wanted, tolerance=ROUNDING):
    """Initial values, every row, and the weights that were kept."""
    assert rows(directory, "facts")[0]["init_sha256"] == wanted.start
    require_rows(directory, wanted, tolerance)
    kept = torch.load(directory / "checkpoint" / "model.pt")["model"]
    assert kept.keys() == wanted.weights.keys()
    for name, p in wanted.weights.items():
        assert (kept[name] - p).abs().max() < tolerance, name
    found = json.loads((directory / "summary.json").read_text())
    assert found["model_sha256"] == network.digest(kept)
    last = wanted.evals[-1]
    assert found["final_eval"]["loss"] == pytest.approx(last["loss"], rel=tolerance)
    assert (found["step"], found["tokens"]) == (last["step"], last["tokens"])


@pytest.mark.parametrize("name", CELLS)
def test_a_run_is_the_run_by_hand(trained, name):
    where, symbols = CELLS[name]
    directory, values, place = trained(where, **symbols)
    require_run(directory, place.by_hand(values))


BF16 = {"DTYPE_BF16": "y", "GPT2_DROPOUT": "0.0"}
COPY = {**BF16, "PARAM_DTYPE_BF16": "y"}
LOW = {
    "bf16": BF16,
    "reference-apart": {**BF16, **REFERENCE, **APART},
    "copy": COPY,
    "copy-one-pass": {**COPY, "UPDATE_ONE_PASS": "y"},
    "copy-one-pass-alone": {**COPY, "UPDATE_ONE_PASS": "y", **ALONE},
}


@pytest.mark.parametrize("name", LOW)
def test_bf16_by_hand(trained, name):
    """As near as roundings of bf16; TYPES says that it is bf16."""
    directory, values, place = trained("packed", **LOW[name])
    require_run(directory, place.by_hand(values), NOISE)


FP, BF = torch.float32, torch.bfloat16
# What trains and what is evaluated: the residual stream, what a branch adds.
TYPES = {
    "fp32": ({}, (FP, FP), (FP, FP)),
    "bf16": (BF16, (FP, BF), (FP, BF)),
    "copy": (COPY, (BF, BF), (FP, BF)),
}


@pytest.mark.parametrize("name", TYPES)
def test_what_computes_in_which_type_on_which_batch(trained, monkeypatch, name):
    """The fp32 weights are evaluated, by micro-batches, under the same autocast."""
    symbols, training, evaluating = TYPES[name]
    seen, forward = [], Block.forward

    def watched(block, *given, **named):
        out = forward(block, *given, **named)
        seen.append((block.training, len(out[0]), (out[0].dtype, out[1].dtype)))
        return out

    monkeypatch.setattr(Block, "forward", watched)
    trained("packed", GPT2_MAX_ITERS="1", **symbols)
    evaluation = [(False, size, evaluating) for size in (3, 3, 3, 3, 1, 1)]
    step = [(True, 3, training)] * 4  # two micro-batches, two layers
    assert seen == [*evaluation, *step, *evaluation]


INTERRUPTED = {
    "packed": ("packed", {"CHECKPOINT_INTERVAL": "3"}),
    "live-apart": ("live", {"CHECKPOINT_INTERVAL": "3", **APART}),
    "live-short": ("short", {"CHECKPOINT_INTERVAL": "3", **SHORT}),
    "within-an-epoch": ("short", {"CHECKPOINT_INTERVAL": "5", **SHORT}),
    "one-pass": ("packed", {"CHECKPOINT_INTERVAL": "3", "UPDATE_ONE_PASS": "y"}),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_is_the_run_by_hand(made, trained, monkeypatch, name):
    """The draws of dropout, the batches, rates and moments go on where they were."""
    where, symbols = INTERRUPTED[name]
    directory, values, place = made(where, **symbols)
    step = Trainer._step

    def failing(trainer, batches):
        if trainer.progress.step == 7:
            raise Diverged("on purpose", 7)
        step(trainer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", failing)
        assert execute(directory, place.packed) == 1
    interval = values["CHECKPOINT_INTERVAL"]
    kept = range(interval, 7, interval)
    found = sorted(path.name for path in (directory / "checkpoint").glob("step-*"))
    assert found == [f"step-{step:09d}.pt" for step in kept]
    assert execute(directory, place.packed) == 0
    require_run(directory, place.by_hand(values))
    attempts = [row["attempt"] for row in rows(directory, "train")]
    assert attempts == [1] * kept[-1] + [2] * (10 - kept[-1])


TWO = {"GPUS_PER_RUN": "2", "EFFECTIVE_BATCH": "12"}
RANKS = {
    "packed": TWO,
    "apart-alone": {**TWO, **APART, "EFFECTIVE_BATCH": "6"},
    "one-pass": {**TWO, **REFERENCE, "UPDATE_ONE_PASS": "y", "SEED": "12"},
}


@pytest.fixture(scope="module")
def by_two(corpora, tmp_path_factory, resolve, tree):
    """{name: (directory, values, place)}, trained by two ranks."""
    folder, place, found = tmp_path_factory.mktemp("ranks"), corpora["packed"], {}
    for number, (name, symbols) in enumerate(RANKS.items()):
        values = resolve(COMMON, place.symbols, symbols)
        found[name] = cell(folder / str(number), values, tree), values, place
    directories = [directory for directory, _, _ in found.values()]
    process = launch(2, TRAIN_CELLS, place.packed, *directories)
    output = finish(process)
    assert process.returncode == 0, output
    return found


@pytest.mark.parametrize("name", RANKS)
def test_two_ranks_are_the_run_by_hand(by_two, name):
    """Each on its own samples with its own dropout; evaluation is shared out."""
    directory, values, place = by_two[name]
    require_run(directory, place.by_hand(values))


FACTS = {
    "salt": {"attention_impl": "sdpa", "accumulation": 2, "documents_apart": False},
    "reference-apart": {"attention_impl": "reference", "documents_apart": True},
    "one-pass-alone": {"update_impl": "one_pass", "accumulation": 1},
    "chunked-loss": {"loss_impl": "chunked", "update_impl": "torch"},
    "three-parts": {"micro_batch": 2, "accumulation": 3},
}


@pytest.mark.parametrize("name", FACTS)
def test_the_facts_by_hand(trained, name):
    where, symbols = CELLS[name]
    symbols = {"GPT2_MAX_ITERS": "2", "CHECKPOINT_INTERVAL": "0", **symbols}
    directory, values, place = trained(where, **symbols)
    windows = np.array(place.windows(values), np.int64)
    assert (len(windows) < values["GPT2_EVAL_WINDOWS"]) == (name == "three-parts")
    size = 5 if "alone" in name else 6
    wanted = {
        "step": 0,
        "attempt": 1,
        "tokens_per_step": size * 48,
        "effective_batch": size,
        "micro_batch": 5 if "alone" in name else 3,
        "ranks": 1,
        "init_sha256": network.digest(place.run(values).initial()),
        "max_iters": 2,
        "budget": "tokens",
        "eval_windows": len(windows),
        "eval_sha256": hashlib.sha256(windows.tobytes()).hexdigest(),
        "loss_impl": "plain",
        "dtype": "fp32",
        "param_dtype": "fp32",
        "compile": False,
        **FACTS[name],
    }
    found = rows(directory, "facts")[0]
    assert {key: found[key] for key in wanted} == wanted
    summary = json.loads((directory / "summary.json").read_text())
    kept = {k: v for k, v in found.items() if k not in ("kind", "step", "attempt")}
    assert summary["facts"] == kept


@pytest.mark.parametrize("name", TYPES)
def test_what_is_compiled_is_what_trains(trained, monkeypatch, name):
    """Nothing but the training step; the facts say so, and the types."""
    compiled = []

    def compiling(model, fullgraph, dynamic):
        assert fullgraph is True  # what breaks it would train without a graph
        assert dynamic is False  # a second shape would make another graph
        compiled.append(next(model.parameters()).dtype)
        return model

    monkeypatch.setattr(torch, "compile", compiling)
    symbols = {"GPT2_MAX_ITERS": "1", "GPT2_COMPILE": "y", **TYPES[name][0]}
    directory, *_ = trained("packed", **symbols)
    assert compiled == [BF if name == "copy" else FP]
    facts = rows(directory, "facts")[0]
    assert facts["compile"] is True
    assert facts["dtype"] == ("fp32" if name == "fp32" else "bf16")
    assert facts["param_dtype"] == ("bf16" if name == "copy" else "fp32")


@pytest.mark.parametrize("name", ["fp32", "copy"])
def test_the_heads_of_a_run_by_hand(trained, name):
    """Rows about attention: of the fp32 weights, of the first windows, documents
    apart; and a look changes nothing.
    """
    symbols = {"LOG_ATTENTION_STATS": "y", "GPT2_MAX_ITERS": "2", **TYPES[name][0]}
    more = {"GPT2_EVAL_WINDOWS": "12", **APART}
    directory, values, place = trained("packed", **symbols, **more)
    require_run(directory, place.by_hand(values), NOISE if name == "copy" else ROUNDING)
    model = GPT(run_settings(values).model)
    initialise(model, 11, "")
    windows = np.array(place.windows(values)[:8])
    first, last = rows(directory, "attention")
    for row, step in ((first, 0), (last, 2)):
        found = attention_stats(model, windows, "cpu", corpus.SEPARATOR)
        assert row == {"attempt": 1, "kind": "attention", "step": step, **found}
        kept = torch.load(directory / "checkpoint" / "model.pt")["model"]
        model.load_state_dict(kept)


ENDS = {(5, 20): "asked for", (8, 60): "is full", (2, 60): "document ended"}


def test_a_text_by_hand(trained):
    """What a finished run says: weights, prompt, filters, seed and context arrive."""
    directory, *_ = trained("packed")
    loaded = load(directory, "cpu")
    kept = torch.load(directory / "checkpoint" / "model.pt")["model"]
    w = {name: p.double() for name, p in kept.items()}
    for (seed, tokens), ended in ENDS.items():
        wanted = text_by_hand(w, list("naï".encode()), seed, tokens)
        for cached in (True, False):
            sampling = Sampling(temperature=1.5, top_k=40)
            request = Request("naï", tokens, sampling, seed)
            found = generate(loaded, request, lambda text: None, cached)
            assert found.tokens == wanted and found.prompt == list("naï".encode())
            assert ended in found.ended


def text_by_hand(w, seen, seed, tokens):
    """Tokens drawn from the 40 most probable at temperature 1.5, in their order, up to
    a separator or the context of 48.
    """
    shape = network.Shape(layers=2, E=32, H=4, F=64, T=48, V=320)
    draws, drawn = np.random.Generator(np.random.Philox(seed)), []
    while len(drawn) < tokens and len(seen) <= 48 and corpus.SEPARATOR not in seen:
        logits_V = network.logits(w, shape, torch.tensor([seen]))[0, -1, :257]
        kept = sorted(logits_V.argsort(descending=True)[:40].tolist())
        shares = (logits_V[kept] / 1.5).softmax(-1).tolist()
        left = draws.random()
        for token, share in zip(kept, shares):
            left -= share
            if left < 0:
                break
        drawn.append(token)
        seen = [*seen, token]
    return drawn


@pytest.mark.parametrize("name", ["packed", "live"])
def test_the_bytes_of_a_validation_split(corpora, resolve, name):
    place = corpora[name]
    texts = place.validation(resolve(COMMON, place.symbols))
    manifest = json.loads((place.packed / "dataset.json").read_text())
    assert manifest["splits"]["val"]["bytes"] == len("".join(texts).encode())


def test_bits_per_byte_where_a_token_is_several_bytes(tmp_path, corpora, resolve, tree):
    """Of a trained vocabulary: by the bytes of the tokens that are predicted."""
    symbols = {**corpora["packed"].symbols, "TOKENIZER_BPE": "y"}
    symbols |= {"BPE_VOCAB_SIZE": "290"}
    values = resolve(COMMON, symbols, APART)
    packed = tmp_path / "bpe"
    prepare(run_settings(values).data, packed, say=lambda line: None)
    manifest = json.loads((packed / "dataset.json").read_text())
    decoded, tokens = {}, {}
    vocabulary = trained_tokenizer((packed / "tokenizer.json").read_bytes())
    for split in ("train", "val"):
        files = manifest["splits"][split]["files"]
        raw = b"".join((packed / file).read_bytes()[192:] for file in files)
        tokens[split] = np.frombuffer(raw, "<u2").tolist()
        texts = corpus.split(TEXTS, 0.35, split)
        ends = [at for at, token in enumerate(tokens[split]) if token == 289]
        assert len(ends) == len(texts) and ends[-1] == len(tokens[split]) - 1
        plain = np.array([token for token in tokens[split] if token != 289])
        decoded[split] = vocabulary.decode(plain)
        assert decoded[split].decode() == "".join(texts)
    directory = cell(tmp_path / "cell", values, tree)
    assert execute(directory, packed) == 0
    windows = corpus.evaluation_rows(tokens["val"], 48, 7)
    scored = np.array([row[1:] for row in windows])
    per_token = len(vocabulary.decode(scored[scored != 289])) / scored.size
    assert per_token > 1.5
    whole = len(decoded["val"]) / len(tokens["val"])
    assert per_token != pytest.approx(whole, rel=1e-3)
    run = Run(
        values,
        lambda i: corpus.training_row(tokens["train"], 48, 11, i),
        windows,
        per_token,
        separator=289,
    )
    require_run(directory, run.replay())
