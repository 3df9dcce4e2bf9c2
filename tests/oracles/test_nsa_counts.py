"""The oracle of NSA, token by token: caches, reads, and costs in closed form."""

import dataclasses

import pytest
import torch

from tests.oracles.nsa import closed_forms as closed
from tests.oracles.nsa.blocks import choice, chosen_tokens, compressed_blocks
from tests.oracles.nsa.blocks import window_tokens
from tests.oracles.nsa.decode import Decoder
from tests.oracles.nsa.layer import forward
from tests.oracles.nsa.options import Options, gate_shapes, phi_shapes
from tests.oracles.nsa.options import projection_shapes
from tests.oracles.test_nsa import drawn, same, small
from tests.oracles.test_nsa_layer import VARIANTS, names

SIZES = [  # l, d, b, n, w
    (4, 2, 4, 3, 5),
    (1, 1, 1, 3, 1),
    (8, 4, 16, 4, 7),
    (6, 2, 8, 3, 280),
    (4, 4, 4, 5, 32),
    (32, 16, 64, 16, 512),
]
PAPER = (32, 16, 64, 16, 512)
TINY = {"E": 2, "H": 2, "G": 1, "d_k": 2, "d_v": 1}
T = 300


def sized(sizes, **changes) -> Options:
    return Options(**TINY | dict(zip("ldbnw", sizes)) | changes)


def decoded(options: Options, length: int) -> tuple[Decoder, list[dict]]:
    """A decode of random tokens, and what its caches held after each."""
    x_TE, weights = drawn(options, length)
    decoder, held = Decoder(weights, options), []
    for x_E in x_TE:
        decoder.step(x_E)
        held.append(decoder.values())
    return decoder, held


# Decode.


@names()
def test_decode_is_the_forward(name):
    options = small(**VARIANTS[name])
    x_TE, weights = drawn(options, 33)
    made, decoder = forward(x_TE, weights, options), Decoder(weights, options)
    same(torch.stack([decoder.step(x_E) for x_E in x_TE]), made.y_TE)
    assert decoder.chosen == made.chosen


def test_the_schedule_by_hand():
    """l=4 d=2 w=3: blocks at tokens 4, 6, 8, …; two raw tokens stay, three at most."""
    decoder, held = decoded(sized((4, 2, 4, 3, 3)), 9)
    lengths = {name: [h[name] // 3 for h in held] for name in held[0]}
    assert lengths == {
        "sel": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "cmp": [0, 0, 0, 1, 1, 2, 2, 3, 3],
        "win": [1, 2, 3, 3, 3, 3, 3, 3, 3],
        "raw": [1, 2, 3, 2, 3, 2, 3, 2, 3],
    }
    assert [reads.cmp for reads in decoder.reads] == [[n] for n in lengths["cmp"]]


@pytest.mark.parametrize("sizes", SIZES[:4])
def test_what_is_read_and_held(sizes):
    """S = 1 … 300 against the closed forms; the paper's count is a bound."""
    l, d, b, n, w = sizes
    options = sized(sizes)
    decoder, held = decoded(options, T)
    pair = options.G * (options.d_k + options.d_v)
    for S, (reads, values) in enumerate(zip(decoder.reads, held, strict=True), 1):
        M = compressed_blocks(S, l, d)
        assert reads.cmp == [M]
        assert reads.sel == [closed.selected_keys(S, b, n)]
        assert reads.win == [min(w, S)]
        bound = closed.reads_bound(S, *sizes)
        total = reads.cmp[0] + reads.sel[0] + reads.win[0]
        assert total <= bound and (total == bound) == (S % b == 0 and S >= n * b)
        assert values == {
            "sel": pair * S,
            "cmp": pair * M,
            "win": pair * min(w, S),
            "raw": pair * closed.raw_tokens(S, l, d),
        }
        assert values["sel"] + values["cmp"] <= closed.cache_per_token(options) * S
    most = sum(max(values[name] for values in held) for name in ("win", "raw"))
    assert most == closed.cache_constant(options)


def test_reads_at_the_paper_s_sizes():
    """1025 by the formula against 2 of the first token; equal at 1024, 1088, …"""
    decoder, _ = decoded(sized(PAPER), 1)
    reads = decoder.reads[0]
    assert (reads.cmp, reads.sel, reads.win) == ([0], [1], [1])
    assert closed.reads_bound(1, *PAPER) == 1025
    for S in (1024, 1088, 65536):
        read = compressed_blocks(S, 32, 16) + closed.selected_keys(S, 64, 16) + 512
        assert read == closed.reads_bound(S, *PAPER)
    assert closed.selected_keys(1025, 64, 16) == 15 * 64 + 1
    assert closed.reads_bound(65536, *PAPER) == 4095 + 1024 + 512


@pytest.mark.parametrize(
    "changes, kept",
    [
        ({"branches": ("cmp",)}, {"cmp", "raw"}),
        ({"branches": ("win",)}, {"win"}),
        ({"branches": ("cmp", "win")}, {"cmp", "raw", "win"}),
        ({"branches": ("cmp", "sel")}, {"cmp", "raw", "sel"}),
        ({"branches": ("sel", "win"), "shared": True}, {"cmp", "raw", "sel", "win"}),
        ({"branches": ("sel",), "shared": True}, {"cmp", "raw", "sel"}),
        ({"shared": True}, {"cmp", "raw", "sel", "win"}),
    ],
)
def test_caches_of_a_subset(changes, kept):
    """A branch that is off keeps nothing and reads nothing; a scorer alone keeps keys."""
    options = sized((4, 2, 4, 3, 5), G=2, H=2, **changes)
    decoder, held = decoded(options, 40)
    assert {name for name, count in held[-1].items() if count} == kept
    constant = sum(max(values[name] for values in held) for name in ("win", "raw"))
    assert constant == closed.cache_constant(options)
    # From token 10 on to 40 everything per token grows by that.
    grown = sum(held[39][name] - held[9][name] for name in ("sel", "cmp"))
    assert grown == 30 * closed.cache_per_token(options)
    reads = decoder.reads[-1]
    on = options.branches
    assert bool(reads.sel) == ("sel" in on) and bool(reads.win) == ("win" in on)
    assert reads.cmp == [compressed_blocks(40, 4, 2) if options.compresses else 0] * 2


def test_heads_that_choose_alone_read_alone():
    options = small(per_head=True, forced=False, n=2)
    decoder, _ = decoded(options, 24)
    assert decoder.reads[23].sel == [8] * 4 and decoder.reads[23].cmp == [11] * 2
    together = dataclasses.replace(options, per_head=False)
    assert decoded(together, 24)[0].reads[23].sel == [8] * 2


# Closed forms.


@pytest.mark.parametrize("sizes", SIZES)
def test_keys_per_query_are_the_sums(sizes):
    """By counting keys one by one, T = 1 … 300."""
    l, d, b, n, w = sizes
    totals = [0, 0, 0]
    for S in range(1, T + 1):
        t = S - 1
        ended = [i for i in range(S) if i * d + l - 1 <= t]
        chosen = choice([0.0] * (t // b + 1), n, forced=True)
        seen = chosen_tokens(chosen, b, t)
        assert closed.selected_keys(S, b, n) == len(seen)
        assert len(chosen) == min(n, t // b + 1)
        for k, keys in enumerate((ended, seen, window_tokens(t, w))):
            totals[k] += len(keys)
        sums = closed.compressed_sum(S, l, d), closed.selected_sum(S, b, n)
        assert [*sums, closed.window_sum(S, w)] == totals
        assert closed.keys_per_query(S, *sizes) == (
            *(total / S for total in totals),
            sum(range(1, S + 1)) / S,
        )


TABLE = [  # T, sizes; compressed, selected, window, together, dense, ratio
    (1024, PAPER, 31, 513, 384, 927, 513, 1.81),
    (1024, (16, 8, 32, 8, 128), 63, 213, 120, 395, 513, 0.77),
    (2048, (16, 8, 32, 8, 128), 127, 227, 124, 477, 1025, 0.47),
    (4096, (32, 16, 64, 8, 256), 127, 453, 248, 827, 2049, 0.40),
    (8192, PAPER, None, None, None, 1683, 4097, 0.41),
    (16384, PAPER, None, None, None, 1977, 8193, 0.24),
    (65536, PAPER, None, None, None, 3542, 32769, 0.11),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1][0]}")
def test_the_table_of_keys_per_query(row):
    length, sizes, *parts, together, dense, ratio = row
    *means, all_keys = closed.keys_per_query(length, *sizes)
    for mean, part in zip(means, parts):
        assert part is None or abs(mean - part) <= 0.5
    assert abs(sum(means) - together) <= 0.5 and abs(all_keys - dense) <= 0.5
    assert round(sum(means) / all_keys, 2) == ratio


def counted(shapes: dict[str, tuple[int, ...]]) -> int:
    """Numbers in tensors of these shapes."""
    return sum(torch.empty(shape).numel() for shape in shapes.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters(name):
    options = dataclasses.replace(small(**VARIANTS[name]), bias=False)
    assert closed.projection_parameters(options) == counted(projection_shapes(options))
    assert closed.phi_parameters(options) == counted(phi_shapes(options))
    assert closed.gate_parameters(options) == counted(gate_shapes(options))


GPT2 = {"E": 768, "H": 12, "d_k": 64, "d_v": 64}


def test_parameters_at_124m():
    def layer(G: int, **changes) -> Options:
        return Options(**GPT2, G=G, **dict(zip("ldbnw", PAPER)) | changes)

    costs = {G: closed.projection_parameters(layer(G)) for G in (1, 2, 3, 4, 6)}
    assert costs[4] == 4 * 768**2 == 2_359_296
    assert [costs[G] / costs[4] for G in (1, 2, 3, 6)] == [0.625, 0.75, 0.875, 1.25]
    assert closed.phi_parameters(layer(4, phi="conv")) == 4096
    mlp = layer(4, phi="mlp", phi_hidden=64)
    assert closed.phi_parameters(mlp) == 274_432
    sigmoid = layer(4, gate="sigmoid")
    assert closed.gate_parameters(sigmoid) == 768 * 3 * 12 + 3 * 12
    assert closed.cache_per_token(layer(4)) == 544
    assert closed.cache_per_token(layer(1)) == 136
    assert closed.cache_constant(layer(4)) == 278_016
    assert closed.cache_constant(layer(1)) == 69_504
    assert closed.score_bytes(65536, 64) == 268_435_456


@pytest.mark.parametrize("name", ["learned", "sel and win", "cmp", "win", "shared"])
def test_flops_are_those_of_the_loops(name):
    """Two for each multiply-add of q·k and of p v that a decode's reads make, three
    times for a training; q·k once more for the scores that choose.
    """
    options = small(**VARIANTS[name])
    decoder, _ = decoded(options, 37)
    total = 0
    for reads in decoder.reads:
        for branch in options.branches:
            for keys in {"cmp": reads.cmp, "sel": reads.sel, "win": reads.win}[branch]:
                products = keys * options.group * (options.d_k + options.d_v)
                total += 3 * 2 * products
        if "sel" in options.branches:
            total += sum(2 * keys * options.group * options.d_k for keys in reads.cmp)
    assert closed.attention_flops(options, 37) == pytest.approx(total / 37)
    equal = sized(PAPER, d_v=2)
    *means, _ = closed.keys_per_query(4096, *PAPER)
    wanted = 12 * 2 * 2 * sum(means) + 2 * 2 * 2 * means[0]
    assert closed.attention_flops(equal, 4096) == pytest.approx(wanted)
