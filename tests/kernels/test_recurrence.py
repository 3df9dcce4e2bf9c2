"""The recurrence: chunks are the loop; nothing later or foreign in a single bit."""

import pytest
import torch

from kernels.recurrence import chunks, loop

B, T, H, K, V = 2, 70, 2, 3, 4


def given(dtype=torch.float64, seed=0):
    """q, k, v, a state, and where documents begin."""
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=stream, dtype=dtype)

    t_T = torch.arange(T, dtype=torch.int32)
    opens_BT = torch.rand(B, T, generator=stream) < 0.1
    starts = torch.where(opens_BT, t_T, 0).cummax(dim=1).values
    inputs = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)
    return *inputs, normal(B, H, K, V), starts


def by_definition(q, k, v, state, starts):
    """o_t = (S + Σ k_s v_sᵀ)ᵀ q_t, S what was handed in; nothing of another document."""
    o = torch.zeros_like(v)
    for b in range(B):
        for t in range(T):
            first = 0 if starts is None else int(starts[b, t])
            S = state[b] if starts is None else torch.zeros_like(state[b])
            for s in range(first, t + 1):
                S = S + torch.einsum("hk,hv->hkv", k[b, s], v[b, s])
            o[b, t] = torch.einsum("hkv,hk->hv", S, q[b, t])
    return o


@pytest.mark.parametrize("documents", [False, True])
def test_the_loop_is_the_definition(documents):
    q, k, v, state, starts = given()
    starts = starts if documents else None
    found, _ = loop(q, k, v, state, starts)
    torch.testing.assert_close(found, by_definition(q, k, v, state, starts))


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("size", [1, 16, 64, 100])
def test_chunks_are_the_loop(size, documents):
    """Outputs, the last state, and every gradient."""
    leaves = [x.requires_grad_() for x in given()[:4]]
    starts = given()[4] if documents else None
    outputs = []
    for results in (loop(*leaves, starts), chunks(*leaves, starts, size=size)):
        loss = sum(
            (x * torch.cos(torch.arange(x.numel())).view_as(x)).sum() for x in results
        )
        outputs.append([*results, *torch.autograd.grad(loss, leaves)])
    for wanted, found in zip(*outputs):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cut", [1, 13, 64, 65])
def test_a_state_is_handed_on(cut):
    q, k, v, state, _ = given()
    whole, last = chunks(q, k, v, state)
    first, between = chunks(q[:, :cut], k[:, :cut], v[:, :cut], state)
    second, end = chunks(q[:, cut:], k[:, cut:], v[:, cut:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize("size", [16, 64])
def test_what_lies_ahead_changes_no_bit(size):
    q, k, v, state, starts = given(torch.float32)
    for t in (0, 15, 16, 40, 68):
        other = [x.clone() for x in (k, v)]
        for x in other:
            x[:, t + 1 :] *= 1e6
        for given_starts in (None, starts):
            before, _ = chunks(q, k, v, state, given_starts, size=size)
            after, _ = chunks(q, *other, state, given_starts, size=size)
            assert torch.equal(before[:, : t + 1], after[:, : t + 1])


@pytest.mark.parametrize("size", [16, 64])
def test_another_document_changes_no_bit(size):
    q, k, v, state, starts = given(torch.float32)
    before, last = chunks(q, k, v, state, starts, size=size)
    for b in range(B):
        first = int(starts[b, -1])
        assert first > 0
        other = [x.clone() for x in (k, v)]
        for x in other:
            x[b, :first] = 1e6 * x[b, :first] + 1
        after, end = chunks(q, *other, 2 * state, starts, size=size)
        assert torch.equal(before[b, first:], after[b, first:])
        assert torch.equal(last[b], end[b])
