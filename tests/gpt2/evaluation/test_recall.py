"""Recall accuracy: against one query at a time, models that must be right or wrong, and
`make eval`."""

import hashlib
import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from gpt2.data.packing.prepare import prepare
from gpt2.data.tokenization.tokenizers import ByteTokenizer
from gpt2.evaluation.command import Wanted, evaluate_run, evaluate_study
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.recall import evaluation_rows, pairs_of, score_rows
from gpt2.generation.generate import Trained
from gpt2.settings.run import run_settings
from gpt2.training.cell import execute
from kconf import config_py
from records import atomic, evaluations
from records.layout import CellDir
from tests.conftest import SMALL
from tests.gpt2.data.sources.test_recall import RECALL, read
from tests.gpt2.model.test_decode import randomised


@pytest.fixture
def recall(resolve):
    """The recall settings of rows of 24 tokens."""
    return run_settings(resolve(SMALL, RECALL)).data.recall


class Lookup(nn.Module):
    """Predicts after a key what stood behind its first copy, plus `shift`; after a key
    that is new, and after a value, byte 200.
    """

    def __init__(self, shift: int = 0):
        super().__init__()
        self.shift = shift

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """logits_BTV, with rows of padding that are larger than any token's."""
        logits_BTV = torch.zeros(*tokens_BT.shape, 320)
        logits_BTV[..., 257:] = 50.0
        for row, text in enumerate(tokens_BT.tolist()):
            for t, token in enumerate(text):
                before = text[:t].index(token) if token in text[:t] else None
                known = before is not None and token < 128
                value = text[before + 1] + self.shift if known else 200
                logits_BTV[row, t, value] = 9.0
        return logits_BTV


@pytest.mark.parametrize("pairs", [1, 2, 5, 9])
def test_the_score_is_that_of_one_query_at_a_time(small, recall, pairs):
    torch.manual_seed(0)
    model = randomised(small(**RECALL))
    rows = evaluation_rows(recall, pairs, seed=1, count=7)
    right, nats, queries = 0, [], 0
    for row in rows:
        _, asked = read(row.text)
        for place, _, answer in asked[:pairs]:
            start = torch.tensor([list(row.text[:place])])
            with torch.no_grad():
                logits_V = model(start)[0, -1, :257]
            right += int(logits_V.argmax()) == answer
            nats.append(-float(logits_V.log_softmax(0)[answer]))
            queries += 1
    found = score_rows(Trained(model, ByteTokenizer()), rows, batch=3)
    assert found.answers == queries
    assert found.acc == right / queries
    assert found.loss == pytest.approx(math.fsum(nats) / queries, rel=1e-12)
    assert found == score_rows(Trained(model, ByteTokenizer()), rows, batch=7)
    assert found.sha256 == hashlib.sha256(b"".join(r.text for r in rows)).hexdigest()


@pytest.mark.parametrize("shift, acc", [(0, 1.0), (1, 0.0)])
def test_a_lookup_is_right_and_its_neighbour_wrong(recall, shift, acc):
    rows = evaluation_rows(recall, 5, seed=1, count=9)
    found = score_rows(Trained(Lookup(shift), ByteTokenizer()), rows, batch=4)
    assert (found.acc, found.answers) == (acc, 9 * 5)


def test_answers_given_before_are_not_counted(recall):
    """A model that knows a value only after its answer was given once is wrong: of 2
    pairs and 19 bytes, 2 answers count of 9.
    """

    class Copies(Lookup):
        def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
            logits_BTV = super().forward(tokens_BT)
            for row, text in enumerate(tokens_BT.tolist()):
                for t, token in enumerate(text):
                    if text[:t].count(token) < 2:
                        logits_BTV[row, t, :257] = 0.0
                        logits_BTV[row, t, 5] = 1.0
            return logits_BTV

    rows = evaluation_rows(recall, 2, seed=1, count=9)
    found = score_rows(Trained(Copies(), ByteTokenizer()), rows, batch=4)
    assert (found.acc, found.answers) == (0.0, 18)


def test_rows_are_not_those_of_training(recall):
    made = [r.text for seed in (1, 2) for r in evaluation_rows(recall, 5, seed, 40)]
    trained = {text for _, text in _documents(recall)}
    assert len(set(made)) == 80 and not trained & set(made)


def _documents(recall):
    from gpt2.data.sources.recall import recall_documents

    sizes = (recall.pairs, recall.keys, recall.values, recall.length)
    return recall_documents(400, recall.seed, *sizes)


def test_names():
    assert [pairs_of(f"kablate_recall_{n}") for n in (8, 40)] == [8, 40]
    names = ("kablate_recall_0", "kablate_recall_", "kablate_text", "recall_8")
    assert not any(map(pairs_of, names))


def test_pairs_that_do_not_fit_the_corpus(recall):
    with pytest.raises(EvaluationError, match="kablate_recall_10: 10 pairs need"):
        evaluation_rows(recall, 10, 1, 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory, resolve, tree):
    """A study of one run that trained on rows."""
    root = tmp_path_factory.mktemp("recall")
    values = resolve(SMALL, RECALL, GPT2_MAX_ITERS="3", GPT2_EVAL_INTERVAL="3")
    prepare(run_settings(values).data, root / "packed", lambda line: None)
    cell = root / "study" / "00-base" / "seed-1" / "00000001"
    cell.mkdir(parents=True)
    config_py.write(cell / "config.py", values, tree.operational)
    facts = {"schema": 1, "cell": {"hash": "0" * 64}}
    atomic.write_json(cell / "run.json", facts)
    assert execute(cell, root / "packed") == 0
    return root / "study"


@pytest.fixture
def copied(study, tmp_path):
    return shutil.copytree(study, tmp_path / "study")


def test_rows_of_a_study_on_the_record(copied):
    lines = []
    wanted = Wanted(tasks=("kablate_recall_2", "kablate_recall_5"), limit=6)
    assert evaluate_study(wanted, copied, lines.append) == 0, lines
    assert evaluate_study(wanted, copied, lines.append) == 0
    assert "0 runs to evaluate, 1 are evaluated already" in lines[-1]
    cell = CellDir(copied / "00-base" / "seed-1" / "00000001")
    row = evaluations.read(cell)["kablate_recall_5"]
    source = "recall version 1, 9 keys, 4 values, 24 tokens"
    assert row["settings"] == {"task": source, "limit": 6, "shots": None, "seed": 1}
    assert row["counts"] == {"requests": 30, "truncated": 0}
    assert row["better"] == {"acc": "higher", "loss": "lower"}
    assert 0 <= row["metrics"]["acc"] <= 1 and np.isfinite(row["metrics"]["loss"])
    more = Wanted(tasks=("kablate_recall_5",), limit=7)
    evaluate_study(more, copied, lines.append)
    assert any("1 run to evaluate" in line for line in lines[-4:])


def test_what_cannot_be_asked(copied, make_cell, tmp_path):
    run = copied / "00-base" / "seed-1" / "00000001"
    tasks = ("kablate_recall_5",)
    with pytest.raises(EvaluationError, match="SHOTS=2: kablate_recall_5 takes no"):
        evaluate_run(Wanted(tasks=tasks, shots=2), run)
    with pytest.raises(EvaluationError, match="CONFIG_DATASET_RECALL=y"):
        from gpt2.evaluation.command import Evaluator

        cell = CellDir(make_cell(tmp_path / "stdlib"))
        Evaluator(Wanted(tasks=tasks), print).missing(cell)
