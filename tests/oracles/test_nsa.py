"""The oracle of NSA against numbers worked out by hand, and against dense attention."""

import dataclasses
import itertools
import math

import pytest
import torch

from tests.oracles import attention
from tests.oracles.by_hand import LN2, f64, near
from tests.oracles.nsa import blocks, compression
from tests.oracles.nsa.layer import chosen_blocks, forward
from tests.oracles.nsa.options import Options, initial, randomised
from tests.oracles.scalars import linear

PAPER = {"l": 32, "d": 16, "b": 64}
SMALL = {"E": 5, "H": 4, "G": 2, "d_k": 4, "d_v": 2, "l": 4, "d": 2, "b": 4}
SMALL |= {"n": 4, "w": 5}
ROPE = {"rope_base": 100.0}


def small(**changes) -> Options:
    return Options(**{**SMALL, **changes})


def drawn(options: Options, T: int, seed: int = 0):
    """x_TE and weights without a structure."""
    generator = torch.Generator().manual_seed(seed)
    x_TE = torch.randn(T, options.E, generator=generator, dtype=torch.float64)
    return x_TE, randomised(options, generator, 0.5)


def same(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


# Blocks and scores.


def test_how_many_blocks():
    assert [blocks.compressed_blocks(S, 4, 2) for S in range(9)] == [0] * 4 + [
        *(1, 1, 2, 2, 3)
    ]
    assert blocks.compressed_blocks(31, 32, 16) == 0
    assert blocks.compressed_blocks(65536, 32, 16) == 4095


def test_a_block_is_scored_by_the_tokens_it_shares():
    weights = [blocks.overlap(i, 5, **PAPER) / 32 for i in range(18, 26)]
    assert weights == [0, 0.5, 1, 1, 1, 0.5, 0, 0]  # i = 4j-1 … 4j+3
    assert [blocks.overlap(i, 0, **PAPER) / 32 for i in range(5)] == [1, 1, 1, 0.5, 0]
    for l, d, b in ((32, 16, 64), (4, 2, 4), (6, 2, 8), (4, 4, 4), (1, 1, 3)):
        for i in range(40):
            touched = [j for j in range(40) if blocks.overlap(i, j, l, d, b)]
            assert touched == list(blocks.columns(i, l, d, b)) and len(touched) <= 2
            assert sum(blocks.overlap(i, j, l, d, b) for j in touched) == l


def printed(p, j: int, first: int, sign: int) -> float:
    """Eq. 9 as printed times d/l, p's and j's indices from `first`; sign -1 as there."""
    l, d, b = PAPER.values()
    at = [
        (b // d) * (j + first) + sign * (m + n) - first
        for m in range(b // d)
        for n in range(l // d)
    ]
    return sum(p[i] for i in at if 0 <= i < len(p)) * d / l


def test_equation_9_counts_from_1():
    """Tokens 48 … 79, i = 3, are half of block 0 and half of block 1."""
    p = [0.0] * 12
    p[3] = 1.0
    right = blocks.block_scores(p, 4, **PAPER)
    assert right == [0.5, 0.5, 0, 0]
    assert [printed(p, j, 1, -1) for j in range(4)] == right
    assert [printed(p, j, 0, -1) for j in range(4)] == [0, 1, 0, 0]
    assert [printed(p, j, 0, 1) for j in range(4)] == [1, 0, 0, 0]
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(19, generator=generator, dtype=torch.float64).tolist()
    near(
        f64(*blocks.block_scores(p, 5, **PAPER)),
        [printed(p, j, 1, -1) for j in range(5)],
    )


def test_equation_10_sums_probabilities():
    """Not logits: theirs are 5, 0, 0 and -6, 0, -2 ln 2, whose means choose block 1."""
    rows = [[32 / 34, 1 / 34, 1 / 34], [1 / 81, 64 / 81, 16 / 81]]
    options = small(H=2, G=1, l=1, d=1, b=1, n=1, forced=False)
    p = [f64(*row) for row in rows]
    scores, chosen = chosen_blocks(p, 2, options)
    near(f64(*scores[0]), [a + b for a, b in zip(*rows)])
    assert scores[0] == scores[1] and chosen == [[0], [0]]
    scores, chosen = chosen_blocks(p, 2, dataclasses.replace(options, per_head=True))
    near(f64(*scores[1]), rows[1])
    assert chosen == [[0], [1]]


def test_the_choice():
    scores = [0.1, 0.5, 0.2, 0.5, 0.9, 0.2, 0.0, 0.0]
    assert blocks.choice(scores, 3, forced=True) == [0, 6, 7]
    assert blocks.choice(scores, 5, forced=True) == [0, 1, 4, 6, 7]
    assert blocks.choice(scores, 3, forced=False) == [1, 3, 4]
    assert blocks.choice(scores, 2, forced=False) == [1, 4]
    assert blocks.choice(scores, 8, forced=True) == list(range(8))
    assert blocks.choice(scores, 99, forced=False) == list(range(8))
    assert [blocks.forced_blocks(c) for c in range(4)] == [
        *([0], [0, 1], [0, 1, 2], [0, 2, 3])
    ]


@pytest.mark.parametrize("score", [0.5, 1e-6, 0.0])
def test_of_equal_scores_the_lower_index(score):
    assert blocks.choice([score] * 1000, 7, forced=True) == [0, 1, 2, 3, 4, 998, 999]
    assert blocks.choice([score] * 1000, 3, forced=False) == [0, 1, 2]
    one = [score] * 998 + [math.nextafter(score, 1), score]
    assert blocks.choice(one, 2, forced=False) == [0, 998]


@pytest.mark.parametrize("phi", ["mean", "conv", "mlp"])
def test_equal_keys_are_ties(phi):
    """Every p^c is 1/C: whole blocks score alike, the first of them is chosen."""
    options = small(n=4, phi=phi, phi_hidden=3)
    if phi == "mlp":
        options = dataclasses.replace(options, phi_rope="after")
    x_TE, weights = drawn(options, 40)
    made = forward(x_TE[:1].expand(40, -1), weights, options)
    assert set(made.p_cmp[39][0].tolist()) == {made.p_cmp[39][0][0].item()}
    assert made.chosen[39] == [[0, 1, 8, 9]] * 4


def test_tokens_and_ranges_of_a_choice():
    for t, chosen in itertools.product(range(24), ([0], [0, 1, 3], [2, 3, 5], [1, 5])):
        chosen = [j for j in chosen if j * 4 <= t]
        ranges = blocks.chosen_ranges(chosen, 4, t)
        tokens = [s for start, end in ranges for s in range(start, end)]
        assert tokens == blocks.chosen_tokens(chosen, 4, t)
        assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:]))
    assert blocks.chosen_ranges([0, 1, 3], 4, 13) == [(0, 8), (12, 14)]
    assert blocks.window_tokens(7, 3) == [5, 6, 7]
    assert blocks.window_tokens(1, 3) == [0, 1]


# φ.


def test_phi_by_hand():
    block = f64([1.0, 2.0], [3.0, 6.0])
    options = small(d_k=2, l=2, d=2, phi="conv")
    conv = {"phi_k.w": f64([1.0, 10.0], [2.0, 100.0])}
    near(compression.compressed(block, "k", conv, options), [7, 620])
    mean = dataclasses.replace(options, phi="mean")
    near(compression.compressed(block, "k", {}, mean), [2, 4])
    mlp = dataclasses.replace(options, phi="mlp", phi_hidden=1)
    weights = {
        "phi_v.pe": f64([0.0, 1.0], [-3.0, 0.0]),
        "phi_v.w1": f64([[1.0, 1.0], [1.0, -0.5]]),
        "phi_v.w2": f64([1.0], [10.0]),
    }
    # u = 1 + (2+1) + (3-3) - 6/2 = 1; gelu(1) = 0.8411919906082768
    y = compression.compressed(block, "v", weights, mlp)
    near(y, [2 + 0.8411919906082768, 4 + 8.411919906082768])


@pytest.mark.parametrize("phi", ["conv", "mlp"])
def test_every_phi_starts_as_the_mean(phi):
    options = small(phi=phi, phi_hidden=3, phi_rope="after", **ROPE)
    generator = torch.Generator().manual_seed(1)
    weights = initial(options, generator)
    x_TE = torch.randn(17, options.E, generator=generator, dtype=torch.float64)
    mean = dataclasses.replace(options, phi="mean")
    same(forward(x_TE, weights, options).y_TE, forward(x_TE, weights, mean).y_TE)


def test_mean_phi_forgets_fast_turns():
    """Of D = 64 a quarter keeps less than half of a constant key; 71 % of the energy
    is left, base 10000, l = 32.
    """
    shares = [compression.share_left(32, 1e4 ** (-2 * c / 64)) for c in range(32)]
    assert sum(share < 0.5 for share in shares) == 8
    assert round(sum(share**2 for share in shares) / 32, 2) == 0.71
    constant = torch.ones(64, dtype=torch.float64)
    turned = torch.stack([compression.rotated(constant, s, 1e4) for s in range(32)])
    mean = compression.compressed(turned, "k", {}, small(d_k=64, **PAPER))
    near((mean[:32] ** 2 + mean[32:] ** 2).sqrt() / math.sqrt(2), shares)


def varies(phi: str, after: bool, weights=None) -> float:
    """How much the score of a constant key under a query 9 tokens behind its block's
    first one changes with where the block lies, relative.
    """
    generator = torch.Generator().manual_seed(2)
    options = small(phi=phi, phi_hidden=3, phi_rope="after", **ROPE)
    weights = weights or randomised(options, generator, 1.0)
    q, k = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    scores = []
    for first in (0, 14):
        turned = [compression.rotated(k, first + m, 100.0) for m in range(4)]
        block = torch.stack([k] * 4 if after else turned)
        key = compression.compressed(block, "k", weights, options)
        key = compression.rotated(key, first, 100.0) if after else key
        scores.append(torch.dot(compression.rotated(q, first + 9, 100.0), key).item())
    return abs(scores[1] / scores[0] - 1)


def test_what_keeps_relative_positions():
    """Mean φ does; a conv whose weights are equal in both components of every pair; any
    φ of plain keys, rotated at the block's first token. mlp of rotated keys does not
    and is refused; nor does a conv that has learned to tell a pair's components apart.
    """
    w_lH = torch.rand(4, 2, dtype=torch.float64)
    pairs = {"phi_k.w": torch.cat([w_lH, w_lH], dim=1)}
    assert varies("mean", False) < 1e-12 > varies("conv", False, pairs)
    assert all(varies(phi, True) < 1e-12 for phi in ("mean", "conv", "mlp"))
    assert varies("mlp", False) > 0.01 < varies("conv", False)
    with pytest.raises(AssertionError, match="depends on where"):
        small(phi="mlp", phi_rope="before", **ROPE)


# The layer.


def test_a_layer_by_hand():
    """x = (query, key and value). Block means ln 2 and 0 give p^c = 2/3, 1/3; block 0
    is chosen, whose p is 1/5, 4/5; the window is the token itself.
    """
    options = Options(
        *(2, 1, 1, 1, 1, 2, 2, 2, 1, 1), forced=False, gate="fixed", shared=True
    )
    x_TE = f64([0.0, 0.0], [0.0, 2 * LN2], [0.0, -3.0], [1.0, 3.0])
    weights = {"q": f64([1.0, 0.0]), "k": f64([0.0, 1.0]), "v": f64([0.0, 1.0])}
    weights["o"] = f64([1.0], [-2.0])
    made = forward(x_TE, weights, options)
    near(made.p_cmp[3][0], [2 / 3, 1 / 3])
    near(f64(*made.p_sel[3][0]), [2 / 3, 1 / 3])
    assert made.chosen[3] == [[0]] and made.p_cmp[0][0].shape == (0,)
    at = {branch: o_THD[:, 0, 0] for branch, o_THD in made.out.items()}
    near(at["cmp"], [0, LN2, LN2, 2 / 3 * LN2])
    near(at["sel"][3], 8 / 5 * LN2)
    near(at["win"], x_TE[:, 1])
    mixed = (2 / 3 * LN2 + 8 / 5 * LN2 + 3) / 3
    near(made.mixed[3, 0, 0], mixed)
    near(made.y_TE[3], [mixed, -2 * mixed])


def dense(x_TE, weights, options: Options, starts_T=None):
    """y of plain grouped attention with the same matrices, by its own oracle."""
    o = options

    def split(name: str, count: int, turn: bool) -> torch.Tensor:
        rows = torch.stack([linear(x, weights[name]) for x in x_TE])
        heads_1THD = rows.unflatten(1, (count, -1))[None]
        turn = turn and o.rope_base is not None
        return attention.rope(heads_1THD, o.rope_base) if turn else heads_1THD

    S = attention.scores(split("q", o.H, True), split("k", o.G, True))
    starts_1T = None if starts_T is None else torch.tensor([starts_T])
    p = attention.softmax(S, starts_BT=starts_1T)
    mixed = attention.mix(p, split("v", o.G, False))[0].flatten(1)
    return torch.stack([linear(row, weights["o"]) for row in mixed])


T_DENSE = 13
IDENTITIES = {
    "sel": {"branches": ("sel",), "n": 4},
    "win": {"branches": ("win",), "w": T_DENSE},
    "cmp": {"branches": ("cmp",), "l": 1, "d": 1},
    "all": {"l": 1, "d": 1, "n": 4, "w": T_DENSE},
}


@pytest.mark.parametrize("starts", [None, [0] * 5 + [5] * 8])
@pytest.mark.parametrize("rope", [{}, ROPE, {**ROPE, "phi_rope": "after"}])
@pytest.mark.parametrize("name", IDENTITIES)
def test_equals_dense(name, rope, starts):
    options = small(shared=True, **IDENTITIES[name], **rope)
    x_TE, weights = drawn(options, T_DENSE)
    y_TE = forward(x_TE, weights, options, starts).y_TE
    same(y_TE, dense(x_TE, weights, options, starts))


@pytest.mark.parametrize("G", [1, 2, 3, 6])
def test_equals_dense_in_groups_of_any_size(G):
    options = small(shared=True, H=6, G=G, **IDENTITIES["all"], **ROPE)
    x_TE, weights = drawn(options, T_DENSE)
    same(forward(x_TE, weights, options).y_TE, dense(x_TE, weights, options))


@pytest.mark.parametrize("change", [{"n": 3}, {"w": T_DENSE - 1}, {"l": 2}])
def test_less_is_not_dense(change):
    options = small(shared=True, **{**IDENTITIES["all"], **change})
    x_TE, weights = drawn(options, T_DENSE)
    y_TE, wanted = forward(x_TE, weights, options).y_TE, dense(x_TE, weights, options)
    assert (y_TE[-1] - wanted[-1]).abs().max() > 1e-6


def test_before_the_first_block_nothing_is_seen():
    options = small(gate="sigmoid")
    x_TE, weights = drawn(options, 9)
    made = forward(x_TE, weights, options)
    assert not made.out["cmp"][:3].any() and made.out["cmp"][3].all()
    outputs = torch.stack([made.out[branch] for branch in options.branches], -1)
    near(made.mixed, (outputs * made.gates[:, :, None]).sum(-1))
