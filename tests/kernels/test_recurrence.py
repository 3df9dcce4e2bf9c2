"""The recurrence: chunks are the loop; nothing later or foreign in a single bit."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.recurrence import chunks, loop

B, T, H, K, V = 2, 70, 2, 3, 4
DECAYS, ERASES = (None, "head", "channel"), (False, True)
KINDS = [(decay, erases) for decay in DECAYS for erases in ERASES]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def given(kind=(None, False), dtype=torch.float64, seed=0, strength=1.0):
    """q, k, v, a state; g, e and c by name; and where documents begin."""
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=stream, dtype=dtype)

    t_T = torch.arange(T, dtype=torch.int32)
    opens_BT = torch.rand(B, T, generator=stream) < 0.1
    starts = torch.where(opens_BT, t_T, 0).cummax(dim=1).values
    inputs = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)
    state = normal(B, H, K, V)
    decay, erases = kind
    options = {}
    if decay is not None:
        shape = (B, T, H) if decay == "head" else (B, T, H, K)
        options["g"] = -strength * F.softplus(normal(*shape))
    if erases:
        options["e"] = F.normalize(normal(B, T, H, K), dim=-1)
        share = torch.sigmoid(normal(B, T, H, 1))
        options["c"] = share * F.normalize(
            options["e"] + 0.3 * normal(B, T, H, K), dim=-1
        )
    return *inputs, state, options, starts


def run(op, q, k, v, state, options, starts, **size):
    """The op, its options by their letters."""
    erase = (options["e"], options["c"]) if "e" in options else None
    return op(q, k, v, state, starts, options.get("g"), erase, **size)


def by_definition(q, k, v, state, options, starts):
    """S ← D S − c (eᵀ D S) + k vᵀ by matrices of K x K, head by head."""
    o = torch.zeros_like(v)
    for b in range(B):
        for h in range(H):
            S = state[b, h]
            for t in range(T):
                if starts is not None and int(starts[b, t]) == t:
                    S = torch.zeros_like(S)
                if "g" in options:
                    S = torch.diag(options["g"][b, t, h].exp().expand(K)) @ S
                if "e" in options:
                    e, c = options["e"][b, t, h], options["c"][b, t, h]
                    S = (torch.eye(K, dtype=S.dtype) - torch.outer(c, e)) @ S
                S = S + torch.outer(k[b, t, h], v[b, t, h])
                o[b, t, h] = q[b, t, h] @ S
    return o


@every_kind
@pytest.mark.parametrize("documents", [False, True])
def test_the_loop_is_the_definition(documents, kind):
    *inputs, starts = given(kind)
    starts = starts if documents else None
    found, _ = run(loop, *inputs, starts)
    torch.testing.assert_close(found, by_definition(*inputs, starts))


@every_kind
@pytest.mark.parametrize("documents", [False, True])
def test_chunks_are_the_loop(documents, kind):
    """Outputs, the last state, and every gradient, to 1e-12 of the largest."""
    q, k, v, state, options, starts = given(kind)
    starts = starts if documents else None
    leaves = [x.requires_grad_() for x in (q, k, v, state, *options.values())]

    def results(op, **size):
        found = run(op, q, k, v, state, options, starts, **size)
        weights = [torch.cos(torch.arange(x.numel())).view_as(x) for x in found]
        loss = sum((x * weight).sum() for x, weight in zip(found, weights))
        return [*found, *torch.autograd.grad(loss, leaves)]

    wanted = results(loop)
    for size in (1, 7, 16, 64, 100):
        for right, found in zip(wanted, results(chunks, size=size)):
            assert (found - right).abs().max() <= 1e-12 * right.abs().max()


@every_kind
def test_a_state_is_handed_on(kind):
    """At odd places, tokens one by one included; documents reach across."""
    q, k, v, state, options, starts = given(kind)

    def part(first, end, S, starts):
        some = {name: x[:, first:end] for name, x in options.items()}
        starts = None if starts is None else starts[:, first:end] - first
        inputs = (x[:, first:end] for x in (q, k, v))
        return run(chunks, *inputs, S, some, starts)

    for given_starts in (None, starts):
        whole, last = part(0, T, state, given_starts)
        for cuts in ([0, 1, T], [0, 13, 64, 65, T], list(range(T + 1))):
            S, o = state, []
            for first, end in zip(cuts, cuts[1:]):
                mixed, S = part(first, end, S, given_starts)
                o.append(mixed)
            torch.testing.assert_close(torch.cat(o, dim=1), whole, rtol=0, atol=1e-12)
            torch.testing.assert_close(S, last, rtol=0, atol=1e-12)


def changed(tensors, where):
    """Other values there: much larger ones of k and v, of the others in their range."""
    others = {name: x.clone() for name, x in tensors.items()}
    for name, x in others.items():
        x[where] = 1e6 * x[where] + 1 if name in ("k", "v") else 0.5 * x[where]
    return others


@every_kind
@pytest.mark.parametrize("size", [16, 64])
def test_what_lies_ahead_changes_no_bit(size, kind):
    q, k, v, state, options, starts = given(kind, torch.float32)
    for t in (0, 15, 16, 40, 68):
        ahead = slice(None), slice(t + 1, None)
        other = changed({"q": q, "k": k, "v": v, **options}, ahead)
        others = [other.pop(name) for name in "qkv"]
        for given_starts in (None, starts):
            before, _ = run(chunks, q, k, v, state, options, given_starts, size=size)
            after, _ = run(chunks, *others, state, other, given_starts, size=size)
            assert torch.equal(before[:, : t + 1], after[:, : t + 1])


@every_kind
@pytest.mark.parametrize("size", [16, 64])
def test_another_document_changes_no_bit(size, kind):
    q, k, v, state, options, starts = given(kind, torch.float32)
    before, last = run(chunks, q, k, v, state, options, starts, size=size)
    for b in range(B):
        first = int(starts[b, -1])
        assert first > 0
        other = changed({"q": q, "k": k, "v": v, **options}, (b, slice(0, first)))
        inputs = [other.pop(name) for name in "qkv"]
        after, end = run(chunks, *inputs, 2 * state, other, starts, size=size)
        assert torch.equal(before[b, first:], after[b, first:])
        assert torch.equal(last[b], end[b])


@every_kind
def test_fp32_is_as_good_as_the_loop(kind):
    """Against float64, with weak and strong decays; twice for another order of sums."""
    for strength in (0.01, 1.0, 20.0):
        *inputs, options, starts = given(kind, torch.float32, strength=strength)
        exact = [x.double() for x in inputs], {
            n: x.double() for n, x in options.items()
        }
        right = run(loop, *exact[0], exact[1], starts)
        plain = run(loop, *inputs, options, starts)
        found = run(chunks, *inputs, options, starts)
        for r, p, f in zip(right, plain, found):
            rounding = 2**-24 * r.abs().max()
            error = (f - r).square().mean().sqrt()
            assert error <= 2 * (p - r).square().mean().sqrt() + rounding


class Exponents(TorchDispatchMode):
    """The largest exponent that anything was raised to."""

    largest = -float("inf")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.exp.default, torch.ops.aten.exp2.default):
            self.largest = max(self.largest, args[0].max().item())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("decay", ["head", "channel"])
def test_no_exponent_is_positive(decay):
    """Decays that leave nothing of a token after two others make no infinity of any."""
    *inputs, options, starts = given((decay, True), torch.float32, strength=80.0)
    with Exponents() as exponents:
        o, S = run(chunks, *inputs, options, starts)
    assert exponents.largest <= 0
    assert torch.isfinite(o).all() and torch.isfinite(S).all()


def test_one_graph_holds_it():
    *inputs, starts = given(("channel", True))
    graph = torch.compile(chunks, fullgraph=True, backend="aot_eager")
    for wanted, found in zip(run(chunks, *inputs, starts), run(graph, *inputs, starts)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
