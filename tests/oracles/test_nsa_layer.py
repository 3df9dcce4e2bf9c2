"""The oracle of NSA: documents, the future, gradients, gates, what is refused."""

import dataclasses

import pytest
import torch

from tests.oracles.by_hand import f64, near
from tests.oracles.nsa.blocks import compressed_blocks
from tests.oracles.nsa.compression import rotated
from tests.oracles.nsa.layer import forward
from tests.oracles.nsa.options import Options, initial, randomised, shapes_of
from tests.oracles.test_nsa import ROPE, drawn, same, small

MLP = {"phi": "mlp", "phi_hidden": 2, "phi_rope": "after", **ROPE}
VARIANTS = {
    "learned": {},
    "rope": ROPE,
    "rope after": {**ROPE, "phi_rope": "after"},
    "no rope in cmp": {**ROPE, "phi_rope": "none"},
    "conv": {"phi": "conv", "bias": True, **ROPE},
    "mlp": MLP,
    "sigmoid": {"gate": "sigmoid", **ROPE},
    "fixed": {"gate": "fixed", "branches": ("cmp", "win")},
    "shared": {"shared": True, **MLP},
    "sel and win": {"shared": True, "branches": ("sel", "win"), **ROPE},
    "sel": {"shared": True, "branches": ("sel",)},
    "cmp": {"branches": ("cmp",), "phi": "conv"},
    "win": {"branches": ("win",), "gate": "sigmoid"},
    "cmp and sel": {"branches": ("cmp", "sel"), "G": 4},
    "per head": {"per_head": True},
    "free": {"forced": False, "n": 2, "G": 1},
    "forced branch": {"force_branch": "sel"},
}


def names(*varied):
    return pytest.mark.parametrize("name", varied or VARIANTS)


def lists(p_cmp) -> list:
    """p^c as numbers."""
    return [[row.tolist() for row in heads] for heads in p_cmp]


@names()
def test_the_future_changes_nothing_before(name):
    """Nor any choice, bit for bit; t = 22 is within a block of either kind."""
    options = small(**VARIANTS[name])
    x_TE, weights = drawn(options, 31)
    made = forward(x_TE, weights, options)
    other = x_TE.clone()
    other[23:] = 3 * torch.randn(8, options.E, dtype=torch.float64)
    later = forward(other, weights, options)
    assert torch.equal(made.y_TE[:23], later.y_TE[:23])
    assert made.chosen[:23] == later.chosen[:23]
    assert made.p_sel[:23] == later.p_sel[:23]
    assert lists(made.p_cmp[:23]) == lists(later.p_cmp[:23])
    assert (made.y_TE[23] - later.y_TE[23]).abs().max() > 1e-6


@names()
def test_every_visible_token_moves_the_output(name):
    """And no other: tokens of the compressed blocks, of the choice, of the window."""
    options, t = small(w=3, **VARIANTS[name]), 26
    x_TE, weights = drawn(options, 28)
    x_TE.requires_grad_()
    made = forward(x_TE, weights, options)
    moved = torch.autograd.grad(made.y_TE[t].sum(), x_TE)[0].abs().sum(1) > 1e-9
    on = set(options.branches) & {options.force_branch or "cmp", "sel", "win"}
    on = on if options.force_branch is None else {options.force_branch}
    seen = {t}
    if "cmp" in on:
        ended = compressed_blocks(t + 1, options.l, options.d)
        seen |= set(range((ended - 1) * options.d + options.l))
    if "sel" in on:
        chosen = {j for row in made.chosen[t] for j in row}
        seen |= {s for j in chosen for s in range(4 * j, 4 * j + 4) if s <= t}
    if "win" in on:
        seen |= {t - 2, t - 1}
    assert set(moved.nonzero()[:, 0].tolist()) == seen


def assert_alone(options: Options, first: int, second: int) -> None:
    """A row of two documents gives what each of them gives."""
    T = first + second
    x_TE, weights = drawn(options, T)
    both = forward(x_TE, weights, options, [0] * first + [first] * second)
    lengths = (first, second) if options.compresses else ()
    counts = [compressed_blocks(S, options.l, options.d) for S in lengths]
    assert len(both.K_cmp) == sum(counts)
    for start, end in ((0, first), (first, T)):
        alone = forward(x_TE[start:end], weights, options)
        same(both.y_TE[start:end], alone.y_TE)
        assert both.chosen[start:end] == alone.chosen
    one = forward(x_TE, weights, options)
    assert (both.y_TE[first:] - one.y_TE[first:]).abs().max() > 1e-6


@names()
def test_documents_are_each_alone(name):
    assert_alone(small(**VARIANTS[name]), 11, 14)


def test_blocks_begin_at_the_document():
    """61 and 70 tokens hold 30 blocks of l=8 d=4; one grid would hold 31."""
    assert [compressed_blocks(S, 8, 4) for S in (61, 70, 131)] == [14, 16, 31]
    assert_alone(small(l=8, d=4, b=8, **ROPE), 61, 70)


@names("learned", "conv", "mlp", "sigmoid", "shared", "sel and win", "per head")
def test_gradients_are_those_of_the_function(name):
    """Finite differences, where no choice changes."""
    changes = {"E": 2, "H": 2, "G": 1, "d_k": 2, "d_v": 1, "l": 2, "d": 1, "b": 2}
    options = small(**{**VARIANTS[name], **changes, "n": 3, "w": 2})
    x_TE, weights = drawn(options, 9)
    leaves = [x_TE, *weights.values()]
    for leaf in leaves:
        leaf.requires_grad_()

    def y(x, *values):
        return forward(x, dict(zip(weights, values)), options).y_TE

    assert torch.autograd.gradcheck(y, leaves, eps=1e-6, atol=1e-7, fast_mode=True)


@names(*(name for name in VARIANTS if name != "forced branch"))
def test_every_parameter_has_a_gradient(name):
    options = small(**VARIANTS[name])
    x_TE, weights = drawn(options, 14)
    assert {k: tuple(w.shape) for k, w in weights.items()} == shapes_of(options)
    leaves = {key: weight.requires_grad_() for key, weight in weights.items()}
    y_TE = forward(x_TE, weights, options).y_TE
    found = torch.autograd.grad((y_TE * torch.randn_like(y_TE)).sum(), leaves.values())
    still = {k for k, g in zip(leaves, found) if not g.abs().max() > 1e-12}
    assert still == set()


def gradients(options: Options, T: int = 24) -> dict[str, torch.Tensor]:
    """Of a random projection of y by every parameter; 0 where nothing leads there."""
    x_TE, weights = drawn(options, T)
    for weight in weights.values():
        weight.requires_grad_()
    y_TE = forward(x_TE, weights, options).y_TE
    loss = (y_TE * torch.randn(y_TE.shape, dtype=torch.float64)).sum()
    found = torch.autograd.grad(loss, weights.values(), allow_unused=True)
    pairs = zip(weights.items(), found)
    return {k: torch.zeros_like(w) if g is None else g for (k, w), g in pairs}


@pytest.mark.parametrize("phi", ["mean", "conv", "mlp"])
def test_without_its_output_the_scorer_has_no_gradient(phi):
    rope = {"phi_rope": "after" if phi == "mlp" else "before", **ROPE}
    options = small(phi=phi, phi_hidden=2, force_branch="sel", **rope)
    found = gradients(options)
    scorer = {"k_cmp", "v_cmp", *(name for name in found if name.startswith("phi"))}
    rest = {"k_win", "v_win", *(name for name in found if name.startswith("gate"))}
    for name, gradient in found.items():
        assert gradient.any() == (name not in scorer | rest), name
    options = dataclasses.replace(options, force_branch=None)
    assert all(gradient.any() for gradient in gradients(options).values())
    with pytest.raises(AssertionError, match="k_cmp would have no gradient"):
        small(branches=("sel", "win"))
    shared = gradients(small(branches=("sel",), shared=True))
    assert shared["k"].any() and shared["v"].any()


def test_no_gradient_passes_the_choice():
    """p^s is the same function of x, but y has none of its gradient."""
    options = small(branches=("cmp", "sel"), force_branch="sel", G=1)
    x_TE, weights = drawn(options, 24)
    x_TE.requires_grad_()
    made = forward(x_TE, weights, options)
    seen = {s for j in made.chosen[23][0] for s in range(4 * j, 4 * j + 4)}
    moved = torch.autograd.grad(made.y_TE[23].sum(), x_TE)[0].abs().sum(1)
    assert set(moved.nonzero()[:, 0].tolist()) == seen and len(seen) < 24


def test_heads_of_a_group_choose_alike():
    options = small()
    x_TE, weights = drawn(options, 40)
    together = forward(x_TE, weights, options).chosen
    assert all(a == b and c == d for a, b, c, d in together)
    assert any(row[0] != row[2] for row in together)
    alone = forward(x_TE, weights, dataclasses.replace(options, per_head=True)).chosen
    assert any(row[0] != row[1] for row in alone)


@pytest.mark.parametrize("phi_rope", ["before", "after", "none"])
def test_where_rope_stands(phi_rope):
    """before: k is turned by its own position; after: the block by its first token's;
    none: neither the block nor the query that meets it.
    """
    options, t = small(G=1, phi_rope=phi_rope, **ROPE), 16
    x_TE, weights = drawn(options, 17)
    q_D, k_TD = weights["q"][:4] @ x_TE[t], x_TE @ weights["k_cmp"].T
    logits = []
    for i in range(compressed_blocks(t + 1, 4, 2)):
        block = [k_TD[s] for s in range(2 * i, 2 * i + 4)]
        turned = [rotated(k, 2 * i + m, 100.0) for m, k in enumerate(block)]
        key = sum(turned if phi_rope == "before" else block) / 4
        key = rotated(key, 2 * i, 100.0) if phi_rope == "after" else key
        q = q_D if phi_rope == "none" else rotated(q_D, t, 100.0)
        logits.append(q @ key / 2)
    wanted = torch.softmax(torch.stack(logits), 0)
    same(forward(x_TE, weights, options).p_cmp[t][0], wanted)


# Gates.


@pytest.mark.parametrize(
    "changes, start",
    [
        ({"gate": "sigmoid"}, 1 / 2),
        ({"gate": "softmax"}, 1 / 3),
        ({"gate": "fixed"}, 1 / 3),
        ({"gate": "sigmoid", "branches": ("win",)}, 1 / 2),
        ({"gate": "softmax", "branches": ("cmp", "win")}, 1 / 2),
        ({"gate": "softmax", "branches": ("win",)}, 1),
    ],
)
def test_where_gates_start(changes, start):
    options = small(**changes)
    weights = initial(options, torch.Generator().manual_seed(3))
    x_TE, _ = drawn(options, 7)
    gates_THm = forward(x_TE, weights, options).gates
    near(gates_THm, f64(start).expand(7, 4, len(options.branches)))
    has = {name for name in weights if name.startswith("gate")}
    assert bool(has) == options.gated


def test_the_hidden_layer_of_the_gate_learns_from_the_second_step():
    options = small()
    weights = initial(options, torch.Generator().manual_seed(4))
    x_TE, _ = drawn(options, 14)

    def gradient() -> dict[str, torch.Tensor]:
        gates = {
            name: w.requires_grad_() for name, w in weights.items() if "gate" in name
        }
        loss = forward(x_TE, weights, options).y_TE.square().sum()
        return dict(zip(gates, torch.autograd.grad(loss, gates.values())))

    first = gradient()
    assert not first["gate.w1"].any() and not first["gate.b1"].any()
    assert first["gate.w2"].all() and first["gate.b2"].all()
    weights["gate.w2"] = weights["gate.w2"].detach() - 0.1 * first["gate.w2"]
    assert gradient()["gate.w1"].all()


def test_gates_by_hand():
    """softmax: of the mean of the group's rotated queries, one row for the group."""
    options = small(**ROPE)
    x_TE, weights = drawn(options, 6)
    made = forward(x_TE, weights, options)
    q_HD = (weights["q"] @ x_TE[5]).unflatten(0, (4, 4))
    q_HD = torch.stack([rotated(q, 5, 100.0) for q in q_HD])
    u = weights["gate.w1"] @ q_HD[2:].mean(0) + weights["gate.b1"]
    logits = weights["gate.w2"] @ torch.nn.functional.silu(u) + weights["gate.b2"]
    same(made.gates[5, 2:], torch.softmax(logits, 0).expand(2, 3))
    assert (made.gates[5, 0] - made.gates[5, 2]).abs().max() > 1e-6
    options = small(gate="sigmoid")
    x_TE, weights = drawn(options, 6)
    made = forward(x_TE, weights, options)
    wanted = torch.sigmoid(weights["gate.w"] @ x_TE[5] + weights["gate.b"])
    same(made.gates[5], wanted)


@pytest.mark.parametrize("branch", ["cmp", "sel", "win"])
def test_a_forced_branch_is_alone(branch):
    options = small(force_branch=branch, gate="sigmoid", **ROPE)
    x_TE, weights = drawn(options, 19)
    made = forward(x_TE, weights, options)
    assert torch.equal(made.mixed, made.out[branch])
    plain = dataclasses.replace(options, force_branch=None)
    assert shapes_of(options) == shapes_of(plain)
    assert torch.equal(made.out[branch], forward(x_TE, weights, plain).out[branch])


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"G": 3}, "G divides H"),
        ({"d": 3}, "d divides l"),
        ({"b": 5}, "d divides b"),
        ({"b": 2}, "l <= b"),
        ({"n": 2}, "forced blocks"),
        ({"n": 0, "forced": False}, "forced blocks"),
        ({"w": 0}, "holds the query"),
        ({"force_branch": "cmp", "branches": ("win",)}, "is off"),
        ({"branches": ("win",), "phi": "conv"}, "φ would have no gradient"),
    ],
)
def test_what_has_no_meaning(changes, reason):
    with pytest.raises(AssertionError, match=reason):
        small(**changes)


def test_d_k_and_d_v_differ():
    """The paper's 192 and 128, one query group of one key/value head."""
    options = small(E=3, H=2, G=1, d_k=192, d_v=128, **ROPE)
    generator = torch.Generator().manual_seed(5)
    weights = randomised(options, generator, 0.1)
    x_TE = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    assert forward(x_TE, weights, options).mixed.shape == (9, 2, 128)
