"""What native sparse attention chooses and weighs, against loops over its weights."""

import json
import math
import statistics

import numpy as np
import pytest
import torch

from gpt2.model.gpt import GPT
from gpt2.model.mixers.nsa.choices import choice_of, choice_statistics
from gpt2.model.statistics import attention_stats
from gpt2.model.values import Positions
from gpt2.training.cell import execute
from records import read
from tests.gpt2.model.test_mechanisms import randomised
from tests.gpt2.training.test_cell import rows, summary

T = 29
NSA = {"MIXER_NSA": "y", "KV_HEADS": "2", "GPT2_BLOCK_SIZE": "32", "GPT2_LAYERS": "2"}
NSA |= {"NSA_LENGTH": "2", "NSA_STRIDE": "1", "NSA_BLOCK": "2", "NSA_TOP": "4"}
NSA |= {"NSA_WINDOW": "5", "POSITION_ROPE": "y"}
HEAD = {"NSA_CHOICE_PER_HEAD": "y", "NSA_FORCED_BLOCKS": "n", "NSA_GATE_SIGMOID": "y"}
CASES = {"group": NSA, "head": {**NSA, **HEAD}}


def built(small, symbols):
    torch.manual_seed(2)
    return randomised(GPT(small(**symbols).model), 4).eval()


def looped(layer, x_1TE):
    """Shares by distance, mass and overlap, one query after another."""
    spec, found = layer.spec, choice_of(layer.projection, x_1TE, Positions())
    X, n, b = found.blocks_BTXN.shape[2], spec.top, spec.block
    shares, counts = found.weights_BTHC[0], {}
    mass, overlap = [[] for _ in range(X)], [[] for _ in range(X)]
    for t in range(n * b, T):
        own = t // b
        for x in range(X):
            blocks = {*found.blocks_BTXN[0, t, x].tolist()}
            heads = shares[t].unflatten(0, (X, -1))[x].sum(dim=0).tolist()
            score = [0.0] * (own + 1)
            for i, p in enumerate(heads):
                for token in range(i * spec.stride, i * spec.stride + spec.length):
                    if p:
                        score[token // b] += p / spec.length
            free = blocks - ({0, own, own - 1} if spec.forced else set())
            mass[x].append(sum(score[j] for j in free) / sum(score))
            for j in free:
                place = (own - j).bit_length()
                counts[place] = counts.get(place, 0) + 1
            if t > n * b:
                before = {*found.blocks_BTXN[0, t - 1, x].tolist()}
                overlap[x].append(len(blocks & before) / n)
    total = sum(counts.values())
    by_distance = [counts.get(place, 0) / total for place in range(max(counts) + 1)]
    means = [[statistics.fmean(each) for each in rows] for rows in (mass, overlap)]
    return {"choice_distance": by_distance, "choice_mass": means[0]} | {
        "choice_overlap": means[1]
    }


@pytest.mark.parametrize("case", CASES)
def test_what_is_chosen(small, case):
    model = built(small, CASES[case])
    x_1TE = torch.randn(1, T, model.settings.embed, dtype=torch.float64)
    layer = model.h[0].attn
    wanted = looped(layer, x_1TE)
    found = choice_statistics(
        choice_of(layer.projection, x_1TE, Positions()), layer.spec
    )
    for name, each in found.items():
        values = each.final(*each.sums).tolist()
        longer = len(values) - len(wanted[name])
        assert values == pytest.approx(wanted[name] + [0] * longer), name
    assert not case == "group" or wanted["choice_distance"][:2] == [0, 0]
    assert 0 < wanted["choice_mass"][0] < 1


def test_keys_that_are_read(small):
    """What a decode of the same window counts, and all tokens of a document."""
    model = built(small, CASES["group"])
    windows = np.random.default_rng(0).integers(0, 256, (1, T + 1))
    found = attention_stats(model, windows, "cpu")
    tokens_BT, cache = torch.from_numpy(windows[:, :-1]), None
    for t in range(T):
        _, cache = model.decode(tokens_BT[:, t : t + 1], cache)
    for number, (block, layer) in enumerate(zip(model.h, cache.layers)):
        counted = block.attn.reads(layer.mixer, T)
        assert set(counted) == {"cmp", "sel", "win"}
        for name, value in counted.items():
            assert found[f"reads_{name}"][number] == pytest.approx(value, 1e-5)
    assert found["reads_all"] == [(T + 1) / 2] * 2
    windows[0, [4, 11]] = 256
    found = attention_stats(model, windows, "cpu", separator=256)
    lengths = [n - m for m, n in zip((0, 4, 11), (4, 11, T))]
    wanted = sum(n * (n + 1) / 2 for n in lengths) / T
    assert found["reads_all"] == pytest.approx([wanted] * 2, 1e-5)
    assert found["reads_sel"][0] < wanted


def test_moments_of_the_gate(small):
    model = built(small, CASES["head"])
    windows = np.random.default_rng(0).integers(0, 257, (2, T + 1))
    found = attention_stats(model, windows, "cpu")
    shares = []
    for window in windows:
        tokens_BT = torch.from_numpy(window[None, :-1])
        x_BTE = model.h[0].norm1(model.embed(tokens_BT, Positions()))
        shares.append(model.h[0].attn.gate(x_BTE, x_BTE[:, :, None]).detach())
    gate_QHm = torch.cat([each[0] for each in shares])
    assert found["gate_sel"][0] == pytest.approx(
        gate_QHm[..., 1].mean(0).tolist(), 1e-5
    )
    wanted = gate_QHm[..., 2].std(dim=0, correction=0).tolist()
    assert found["gate_win_sd"][0] == pytest.approx(wanted, 1e-4)
    part_QHm = gate_QHm / gate_QHm.sum(dim=2, keepdim=True)
    entropy = -(part_QHm * part_QHm.log()).sum(dim=2).mean(dim=0)
    assert found["gate_entropy"][0] == pytest.approx(entropy.tolist(), 1e-5)
    assert max(found["gate_entropy"][0]) <= math.log(3)


def test_the_row_can_be_read_and_holds_maps(small, tmp_path):
    """Of the first window; every row of p^s sums to 1 where a block is visible."""
    model = built(small, {**NSA, "GPT2_LAYERS": "4"})
    windows = np.random.default_rng(0).integers(0, 257, (3, 22 + 1))
    found = attention_stats(model, windows, "cpu")
    alone = attention_stats(model, windows[:1], "cpu")
    assert found["maps"] == alone["maps"]
    assert {n: [*layers] for n, layers in found["maps"].items()} == {
        "compressed": ["0", "1", "3"],
        "selected": ["0", "1", "3"],
    }
    rows = found["maps"]["selected"]["0"]
    assert [round(sum(row), 2) for row in rows] == [0] + [1] * 21
    upper = np.triu(np.array(found["maps"]["compressed"]["3"]), 0)
    assert upper.shape == (22, 21) and not upper.any()
    row = {"kind": "attention", "step": 0, "attempt": 1, **found}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert list(read.metrics(tmp_path / "metrics.jsonl")) == [row]


def test_a_run_records_them_and_trains_to_the_same_bits(make_cell, corpus, tmp_path):
    """With no attention beside it."""
    symbols = {**NSA, "GPT2_MAX_ITERS": "4", "GPT2_EVAL_INTERVAL": "2"}
    ended = []
    for name, value in (("with", "y"), ("without", "n")):
        cell = make_cell(tmp_path / name, LOG_ATTENTION_STATS=value, **symbols)
        assert execute(cell, corpus) == 0
        ended.append((summary(cell)["model_sha256"], rows(cell, "attention")))
    assert ended[0][0] == ended[1][0] and ended[1][1] == []
    assert [row["step"] for row in ended[0][1]] == [0, 2, 4]
    assert all(0 < row["choice_overlap"][1][0] <= 1 for row in ended[0][1])


def test_where_every_block_is_read_nothing_was_chosen(small):
    model = built(small, {**NSA, "NSA_TOP": "16"})
    windows = np.random.default_rng(0).integers(0, 257, (1, T + 1))
    found = attention_stats(model, windows, "cpu")
    assert found["choice_mass"] == [[None, None]] * 2
    assert {*found["choice_distance"][0]} == {None}
