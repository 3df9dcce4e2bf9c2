"""What softpick's ε of 1e-6 is, beside the 1e-8 of its authors' code."""

import pytest
import torch

from kernels.attention import normalise

T = 1024


def by_hand(x_TT, eps):
    """relu(e^x − 1) / (Σ |e^x − 1| + ε e^m) e^{−m}: the formula without a maximum."""
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    e_TT = torch.expm1(x_TT).masked_fill(~mask, 0.0)
    m_T1 = x_TT.masked_fill(~mask, 0.0).amax(dim=-1, keepdim=True).clamp(min=0.0)
    total_T1 = e_TT.abs().sum(dim=-1, keepdim=True) + eps * m_T1.exp()
    return e_TT.relu() / total_T1


@pytest.mark.parametrize("size, most", [(1.0, 1.5e-6), (0.1, 7e-6), (0.01, 1.1e-4)])
def test_what_the_authors_would_change(size, most):
    """Of p, relative to itself; docs/mechanisms.md has the numbers."""
    noise = torch.randn(T, T, dtype=torch.float64, generator=torch.manual_seed(0))
    x_TT = size * noise
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    ours = normalise(x_TT[None, None], mask, "softpick")[0, 0]
    torch.testing.assert_close(ours, by_hand(x_TT, 1e-6), rtol=1e-10, atol=0)
    theirs = by_hand(x_TT, 1e-8)
    apart = (ours / theirs - 1).abs()[theirs > 0].max().item()
    assert most / 2 < apart < most
