"""Sampling from a model: the loop, its ends, loading a run, the command."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from gpt2.data.tokenization.tokenizers import ByteTokenizer
from gpt2.generation.generate import (
    GenerateError,
    Reader,
    Request,
    Trained,
    generate,
    load,
    prompt_tokens,
    sample,
    speed,
)
from gpt2.generation.sampling import Sampling
from gpt2.settings.model import ModelSettings
from gpt2.training.cell import execute
from gpt2.training.checkpoint import CheckpointError
from kconf import config_py
from kconf.bind import build
from kconf.syntax import ConfigError
from records import history
from records.layout import RecordError
from tests.conftest import ROOT
from tests.gpt2 import parcels
from tests.gpt2.model.test_decode import ALL, randomised
from tests.gpt2.parcels import ARCHITECTURES

EOT = ByteTokenizer.eot


def trained(settings, seed=0):
    """A model of random weights in fp32, whose mechanisms all have a say."""
    torch.manual_seed(seed)
    return Trained(randomised(settings).float(), ByteTokenizer())


class Scripted:
    """Stands for a model: its logits put all mass on the next byte of a text."""

    def __init__(self, text: bytes, context: int = 64, ends: bool = False):
        self.settings = type("Settings", (), {"block_size": context})
        self.script = [*text, EOT] if ends else [*text, *b"..." * 50]

    def logits(self, seen):
        logits_1nV = torch.zeros(1, seen, 320)
        for i in range(seen):
            logits_1nV[0, i, self.script[i]] = 1e4
        logits_1nV[..., 300] = 1e6  # a padded row, and the most probable
        return logits_1nV

    def decode(self, tokens_1n, cache):
        start = cache or 0
        seen = start + tokens_1n.shape[1]
        return self.logits(seen)[:, start:], seen

    def __call__(self, tokens_1T):
        return self.logits(tokens_1T.shape[1])


def spoken(text, prompt="", context=64, ends=False, **options):
    """(what was written after the prompt, Generated); script[i] follows token i."""
    model = Scripted(text, context, ends)
    pieces = []
    voice = Trained(model, ByteTokenizer())
    done = generate(voice, Request(prompt, **options), pieces.append)
    assert pieces[0] == prompt
    return pieces[1:], done


@pytest.mark.parametrize("case", ["attention plain", "three layers of all"])
def test_the_cache_does_not_change_the_text(small, case):
    model = trained(small(**ALL[case]))
    for seed in (1, 2):
        for sampling in (Sampling(), Sampling(0.7, 40, 0.9, 0.01), Sampling(0.0)):
            request = Request("ab", 14, sampling, seed)
            with_cache = list(sample(Reader(model), [97, 98], request))
            without = list(sample(Reader(model, cached=False), [97, 98], request))
            assert with_cache == without and len(with_cache) == 14


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_cache_does_not_change_greedy_text(name):
    """Every step of every study, in fp32, to the end of its context."""
    model = parcels.randomised(name)
    request = Request("ab", 99, Sampling(0.0))
    texts = [
        list(sample(Reader(model, cached), [97, 98], request)) for cached in (1, 0)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 23


def test_the_seed_decides_the_text(small):
    model = trained(small())

    def text(seed):
        return list(sample(Reader(model), [97], Request("a", 10, seed=seed)))

    assert text(1) == text(1)
    assert len({tuple(text(seed)) for seed in range(5)}) == 5


def test_the_reader_reads_what_the_model_says(small):
    model = trained(small())
    tokens = [97, 98, 99]
    with torch.no_grad():
        wanted = model.model(torch.tensor([tokens]))[0, -1, :257].double()
    whole = Reader(model, cached=False)
    whole.read(tokens[:2])
    cached = Reader(model)
    cached.read(tokens[:2])
    assert torch.equal(whole.read(tokens[2:]), wanted)
    assert torch.allclose(cached.read(tokens[2:]), wanted, atol=1e-5)
    assert len(cached.seconds) == 2 and cached.tokens == tokens


def test_a_padded_row_is_never_sampled(small):
    """The vocabulary of the tokenizer counts: 257 of the 320 rows."""
    model = trained(small())
    with torch.no_grad():
        model.model.wte.weight[257:] = 100.0 * model.model.wte.weight[:63]
    for temperature in (0.0, 1.0, 5.0):
        request = Request("", 12, Sampling(temperature))
        assert max(sample(Reader(model), [97], request)) <= EOT
    assert spoken(b"\x00abc", tokens=3)[1].tokens == [0, *b"ab"]


def test_the_pieces_are_the_text():
    pieces, done = spoken("é€!".encode(), tokens=6)
    assert pieces == ["", "é", "", "", "€", "!", ""]
    assert done.tokens == list("é€!".encode()) and "TOKENS=6" in done.ended


def test_half_a_character_at_the_end_is_shown_as_such():
    assert "".join(spoken("€".encode(), tokens=2)[0]) == "\ufffd"


def test_a_stop_string_over_several_tokens():
    pieces, done = spoken("one STEP, STOP two".encode(), stops=("STOP",))
    assert "".join(pieces) == "one STEP, " and "'STOP'" in done.ended
    assert not any("STO" in "".join(pieces[:i]) for i in range(len(pieces)))
    assert bytes(done.tokens) == b"one STEP, STOP"


def test_a_stop_string_that_does_not_come_is_given_out_at_the_end():
    pieces, done = spoken(b"an ST", tokens=5, stops=("STOP",))
    assert pieces[-1] == "ST" and "".join(pieces) == "an ST" and "TOKENS" in done.ended


def test_the_end_of_a_document_ends_the_text():
    pieces, done = spoken(b"ab", ends=True)
    assert "".join(pieces) == "ab" and done.ended == "the document ended"
    assert done.tokens == [97, 98, EOT]


def test_a_full_context_ends_the_text_and_says_so(small):
    model = trained(small())  # 16 tokens
    for length in (1, 15, 16):
        done = generate(model, Request("x" * length, 99), lambda text: None)
        if done.ended == "the document ended":
            continue
        assert done.ended == "the context of 16 tokens is full"
        assert len(done.tokens) == 17 - length
        assert len(done.seconds) == len(done.tokens)
    assert "context" in spoken(b"a" * 99, context=8, tokens=99)[1].ended


def test_prompts(small):
    model = trained(small())
    assert prompt_tokens(model, "") == [EOT]
    assert prompt_tokens(model, "é") == [0xC3, 0xA9]
    with pytest.raises(GenerateError, match="17 tokens, the model reads 16"):
        prompt_tokens(model, "x" * 17)
    with pytest.raises(GenerateError, match="not UTF-8: invalid bytes after 'ab'"):
        prompt_tokens(model, os.fsdecode(b"ab\xff"))


@pytest.mark.parametrize(
    "tokens, with_cache, without",
    [
        (1, "too few", None),
        (3, "with the cache: 2 tokens, ", "without it: the same, "),
        (30, "with the cache: 29 tokens, ", "without it: 16 of these, "),
    ],
)
def test_the_speed_says_what_it_measured(tokens, with_cache, without):
    model = Trained(Scripted(b"abc" * 20), ByteTokenizer())
    done = generate(model, Request("hello", tokens), lambda text: None)
    lines = speed(model, done)
    assert lines[0] == "decode: the reference"
    assert lines[1].startswith("prompt: 5 tokens, read in ")
    assert lines[2].startswith(with_cache)
    assert len(lines) == 3 if without is None else lines[3].startswith(without)


def test_the_speed_is_tokens_by_seconds(monkeypatch):
    model = Trained(Scripted(b"abc" * 20), ByteTokenizer())
    done = generate(model, Request("hello", 5), lambda text: None)
    lengths = []

    def read(self, new):
        lengths.append(len(new))
        self.seconds.append(0.5)

    monkeypatch.setattr(Reader, "read", read)
    timed = type(done)(done.prompt, done.tokens, done.ended, [9.0, 0.1, 0.1, 0.1, 0.1])
    lines = speed(model, timed)
    assert "with the cache: 4 tokens, 10.0 tokens/s" in lines
    assert lines[3].startswith("without it: the same, 2.0 tokens/s")
    assert lines[4:] == ["the cache makes it 5.0 times as fast"]
    assert lengths == [6, 6, 7, 8, 9]


@pytest.fixture(scope="module")
def finished(make_cell, corpus, tmp_path_factory):
    """A trained cell."""
    directory = make_cell(tmp_path_factory.mktemp("runs") / "finished", RA="y", MLA="y")
    assert execute(directory, corpus) == 0
    return directory


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


def command(directory, *arguments, **environment):
    script = ROOT / "scripts" / "generate.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments, str(directory)],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_the_command_continues_a_prompt(finished):
    """The text is that of the library, whatever the locale of the terminal."""
    flags = ("--prompt=line é: ", "--tokens=7", "--seed=3", "--top-k=50")
    given = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "CUDA_VISIBLE_DEVICES": "-1"}
    done = command(finished, *flags, **given)
    assert done.returncode == 0, done.stderr
    pieces = []
    request = Request("line é: ", 7, Sampling(top_k=50), 3)
    generate(load(finished, "cpu"), request, pieces.append)
    assert done.stdout.decode() == "".join(pieces) + "\n"
    said = done.stderr.decode()
    assert "device: the CPU, as CUDA_VISIBLE_DEVICES=-1 hides every GPU\n" in said
    assert "7 tokens: TOKENS=7 were asked for" in said
    assert "with the cache: 6 tokens, " in said and "without it: the same, " in said
    assert "\ndecode: the reference (DECODE=auto)\n" in said


def test_make_generate_passes_everything_on(finished):
    prompt = 'it\'s $5 "a"'  # 11 of 16 tokens
    variables = {"RUN": finished, "PROMPT": prompt, "TOKENS": 3, "TEMPERATURE": 0}
    variables |= {"SEED": 2, "TOP_K": 9, "TOP_P": 0.9, "MIN_P": 0.1, "DEVICE": "cpu"}
    variables |= {"STOP": r"$$'|\n", "DECODE": "reference"}
    words = [f"{name}={value}" for name, value in variables.items()]
    make = ["make", "-C", str(ROOT), f"PYTHON={sys.executable}", "V=1"]
    done = subprocess.run([*make, "generate", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"\n{prompt}" in done.stdout and "prompt: 11 tokens" in done.stderr
    for name in set(variables) - {"RUN", "PROMPT", "STOP"}:
        flag = name.lower().replace("_", "-")
        assert f'${{{name}:+--{flag}="${name}"}}' in done.stdout
    refused = subprocess.run([*make, "generate"], capture_output=True, text=True)
    assert refused.returncode == 2 and "needs a run" in refused.stderr


def test_what_is_refused_has_no_traceback(finished, tmp_path):
    done = command(tmp_path / "nowhere", "--top-p=0")
    assert (
        done.returncode == 2 and b"--top-p=0: must be a number above 0" in done.stderr
    )
    done = command(finished, "--decode=triton", "--device=cpu")
    assert done.returncode == 1 and not done.stdout
    said = "error: DECODE=triton: our kernels cannot run on cpu; use DECODE=reference"
    assert done.stderr.decode().splitlines()[-1] == said
    done = command(finished, CUDA_VISIBLE_DEVICES="all")
    assert done.returncode == 1 and not done.stdout
    assert b"error: CUDA_VISIBLE_DEVICES=all: 'all' is neither" in done.stderr
    done = command(tmp_path / "nowhere")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(b"error: ") and b"no such" in last


def test_the_loaded_model_is_the_one_that_was_evaluated(finished, corpus, small):
    from gpt2.data.loading.corpus import Corpus

    found = load(finished, "cpu")
    settings = small(RA="y", MLA="y")
    windows = torch.from_numpy(Corpus(settings, corpus).eval_windows)
    summary = json.loads((finished / "summary.json").read_text())
    with torch.no_grad():
        loss = found.model(windows[:, :-1], windows[:, 1:]).item()
    assert loss == pytest.approx(summary["final_eval"]["loss"], rel=1e-6)
    assert not found.model.training


def test_directories_that_hold_no_run(finished, tmp_path):
    with pytest.raises(GenerateError, match="no such directory"):
        load(tmp_path / "nowhere", "cpu")
    with pytest.raises(GenerateError, match="not a run directory .* 1 lie below"):
        load(finished.parent, "cpu")


def test_a_run_that_is_not_done(copy, cell):
    with pytest.raises(GenerateError, match="never ran.*when a run is done"):
        load(cell("fresh"), "cpu")
    (copy / "summary.json").unlink()
    with pytest.raises(GenerateError, match="interrupted, begins anew"):
        load(copy, "cpu")


def test_a_run_without_weights(cell, train):
    directory = cell("bare", SAVE_MODEL="n", GPT2_MAX_ITERS="2")
    assert train(directory).returncode == 0
    with pytest.raises(GenerateError, match="CONFIG_SAVE_MODEL=y, move the dir"):
        load(directory, "cpu")


def weights(directory, **changes):
    path = directory / "checkpoint" / "model.pt"
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def test_weights_of_another_schema_or_model(copy):
    state = torch.load(copy / "checkpoint" / "model.pt", weights_only=True)["model"]
    weights(copy, schema=99)
    with pytest.raises(CheckpointError, match="schema 99, this code reads 1"):
        load(copy, "cpu")
    weights(copy, schema=1, model={**state, "wte.weight": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="another model"):
        load(copy, "cpu")
    weights(copy, model={**state, "wte.weight": state["wte.weight"] + 1})
    with pytest.raises(GenerateError, match="summary.json names"):
        load(copy, "cpu")
    (copy / "checkpoint" / "model.pt").write_bytes(b"PK\x03\x04 torn" * 50_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(copy, "cpu")


@pytest.mark.parametrize(
    "symbol, value, why",
    [
        ("GPT2_LAYERS", 10**6, "CONFIG_GPT2_LAYERS=1000000: is out of range .1 to 256"),
        ("GPT2_WIDTH", 10**12, "CONFIG_GPT2_WIDTH=1000000000000: is out of range"),
        ("GPT2_HEADS", True, "CONFIG_GPT2_HEADS=y: expected int, found bool"),
        ("BATCH_SIZE", -1, "CONFIG_BATCH_SIZE=-1: is out of range"),
        ("QUANTUM", 3, "CONFIG_QUANTUM=3: no such symbol in this checkout"),
        ("MLP_DIM", 1 << 20, "model.pt has .* bytes, too few for the .* values"),
    ],
)
def test_a_config_that_nobody_merged(copy, tree, symbol, value, why):
    """It holds together, but no strict merge made it: nothing is built by it."""
    values = {**config_py.read(copy / "config.py").values, symbol: value}
    config_py.write(copy / "config.py", values, tree.operational)
    with pytest.raises((GenerateError, CheckpointError), match=why):
        load(copy, "cpu")


def test_records_of_a_newer_schema(copy):
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps({**summary, "schema": 2}))
    with pytest.raises(RecordError, match="has schema 2"):
        load(copy, "cpu")


def test_a_run_from_before_a_symbol(copy, tree):
    values = config_py.read(copy / "config.py").values
    older = {name: each for name, each in values.items() if name not in history.ADDED}
    assert older != values
    config_py.write(copy / "config.py", older, tree.operational)
    assert load(copy, "cpu").model.settings == build(ModelSettings, values)


def test_a_config_of_another_version(copy, resolve, tree):
    (copy / "config.py").write_text("GONE = 1\n")
    with pytest.raises(ConfigError, match="not a whole config.py"):
        load(copy, "cpu")
    values = resolve()
    del values["MLP_DIM"]
    config_py.write(copy / "config.py", values, tree.operational)
    with pytest.raises(GenerateError, match="MLP_DIM.*missing.*another version"):
        load(copy, "cpu")
