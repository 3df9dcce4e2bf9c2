"""The oracle of the recurrence against closed forms.

Legend: tests/oracles/recurrence/op.py.
"""

import math

import pytest
import torch

from tests.oracles.recurrence.op import begins, recurrence

B, T, H, K, V = 2, 7, 2, 3, 4


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def qkv():
    return normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)


def decays(*shape: int) -> torch.Tensor:
    """Log decays, below 0."""
    return -torch.rand(*shape, dtype=torch.float64)


def delta_inputs():
    k_BTHK = torch.nn.functional.normalize(normal(B, T, H, K), dim=-1)
    beta_BTH1 = torch.rand(B, T, H, 1, dtype=torch.float64)
    return k_BTHK, beta_BTH1 * k_BTHK


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_no_decay_is_a_cumulative_sum():
    q, k, v = qkv()
    o, S = recurrence(q, k, v)
    S_BTHKV = (k[..., :, None] * v[..., None, :]).cumsum(dim=1)
    assert close(o, torch.einsum("bthk,bthkv->bthv", q, S_BTHKV))
    assert close(S, S_BTHKV[:, -1])


def test_decay_of_a_half_is_a_geometric_series():
    """o_t = Σ_{j=0..t} 2^-j = 2 - 2^-t of inputs that are 1."""
    one = torch.ones(1, 9, 1, 1, dtype=torch.float64)
    g_BTH = torch.full((1, 9, 1), math.log(0.5), dtype=torch.float64)
    o, _ = recurrence(one, one, one, g_BTH)
    assert close(o.flatten(), 2 - 0.5 ** torch.arange(9, dtype=torch.float64))


def test_a_decay_counts_after_its_token():
    """The parallel form: k_s v_s is decayed by g_{s+1} … g_t, each key channel by its
    own.
    """
    q, k, v = qkv()
    g_BTHK = decays(B, T, H, K)
    o, _ = recurrence(q, k, v, g_BTHK)
    wanted = torch.zeros_like(o)
    for t in range(T):
        for s in range(t + 1):
            left_BHK = torch.exp(g_BTHK[:, s + 1 : t + 1].sum(dim=1))
            weight_BH = (q[:, t] * left_BHK * k[:, s]).sum(dim=-1)
            wanted[:, t] += weight_BH[..., None] * v[:, s]
    assert close(o, wanted)


def test_retention_is_its_parallel_form():
    """(q kᵀ ⊙ D) v, D_nm = γ^(n-m) for n >= m (2307.08621)."""
    q, k, v = qkv()
    gamma = 1 - 2.0**-5
    g_BTH = torch.full((B, T, H), math.log(gamma), dtype=torch.float64)
    o, _ = recurrence(q, k, v, g_BTH)
    n_T = torch.arange(T, dtype=torch.float64)
    D_TT = torch.tril(gamma ** (n_T[:, None] - n_T[None, :]))
    scores_BHTT = torch.einsum("bnhk,bmhk->bhnm", q, k) * D_TT
    assert close(o, torch.einsum("bhnm,bmhv->bnhv", scores_BHTT, v))


def test_equal_channels_are_one_scalar():
    q, k, v = qkv()
    g_BTH = decays(B, T, H)
    whole = recurrence(q, k, v, g_BTH)
    split = recurrence(q, k, v, g_BTH[..., None].expand(B, T, H, K))
    assert all(torch.equal(a, b) for a, b in zip(whole, split, strict=True))


def test_the_delta_rule_recalls_orthonormal_keys():
    """β = 1: S k_s = v_s of every key, and of a key written twice the later value."""
    keys_TK = torch.linalg.qr(normal(4, 4))[0]
    k = torch.cat([keys_TK, keys_TK[:1]])[None, :, None]
    v = normal(1, 5, 1, V)
    _, S = recurrence(k, k, v, None, k, k)
    read = keys_TK @ S[0, 0]
    assert close(read[1:], v[0, 1:4, 0])
    assert close(read[0], v[0, 4, 0])


def test_the_delta_rule_is_a_product_of_matrices():
    """S_t = (I - c eᵀ) D S_{t-1} + k vᵀ: the decay is below the delta."""
    q, k, v = qkv()
    g, e, c = decays(B, T, H, K), normal(B, T, H, K), normal(B, T, H, K)
    o, S = recurrence(q, k, v, g, e, c)
    for b in range(B):
        for h in range(H):
            S_KV = torch.zeros(K, V, dtype=torch.float64)
            for t in range(T):
                move = torch.eye(K, dtype=torch.float64) - torch.outer(
                    c[b, t, h], e[b, t, h]
                )
                S_KV = move @ torch.diag(g[b, t, h].exp()) @ S_KV
                S_KV = S_KV + torch.outer(k[b, t, h], v[b, t, h])
                assert close(o[b, t, h], S_KV.T @ q[b, t, h])
            assert close(S[b, h], S_KV)


def test_gated_delta_without_decay_is_delta():
    q, _, v = qkv()
    k, c = delta_inputs()
    zero = torch.zeros(B, T, H, dtype=torch.float64)
    plain = recurrence(q, k, v, None, k, c)
    assert all(map(close, plain, recurrence(q, k, v, zero, k, c)))


@pytest.mark.parametrize("delta", [False, True])
def test_a_state_is_handed_on_anywhere(delta):
    q, k, v = qkv()
    g, (e, c) = decays(B, T, H), delta_inputs() if delta else (None, None)
    whole, S = recurrence(q, k, v, g, e, c)
    for cut in range(1, T):
        parts, state = [], None
        for at in (slice(0, cut), slice(cut, T)):
            inputs = [None if x is None else x[:, at] for x in (q, k, v, g, e, c)]
            o, state = recurrence(*inputs, state_BHKV=state, first=at.start)
            parts.append(o)
        assert close(torch.cat(parts, dim=1), whole)
        assert close(state, S)


@pytest.mark.parametrize("delta", [False, True])
def test_documents_are_each_alone(delta):
    q, k, v = qkv()
    g, (e, c) = decays(B, T, H, K), delta_inputs() if delta else (None, None)
    starts_BT = torch.tensor([[0, 0, 2, 2, 2, 5, 5], [0, 1, 1, 1, 1, 1, 1]])
    together, S = recurrence(q, k, v, g, e, c, starts_BT)
    for b, cuts in enumerate([(0, 2, 5, T), (0, 1, T)]):
        for start, end in zip(cuts, cuts[1:]):
            at = slice(b, b + 1), slice(start, end)
            inputs = [None if x is None else x[at] for x in (q, k, v, g, e, c)]
            alone, state = recurrence(*inputs)
            assert torch.equal(together[at], alone)
        assert torch.equal(S[b], state[0])


def test_a_document_goes_on_from_a_handed_in_state():
    """A document that began before the row reads the state, one that begins does not."""
    q, k, v = qkv()
    state = normal(B, H, K, V)
    starts_BT = torch.tensor([[8, 8, 12, 12, 12, 12, 12], [10, 10, 10, 10, 10, 15, 15]])
    o, _ = recurrence(q, k, v, starts_BT=starts_BT, state_BHKV=state, first=10)
    fresh, _ = recurrence(q, k, v, starts_BT=starts_BT, first=10)
    read = torch.einsum("bthk,bhkv->bthv", q, state)
    assert close(o[0, :2], fresh[0, :2] + read[0, :2])
    assert torch.equal(o[0, 2:], fresh[0, 2:])
    assert torch.equal(o[1], fresh[1])


def test_where_documents_begin():
    assert begins(None, 3) == [False] * 3
    assert begins([0, 0, 2], 3) == [True, False, True]
    assert begins([3, 3, 6], 3, first=4) == [False, False, True]
