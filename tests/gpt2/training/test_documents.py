"""Training with documents apart: what is handed to the model, and that it arrives.

gpt2/check/proofs/documents.py proves the mechanisms, tests/gpt2/data/test_documents.py where
documents begin.
"""

import json
import random

import numpy as np
import pytest
import torch

from gpt2.data.loading.batch import Batch
from gpt2.data.loading.corpus import Corpus
from gpt2.data.packing.prepare import prepare
from gpt2.model.gpt import GPT
from gpt2.model.statistics import _walk
from gpt2.settings.run import run_settings
from gpt2.training.cell import execute
from gpt2.training.validation import evaluate
from kconf import config_py
from records import atomic
from records.jsonl import last_per_step, read_rows
from tests.conftest import SMALL
from tests.gpt2.model.test_statistics import MODELS, built

APART = {"DOCUMENTS_APART": "y"}
EOT = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory, resolve):
    """A packed corpus of 400 short documents, and the symbols that name it."""
    place, draw = tmp_path_factory.mktemp("documents"), random.Random(3)
    lines = []
    for number in range(400):
        text = f"{number} " + "abcdefgh"[: draw.randint(1, 8)] * draw.randint(1, 3)
        lines.append(json.dumps({"text": text}))
    (place / "all.jsonl").write_text("\n".join(lines))
    symbols = {"DATASET_LOCAL": "y", "LOCAL_PATH": str(place / "all.jsonl")}
    settings = run_settings(resolve(SMALL, symbols))
    prepare(settings.data, place / "packed", say=lambda line: None)
    return place / "packed", symbols


@pytest.fixture
def trained(folder, tmp_path, tree, resolve):
    """rows = trained("name", GPT2_MAX_ITERS="20", …): a cell run to its end."""
    packed, symbols = folder

    def run(name, until=None, **more):
        directory = tmp_path / name
        if not directory.exists():
            directory.mkdir()
            values = resolve(SMALL, symbols, **more)
            config_py.write(directory / "config.py", values, tree.operational)
            cell = {"schema": 1, "cell": {"hash": "0" * 64}}
            atomic.write_json(directory / "run.json", cell)
        assert execute(directory, packed) == 0
        rows = read_rows(directory / "metrics.jsonl")
        facts = next(row for row in rows if row["kind"] == "facts")
        losses = [row["loss"] for row in last_per_step(rows, "train")]
        return facts, losses, last_per_step(rows, "eval")[-1]["loss"]

    return run


def test_the_same_batches_and_where_documents_begin(folder, resolve):
    """Whatever the ranks and the accumulation, from the middle too."""
    packed, symbols = folder
    plain = Corpus(run_settings(resolve(SMALL, symbols)), packed)
    apart = Corpus(run_settings(resolve(SMALL, symbols, **APART)), packed)
    assert plain.eval_sha256 == apart.eval_sha256
    assert "documents apart" in apart.description
    whole = next(apart.batches(Batch(8, 1, 1), "cpu", 3, 4))[0]
    assert (whole.starts_BT > 0).any()
    for row, starts in zip(whole.tokens_BT.tolist(), whole.starts_BT.tolist()):
        seen = [t for t, token in enumerate(row) if token == EOT]
        assert starts == [max([0] + [s for s in seen if s <= t]) for t in range(16)]
    for micro in next(plain.batches(Batch(8, 1, 1), "cpu", 3, 4)):
        assert micro.starts_BT is None
        assert torch.equal(micro.tokens_BT, whole.tokens_BT)
    cuts = [next(apart.batches(Batch(2, 2, 2), "cpu", 3, 4, rank)) for rank in (0, 1)]
    turns = [micro for pair in zip(*cuts) for micro in pair]
    for part in range(3):
        together = torch.cat([micro[part] for micro in turns])
        assert torch.equal(together, whole[part])


def test_a_run_trains_and_resumes_with_documents_apart(trained, monkeypatch):
    symbols = {"MLP_ATTN_GATE": "y", "MLP_ATTN_GATE_RANK": "8"}
    facts, plain, plain_eval = trained("plain", **symbols)
    assert facts["documents_apart"] is False
    apart_facts, apart, apart_eval = trained("apart", **symbols, **APART)
    assert apart_facts["documents_apart"] is True
    for same in ("eval_sha256", "init_sha256", "tokens_per_step", "parameters"):
        assert facts[same] == apart_facts[same]
    assert apart[0] != plain[0] and apart_eval != plain_eval
    from gpt2.training import trainer

    save, asked = trainer.Trainer._checkpoint, []
    steps = trainer.Trainer._step

    def stop(self, batches):
        steps(self, batches)
        if self.progress.step == 11 and not asked:
            asked.append(save)
            raise OSError("the power is gone")

    monkeypatch.setattr(trainer.Trainer, "_step", stop)
    with pytest.raises(AssertionError):
        trained("killed", **symbols, **APART)
    _, resumed, resumed_eval = trained("killed", **symbols, **APART)
    assert (resumed, resumed_eval) == (apart, apart_eval)


def test_training_and_evaluation_hear_one_document(folder, resolve):
    """The first loss of a step is that of every document by itself."""
    packed, symbols = folder
    settings = run_settings(resolve(SMALL, symbols, **APART))
    corpus, model = Corpus(settings, packed), built(settings)
    rows = corpus.eval_windows
    total = 0.0
    for row in rows:
        cuts = [t for t in range(1, 16) if row[t] == EOT]
        for first, end in zip([0, *cuts], [*cuts, 16]):
            part = torch.from_numpy(row[None, first : end + 1])
            loss = model(part[:, :-1], part[:, 1:]).item()
            total += loss * (end - first)
    autocast = torch.autocast("cpu", enabled=False)
    apart = (model, rows, 3, 1.0, "cpu", autocast)
    found = evaluate(*apart, separator=corpus.separator).loss
    assert found == pytest.approx(total / (len(rows) * 16), rel=1e-9)
    assert found != pytest.approx(evaluate(*apart).loss, rel=1e-6)


@pytest.mark.parametrize("case", MODELS)
def test_statistics_of_a_sequence_are_those_of_its_documents(small, case):
    """Every sum over a sequence is the sum over its documents alone."""
    settings = small(**MODELS[case])
    model, draw = built(settings), np.random.default_rng(5)
    tokens = torch.from_numpy(draw.integers(0, EOT, (1, 16)))
    bounds = [(0, 3), (3, 4), (4, 9), (9, 16)]
    for first, _ in bounds[1:]:
        tokens[0, first] = EOT
    with torch.no_grad():
        packed, _ = _walk(model, tokens, EOT, draws=False)
        alone = [_walk(model, tokens[:, a:b], None, draws=False)[0] for a, b in bounds]
    for layer, found in enumerate(packed):
        for name in found.keys() - {"ra_alpha"}:
            sums = [torch.stack(part[layer][name].sums) for part in alone]
            wanted = torch.stack(sums).sum(dim=0)
            torch.testing.assert_close(torch.stack(found[name].sums), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 16)])
def test_the_mean_of_a_document_has_nothing_of_the_one_before(shape):
    """Not even rounding: what lies before is enormous, and then no number."""
    from gpt2.model.mlp.attn_gate import document_mean

    B, T = shape
    c_BTr = torch.randn(B, T, 3)
    starts_BT = torch.full((B, T), T // 2, dtype=torch.int32)
    starts_BT[:, : T // 2] = 0
    wanted = document_mean(c_BTr, starts_BT)[:, T // 2 :]
    for other in (1e30, float("inf"), float("nan")):
        c_BTr[:, : T // 2] = other
        assert torch.equal(document_mean(c_BTr, starts_BT)[:, T // 2 :], wanted)
    alone = document_mean(c_BTr[:, T // 2 :], torch.zeros_like(starts_BT[:, T // 2 :]))
    assert torch.equal(alone, wanted)


def test_the_memory_of_a_mask_is_counted(small):
    """sdpa with documents holds a B x T x T mask; the estimate knows."""
    from gpt2.training.memory import memory_estimate

    wide = {"GPT2_BLOCK_SIZE": "512"}
    plain, apart = small(**wide), small(**wide, **APART)
    grown = memory_estimate(apart, 4) - memory_estimate(plain, 4)
    assert 4 * 512 * 512 <= grown < 64 * 4 * 512 * 512


def test_a_model_that_hears_one_document_decodes_as_before(small):
    model = GPT(small(**APART).model).eval()
    tokens = torch.randint(0, 256, (1, 12))
    with torch.no_grad():
        cached, _ = model.decode(tokens)
        torch.testing.assert_close(cached, model(tokens))


@pytest.mark.parametrize(
    "symbols", [{}, {"SLIDING": "y", "WINDOW": "3", "GQA": "y", "KV_HEADS": "2"}]
)
def test_flex_keeps_documents_apart(small, symbols):
    """Forward alone: on a CPU torch's FlexAttention has no backward pass."""
    flex = built(small(**symbols, ATTENTION_IMPL_FLEX="y"))
    plain = built(small(**symbols, ATTENTION_IMPL_REFERENCE="y"))
    plain.load_state_dict(flex.state_dict())
    tokens = torch.randint(0, 256, (2, 16))
    starts = torch.zeros(2, 16, dtype=torch.int32)
    starts[0, 5:], starts[1, 2:9], starts[1, 9:] = 5, 2, 9
    with torch.no_grad():
        for given in (None, starts):
            wanted = plain(tokens, None, given)
            torch.testing.assert_close(flex(tokens, None, given), wanted)
