"""Attention statistics against loops in float64; a run with them and without."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpt2.model import statistics as module
from gpt2.model.gpt import GPT
from gpt2.model.statistics import attention_stats
from gpt2.model.values import BlockToBlock, Positions
from records.jsonl import last_per_step, read_rows
from tests.gpt2.model.test_mechanisms import (
    CASES,
    CROSS,
    GATE,
    LATENT,
    MLA,
    RA,
    randomised,
)
from tests.gpt2.training.test_cell import curve, rows, summary
from tests.oracles import attention as oracle

T, B, H = 6, 2, 4
MODELS = {
    "baseline": {},
    "ra": RA,
    "ra-learned": {**RA, "RA_LEARNED": "y"},
    "gqa-sliding": {"GQA": "y", "KV_HEADS": "2", "SLIDING": "y", "WINDOW": "3"},
    "softpick": {"SOFTPICK": "y"},
    "mla-latent": LATENT,
    "mla-ra": {**MLA, **RA},
    "ct-output": CASES["ct-topk-output"],
    "ct-weights-ra": {**CASES["ct-entropy-weights"], **RA},
    "ct-average": CASES["ct-rms-output-average"],
    "gate-elementwise": CASES["gate-elementwise"],
    "gate-headwise": CASES["gate-headwise"],
    "mlp-gate": GATE,
    "everything": {**GATE, **CROSS, **LATENT, **CASES["all"], "GPT2_LAYERS": "3"},
}


def built(settings):
    """A model in float64, every parameter away from its start."""
    torch.manual_seed(3)  # biases begin with torch's own numbers
    return randomised(GPT(settings.model), 3).eval()


def windows_of(seed=1, count=B, length=T):
    return np.random.default_rng(seed).integers(0, 257, (count, length + 1))


def linear(x, layer):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def projected(layer, model, x, extra):
    """q, k, v by the oracles, from the module's own weights."""
    H, projection = model.heads, layer.projection
    if model.attention.projection == "mla":
        L, down = model.latent, projection.down.weight
        shared = model.attention.mla_shared_latent
        return oracle.mla(
            x,
            projection.q.weight,
            projection.q.bias,
            down[:L],
            None if shared else down[L:],
            projection.k_up.weight,
            projection.v_up.weight,
            H,
            ck_extra_BTL=extra,
        )[:3]
    D, G = model.head_width, model.kv_heads
    rows = linear(x, projection.qkv).unflatten(2, (-1, D))
    q, k, v = rows[:, :, :H], rows[:, :, H : H + G], rows[:, :, H + G :]
    if model.position == "rope":
        q, k = oracle.rope(q, model.rope_base), oracle.rope(k, model.rope_base)
    return q, k, v


def attended(layer, model, x, context, starts=None):
    """(y, final probabilities) of a whole attention, composed from oracles."""
    seen = {"window": model.attention.window, "starts_BT": starts}
    options = model.attention
    q, k, v = projected(layer, model, x, context.latent_BnL)
    ra = layer.ra
    S = oracle.scores(q, k, *(() if ra is None else (ra.alpha_H, ra.band)))

    def normalised(scores):
        if options.normaliser == "softmax":
            return oracle.softmax(scores, **seen)
        return oracle.softpick(scores, safe=not options.softpick_unsafe, **seen)

    p, o_gate = normalised(S), None
    if options.ra_ct:
        rows = p
        if options.ra_ct_head_average:
            rows = oracle.head_average(p)
        extra = {} if options.ra_ct_k is None else {"k": options.ra_ct_k}
        stat = oracle.statistic(rows, options.ra_ct_statistic, **seen, **extra)
        stat = stat.expand(-1, model.heads, -1)
        if options.ra_ct_detach:
            stat = stat.detach()
        g = oracle.gate(stat, layer.ra_ct.scale_H, layer.ra_ct.shift_H)
        if options.ra_ct_apply == "weights":
            p = normalised(oracle.ra_ct_weights(S, g, options.ra_ct_alpha))
        else:
            o_gate = g
    o = oracle.mix(p, v)
    if o_gate is not None:
        o = oracle.ra_ct_output(o, o_gate, options.ra_ct_alpha)
    if context.gate_BnH is not None:
        o = o * context.gate_BnH[..., None]
    if model.output_gate != "none":
        headwise = model.output_gate == "headwise"
        o = oracle.output_gate(o, x, layer.out_gate.linear.weight, headwise)
    return linear(o.flatten(2), layer.o), p


def visible(t, window):
    return range(0 if window is None else max(0, t - window + 1), t + 1)


def by_loops(p, q, k, window):
    """entropy, reciprocity, sink rate, sparsity of every head."""
    found = {n: [] for n in ("entropy", "reciprocity", "sink_rate", "sparsity")}
    for h in range(H):
        entropies, sinks, zeros, cross, left, right = [], [], [], 0.0, 0.0, 0.0
        for b in range(B):
            for t in range(T):
                row = [p[b, h, t, s].item() for s in visible(t, window)]
                zeros += [value == 0 for value in row]
                if t > 0:
                    sinks.append(p[b, h, t, 0].item() > 0.3)
                if sum(row) > 0:
                    shares = [value / sum(row) for value in row]
                    entropies.append(-sum(x * math.log(x) for x in shares if x > 0))
                for s in range(t):
                    group = h // (H // k.shape[2])
                    there = torch.dot(q[b, t, h], k[b, s, group]).item()
                    back = torch.dot(q[b, s, h], k[b, t, group]).item()
                    cross += there * back
                    left, right = left + there**2, right + back**2
        found["entropy"].append(sum(entropies) / len(entropies))
        found["reciprocity"].append(cross / math.sqrt(left * right))
        found["sink_rate"].append(sum(sinks) / len(sinks))
        found["sparsity"].append(sum(zeros) / len(zeros))
    return found


def kurtosis(x):
    values = x.flatten().tolist()
    mean = math.fsum(values) / len(values)
    second = math.fsum((v - mean) ** 2 for v in values) / len(values)
    fourth = math.fsum((v - mean) ** 4 for v in values) / len(values)
    return fourth / second**2 - 3


def head_means(gate_BHT):
    return [gate_BHT[:, h].mean().item() for h in range(gate_BHT.shape[1])]


def ra_ct_gate(layer, model, q, k):
    options, ra = model.attention, layer.ra
    S = oracle.scores(q, k, *(() if ra is None else (ra.alpha_H, ra.band)))
    p = oracle.softmax(S, options.window)
    p = oracle.head_average(p) if options.ra_ct_head_average else p
    extra = {} if options.ra_ct_k is None else {"k": options.ra_ct_k}
    stat = oracle.statistic(p, options.ra_ct_statistic, **extra).expand(-1, H, -1)
    return oracle.gate(stat, layer.ra_ct.scale_H, layer.ra_ct.shift_H)


def wanted(model, settings, tokens):
    """Every statistic by loops; gates from the blocks' own weights."""
    layers, x, context, gamma = (
        [],
        model.embed(tokens, Positions()),
        BlockToBlock(),
        None,
    )
    for block in model.h:
        layer, seen = block.attn, block.norm1(x)
        q, k, _ = projected(layer, settings, seen, context.latent_BnL)
        y, p = attended(layer, settings, seen, context)
        found = by_loops(p, q, k, settings.attention.window)
        if layer.ra is not None:
            found["ra_alpha"] = layer.ra.alpha_H.tolist()
        if layer.ra_ct is not None:
            found["ra_ct_gate"] = head_means(ra_ct_gate(layer, settings, q, k))
        if layer.out_gate is not None:
            g = torch.sigmoid(seen @ layer.out_gate.linear.weight.T)
            g_BHT = g.unflatten(2, (H, -1)).mean(dim=3).transpose(1, 2)
            found["output_gate"] = head_means(g_BHT)
        if settings.mlp.attn_gate:
            found["mlp_attn_gate"] = gamma and head_means(gamma[0])
        gate = block.mlp.attn_gate
        if gate is not None:
            h = block.mlp._activation(block.norm2(x + y))
            c = F.gelu(h @ gate.down.weight.T, approximate="tanh")
            mean = torch.stack([c[:, : t + 1].mean(1) for t in range(T)], dim=1)
            gamma = [torch.sigmoid(mean @ gate.up.weight.T + 2).transpose(1, 2)]
        x, y, context, _ = block(x, None, context, Positions())
        x = x + y
        layers.append(found | {"kurtosis": kurtosis(x)})
    return {name: [layer[name] for layer in layers] for name in layers[0]}


@pytest.fixture
def exact(monkeypatch):
    """All digits of the numbers."""
    monkeypatch.setattr(module, "DIGITS", 17)


def assert_close(found, expected, name):
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is None:
            assert ours is None, name
        else:
            assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-9), name


@pytest.mark.parametrize("case", MODELS)
def test_the_statistics_equal_loops(small, exact, case):
    settings = small(**MODELS[case])
    model, windows = built(settings), windows_of()
    found = attention_stats(model, windows, "cpu")
    with torch.no_grad():
        expected = wanted(model, settings.model, torch.from_numpy(windows[:, :-1]))
    assert found.pop("windows") == B
    assert found.keys() == expected.keys()
    for name in expected:
        assert_close(found[name], expected[name], name)


def silence(model, heads):
    """q = 0 in those heads of layer 0: all their scores are 0."""
    weights, biases = model.h[0].attn.projection.qkv.parameters()
    D = model.settings.head_width
    with torch.no_grad():
        for h in heads:
            weights[h * D : (h + 1) * D] = biases[h * D : (h + 1) * D] = 0.0


def test_rows_of_zeros_are_left_out_of_the_entropy(small):
    """q = 0 makes all scores 0, which softpick gives no weight at all."""
    settings = small(SOFTPICK="y")
    model, windows = built(settings), windows_of()
    silence(model, [1])
    found = attention_stats(model, windows, "cpu")
    assert found["entropy"][0][1] is None and found["sparsity"][0][1] == 1.0
    assert found["sink_rate"][0][1] == 0.0 and found["reciprocity"][0][1] is None
    assert None not in found["entropy"][0][2:] and None not in found["entropy"][1]
    with torch.no_grad():
        x = model.h[0].norm1(
            model.embed(torch.from_numpy(windows[:, :-1]), Positions())
        )
        p = model.h[0].attn.probabilities(x, BlockToBlock(), Positions())
    assert (p[:, [0, 2, 3]].sum(dim=-1) == 0).any(), "no mixed head in this test"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_that_are_their_transpose_up_to_the_sign(small, sign):
    """k = q gives S_ts = S_st; k = q turned by 90 degrees S_ts = -S_st."""
    model = built(small())
    turn = torch.eye(32) if sign > 0 else torch.eye(32)[torch.arange(32) ^ 1]
    if sign < 0:
        turn[::2] *= -1
    weights, biases = model.h[0].attn.projection.qkv.parameters()
    with torch.no_grad():
        weights[32:64], biases[32:64] = turn.double() @ weights[:32], 0.0
        biases[:32] = 0.0
    found = attention_stats(model, windows_of(), "cpu")
    assert found["reciprocity"][0] == [sign] * H


def test_uniform_attention(small):
    """q = 0 under softmax: p = 1/(t+1), entropy ln(t+1), sinks at t = 1 and 2."""
    model = built(small())
    silence(model, range(H))
    found = attention_stats(model, windows_of(), "cpu")
    mean = sum(math.log(t + 1) for t in range(T)) / T
    assert found["entropy"][0] == pytest.approx([mean] * H, rel=1e-5)
    assert found["sink_rate"][0] == [0.4] * H
    assert found["sparsity"][0] == [0.0] * H


def test_gates_that_have_no_weight_are_not_defined(small):
    settings = small(**GATE, **CASES["ct-topk-output"], RA_CT_ALPHA="0")
    found = attention_stats(built(settings), windows_of(), "cpu")
    assert found["ra_ct_gate"] == [[None] * H] * 2
    assert found["mlp_attn_gate"][0] is None and None not in found["mlp_attn_gate"][1]


def test_a_context_of_one_token(small):
    found = attention_stats(built(small()), windows_of(length=1), "cpu")
    assert found["reciprocity"] == found["sink_rate"] == [[None] * H] * 2
    assert found["entropy"] == [[0.0] * H] * 2


def test_eight_windows_at_most_and_the_first(small):
    model, windows = built(small()), windows_of(count=11)
    found = attention_stats(model, windows, "cpu")
    assert found["windows"] == 8
    assert found == attention_stats(model, windows[:8], "cpu")
    assert found["entropy"] != attention_stats(model, windows[3:], "cpu")["entropy"]


def test_nothing_is_left_behind(small):
    """No random number, no gradient, no mode, no parameter."""
    model = built(small(GPT2_DROPOUT="0.5", **MODELS["everything"])).train()
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = attention_stats(model, windows_of(), "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(part.training for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert attention_stats(model, windows_of(), "cpu") == first


@pytest.fixture(scope="module")
def pair(make_cell, corpus, tmp_path_factory):
    """The same cell with the statistics and without, with dropout."""
    from gpt2.training.cell import execute

    folder = tmp_path_factory.mktemp("pair")
    symbols = {**MODELS["everything"], "GPT2_DROPOUT": "0.1"}
    with_them = make_cell(folder / "with", LOG_ATTENTION_STATS="y", **symbols)
    without = make_cell(folder / "without", **symbols)
    assert execute(with_them, corpus) == execute(without, corpus) == 0
    return with_them, without


def test_training_is_the_same_to_the_bit(pair):
    with_them, without = pair
    assert curve(with_them) == curve(without)
    assert summary(with_them)["model_sha256"] == summary(without)["model_sha256"]


def test_the_identity_does_not_change(pair):
    from kconf import config_py

    found = [config_py.read(directory / "config.py") for directory in pair]
    assert found[0].identity == found[1].identity
    assert found[0].values != found[1].values


def test_rows_are_written_with_every_evaluation_or_never(pair):
    with_them, without = pair
    found = rows(with_them, "attention")
    assert [row["step"] for row in found] == [0, 10, 20]
    assert [len(row["entropy"]) for row in found] == [3, 3, 3]
    assert all(len(heads) == H for row in found for heads in row["sparsity"])
    assert found[0]["entropy"] != found[2]["entropy"]
    assert rows(without, "attention") == []
    assert b'"kind": "attention"' not in (without / "metrics.jsonl").read_bytes()


def test_the_rows_are_strict_json(pair):
    def refuse(constant):
        raise AssertionError(f"{constant} in metrics.jsonl")

    lines = (pair[0] / "metrics.jsonl").read_text().splitlines()
    kinds = [json.loads(line, parse_constant=refuse)["kind"] for line in lines]
    assert kinds.count("attention") == 3


def test_readers_of_other_rows_are_not_confused(pair):
    """Cells, their display and the report see the same run."""
    from matrix.launch.tail import Tail
    from records.cell import read_cell

    with_them, without = map(read_cell, pair)
    assert [r["loss"] for r in with_them.evals] == [r["loss"] for r in without.evals]
    assert [r["loss"] for r in with_them.train] == [r["loss"] for r in without.train]
    assert with_them.step == without.step == 20
    assert (with_them.state, with_them.reason) == (without.state, without.reason)
    tails = [Tail(directory / "metrics.jsonl") for directory in pair]
    for tail in tails:
        tail.poll()
    assert tails[0].step == tails[1].step == 20
    for what in ("training_loss", "validation_loss", "steps"):
        first, second = (getattr(tail, what) for tail in tails)
        assert first == second is not None
    everything = read_rows(pair[0] / "metrics.jsonl")
    assert len(last_per_step(everything, "eval")) == 3
