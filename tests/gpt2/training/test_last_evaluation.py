"""The losses of the last evaluation by document: against the same sums by hand, by two
ranks, and after a kill. The documents are found by a scan of the whole split.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.data.loading.corpus import Corpus
from gpt2.generation.generate import load
from gpt2.settings.run import run_settings
from gpt2.training import cell as cell_module
from gpt2.training.cell import execute
from records import unit_losses
from records.layout import CellDir
from records.unit_losses import UnitLosses
from tests.gpt2.hand_cells import COMMON, cell, places, rows
from tests.gpt2.ranks import TRAIN_CELLS, finish, launch
from tests.oracles import corpus

CHUNKED = {"LOSS_CHUNKED": "y"}
# Of 22 windows of 48 tokens, in which a document has some 20.
SPARSE, ALL = {"GPT2_EVAL_WINDOWS": "13"}, {"GPT2_EVAL_WINDOWS": "500"}
FEW = {"GPT2_EVAL_WINDOWS": "3"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, resolve):
    return places(tmp_path_factory.mktemp("last"), resolve)["packed"]


@pytest.fixture
def made(place, tmp_path, resolve, tree):
    """directory, values = made("name", SEED="12", …)."""

    def make(name="cell", **more):
        values = resolve(COMMON, place.symbols, more)
        return cell(tmp_path / name, values, tree), values

    return make


def kept(directory: Path) -> tuple[UnitLosses, dict]:
    """The file, and what the summary says of it."""
    told = json.loads((directory / "summary.json").read_text())["last_evaluation"]
    found = unit_losses.read(CellDir(directory).last_evaluation, told["sha256"])
    return found, told


def by_hand(directory: Path, place, values: dict) -> dict[int, list]:
    """{document: (window, loss) of its targets}."""
    tokens, T = corpus.tokens_of(place.validation(values)), values["GPT2_BLOCK_SIZE"]
    available = (len(tokens) - 1) // T
    number = min(values["GPT2_EVAL_WINDOWS"], available)
    model, losses = load(directory, "cpu").model, {}
    for j in range(number):
        start = j * available // number * T
        row = torch.tensor([tokens[start : start + T + 1]])
        log_TV = model(row[:, :-1])[0].double().log_softmax(-1)
        for t in range(T):
            at = start + t + 1
            document = tokens[:at].count(corpus.SEPARATOR)
            losses.setdefault(document, []).append((j, -log_TV[t, tokens[at]].item()))
    return losses


@pytest.mark.parametrize("more", [SPARSE, {**SPARSE, **CHUNKED}, ALL])
def test_the_sums_of_documents_by_hand(made, place, more):
    directory, values = made(**more)
    assert execute(directory, place.packed) == 0
    found, told = kept(directory)
    wanted = [
        [nats for _, nats in each]
        for each in by_hand(directory, place, values).values()
    ]
    assert found.unit == told["unit"] == "document"
    assert list(found.tokens) == list(map(len, wanted))
    assert list(found.nats) == pytest.approx(list(map(sum, wanted)), rel=1e-5)
    scored = [t for row in place.windows(values) for t in row[1:]]
    assert told["tokens"] == len(scored) and told["units"] == len(wanted)
    assert told["bytes"] == sum(token != corpus.SEPARATOR for token in scored)
    windows = np.array(place.windows(values), np.int64)
    assert told["text_sha256"] == hashlib.sha256(windows.tobytes()).hexdigest()
    final = rows(directory, "eval")[-1]["loss"]
    assert sum(found.nats) / told["tokens"] == pytest.approx(final, rel=1e-6)


def test_few_documents_are_read_by_window(made, place):
    directory, values = made(**FEW)
    assert execute(directory, place.packed) == 0
    found, told = kept(directory)
    wanted = [[], [], []]
    for each in by_hand(directory, place, values).values():
        for window, nats in each:
            wanted[window].append(nats)
    assert told["unit"] == "window" and list(found.tokens) == [48, 48, 48]
    assert list(found.nats) == pytest.approx(list(map(sum, wanted)), rel=1e-5)


@pytest.mark.parametrize("loss", ["PLAIN", "CHUNKED"])
def test_the_mean_is_that_of_an_evaluation_without_them(made, place, monkeypatch, loss):
    """Bit for bit: what is kept changes no number that was recorded before."""
    choice = {f"LOSS_{loss}": "y", "GPT2_MAX_ITERS": "3"}
    directory, _ = made("with", **choice)
    assert execute(directory, place.packed) == 0
    trained = rows(directory, "eval")
    model, values = load(directory, "cpu").model, made("values", **choice)[1]
    text = Corpus(run_settings(values), place.packed)
    autocast, seen = torch.autocast("cpu", enabled=False), []
    windows, each = text.eval_windows, text.eval_text.bytes_per_token
    from gpt2.training.validation import evaluate

    plain = evaluate(model, windows, 3, each, "cpu", autocast)
    assert trained[-1]["loss"] == plain.loss
    assert trained[-1]["bits_per_byte"] == plain.bits_per_byte
    rows_BT = torch.from_numpy(windows[:3])
    with torch.no_grad():
        mean, loss_BT = model.losses(rows_BT[:, :-1], rows_BT[:, 1:])
        assert mean.item() == model(rows_BT[:, :-1], rows_BT[:, 1:]).item()
    assert loss_BT.mean().item() == pytest.approx(mean.item(), rel=1e-6)


def test_two_ranks_keep_what_one_keeps(made, place):
    """Of the same weights: no step is taken. Micro-batches of two ranks are halves."""
    same = {
        **ALL,
        "GPT2_MAX_ITERS": "1",
        "LEARNING_RATE": "1e-30",
        "MIN_LEARNING_RATE": "0",
    }
    same |= {"GPT2_DROPOUT": "0.0", "WEIGHT_DECAY": "0", "BATCH_SIZE": "3"}
    alone, _ = made("alone", **same)
    assert execute(alone, place.packed) == 0
    both, _ = made("both", **same, GPUS_PER_RUN="2")
    process = launch(2, TRAIN_CELLS, place.packed, both)
    output = finish(process)
    assert process.returncode == 0, output
    assert rows(both, "eval")[-1]["loss"] == rows(alone, "eval")[-1]["loss"]
    one, two = (d / "last_evaluation.bin" for d in (alone, both))
    assert one.read_bytes() == two.read_bytes()
    assert kept(both)[1] == kept(alone)[1]


def test_a_kill_before_the_summary_leaves_what_a_calm_run_has(made, place, monkeypatch):
    calm, _ = made("calm", **SPARSE)
    assert execute(calm, place.packed) == 0
    killed, _ = made("killed", **SPARSE)
    write = cell_module.atomic.write_json

    def no_summary(path, value):
        if path.name == "summary.json":
            raise OSError("the power is gone")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(cell_module.atomic, "write_json", no_summary)
        assert execute(killed, place.packed) == 1
    assert (killed / "last_evaluation.bin").exists()
    assert execute(killed, place.packed) == 0
    assert kept(killed) == kept(calm)


def test_the_last_evaluation_reads_its_own_windows(made, place):
    """The curve stays on the windows of the others; every other number is as before."""
    plain, _ = made("plain", GPT2_EVAL_WINDOWS="5")
    longer, values = made("longer", GPT2_EVAL_WINDOWS="5", GPT2_FINAL_EVAL_WINDOWS="17")
    for directory in (plain, longer):
        assert execute(directory, place.packed) == 0
    assert [strip(row) for row in rows(plain, "train")] == [
        strip(row) for row in rows(longer, "train")
    ]
    short, last = rows(plain, "eval"), rows(longer, "eval")
    assert [strip(row) for row in short[:-1]] == [strip(row) for row in last[:-1]]
    assert last[-1]["curve_loss"] == short[-1]["loss"] != last[-1]["loss"]
    assert "curve_loss" not in short[-1]
    values = {**values, "GPT2_EVAL_WINDOWS": 17}
    losses = by_hand(longer, place, values).values()
    nats = [loss for each in losses for _, loss in each]
    assert last[-1]["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    found, told = kept(longer)
    assert sum(found.tokens) == told["tokens"] == 17 * 48 == len(nats)
    assert told["most_tokens"] == 22 * 48
    facts = rows(longer, "facts")[0]
    assert (facts["eval_windows"], facts["last_eval_windows"]) == (5, 17)
    assert told["text_sha256"] == facts["last_eval_sha256"] != facts["eval_sha256"]


def strip(row: dict) -> dict:
    """Without what a clock says."""
    return {k: v for k, v in row.items() if k not in ("time", "tokens_per_s", "mfu")}
