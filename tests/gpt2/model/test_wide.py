"""What is promised in fp32 at least, where everything around it has 16 bits.

Each against float64 of the same 16-bit numbers, to fp32's rounding or to one rounding
of the result: 16 bits anywhere on the way would be a hundred times as far. The check
of every step looks at the operators (gpt2/check/proofs/numerics.py), these at the numbers.
"""

import numpy as np
import pytest
import torch

from gpt2.model.mixers.statistic import per_head
from gpt2.model.mlp.attn_gate import AttentionGate
from gpt2.model.norm import added, build_norm
from gpt2.model.rope import rotate
from gpt2.model.statistics import _excess, _powers
from gpt2.model.values import Positions
from gpt2.training.validation import evaluate
from kernels.adamw import reference
from kernels.attention import normalise, statistic, visible
from kernels.linear_cross_entropy import linear_cross_entropy, plain

LOW = (torch.bfloat16, torch.float16)
FP32 = 2e-6  # relative, of sums of some hundred terms
ONE = {torch.bfloat16: 2**-8, torch.float16: 2**-11}  # one rounding, relative


def normal(*shape, seed=0, dtype=torch.bfloat16):
    """Normal numbers as 16 bits hold them."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("kind", ["softmax", "softpick", "softpick_unsafe"])
def test_a_normaliser(kind, dtype):
    scores_BHTT = 2 * normal(1, 2, 200, 200, dtype=dtype)
    mask = visible(200, 200, None, scores_BHTT.device)
    found = normalise(scores_BHTT, mask, kind)
    wanted = normalise(scores_BHTT.double(), mask, kind)
    assert found.dtype == torch.float32 and wanted.dtype == torch.float64
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["topk", "max", "rms", "entropy"])
def test_a_statistic_of_rows(kind):
    mask = visible(200, 200, None, torch.device("cpu"))
    p_BHTT = normalise(normal(1, 2, 200, 200), mask, "softmax")
    found = statistic(p_BHTT, mask, kind, 8)
    wanted = statistic(p_BHTT.double(), mask, kind, 8)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=FP32, atol=FP32)


@pytest.mark.parametrize("dtype", LOW)
def test_the_angles_of_rope(dtype):
    """Far into a text, where a position itself does not fit 16 bits."""
    x_BnHD = normal(1, 7, 2, 16, dtype=dtype)
    found = rotate(x_BnHD, 3001, 10000.0)
    wanted = rotate(x_BnHD.double(), 3001, 10000.0)
    assert found.dtype == dtype and wanted.dtype == torch.float64
    error = (found.double() - wanted).abs()
    # Beside the rounding of the result: an ulp of an angle of 3000.
    assert (error <= ONE[dtype] * wanted.abs() + 1e-3).all()


@pytest.mark.parametrize("symbols", [{}, {"NORM_RMSNORM": "y"}])
@pytest.mark.parametrize("dtype", LOW)
def test_a_norm(small, symbols, dtype):
    """On a stream far from zero, by itself and with the sum before it."""
    norm = build_norm(small(**symbols).model)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.1 * normal(32, seed=1).float())
    x_BnE = 8 + normal(2, 40, 32, dtype=dtype)
    exact = build_norm(small(**symbols).model).double()
    exact.load_state_dict(norm.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        alone, (_, both) = norm(x_BnE), added(norm, x_BnE, torch.zeros_like(x_BnE))
    wanted = exact(x_BnE.double())
    for found in (alone, both):
        error = (found.double() - wanted).abs()
        assert (error <= 2 * ONE[dtype] * wanted.abs() + 1e-4).all()


@pytest.mark.parametrize("starts", [False, True])
def test_the_running_mean_of_a_gate(small, starts):
    """Its sum over a long text, documents apart or not, whole or with a cache."""
    settings = small(MLP_ATTN_GATE="y", MLP_ATTN_GATE_RANK="8").model
    T = 1500
    torch.manual_seed(5)
    gate, exact = AttentionGate(settings).bfloat16(), AttentionGate(settings).double()
    exact.load_state_dict(gate.state_dict())
    heard_BTr = 1 + normal(1, T, 8, seed=2)
    first = torch.zeros(1, T, dtype=torch.int32)
    first[:, 100:] = 100
    given = first if starts else None
    means = []
    for module, x in ((gate, heard_BTr), (exact, heard_BTr.double())):
        module.up.register_forward_pre_hook(lambda _, c: means.append(c[0].double()))
        module(x, Positions(0, given), None)
    c_BTr = torch.nn.functional.gelu(heard_BTr, approximate="tanh").double()
    begin = 100 if starts else 0
    counts = torch.arange(1, T - begin + 1)[:, None]
    wanted = c_BTr[:, begin:].cumsum(1) / counts
    for mean, limit in zip(means, (ONE[torch.bfloat16], 1e-2)):
        assert ((mean[:, begin:] - wanted).abs() <= limit * wanted.abs()).all()
    empty = gate.empty_total(heard_BTr[:, :0])
    _, total_Br = gate(heard_BTr[:, :400], Positions(), empty)
    _, total_Br = gate(heard_BTr[:, 400:], Positions(400), total_Br)
    assert empty.dtype == total_Br.dtype == torch.float32
    torch.testing.assert_close(total_Br.double(), c_BTr.sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", [plain, linear_cross_entropy])
def test_a_loss(loss):
    """Of bf16 logits, with and without gradients."""
    x_NE, weight_VE = normal(64, 32, seed=3), normal(500, 32, seed=4)
    target_N = torch.arange(64)
    logits_NV = (x_NE @ weight_VE.T).double()
    wanted = torch.nn.functional.cross_entropy(logits_NV, target_N).item()
    for grad in (False, True):
        found = loss(x_NE.requires_grad_(grad), weight_VE, target_N)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(wanted, rel=FP32)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(x_NE.float(), weight_VE.float(), target_N)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted, rel=FP32)


@pytest.mark.parametrize("dtype", LOW)
def test_a_norm_of_gradients(dtype):
    """Of what a bf16 copy left, before it is added up anywhere."""
    grads = [normal(300, 40, seed=n, dtype=dtype) for n in (7, 8)]
    masks = [normal(300, 40, seed=n) > 0.5 for n in (9, 10)]
    for given in (None, masks):
        kept = [
            g.double() if given is None else g.double() * ~m
            for g, m in zip(grads, masks)
        ]
        wanted = sum(g.square().sum().item() for g in kept)
        found = reference.square_sum(grads, given)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(wanted, rel=1e-5)


class Losses(torch.nn.Module):
    """Stands for a model: the losses of its batches, one after the other."""

    def __init__(self, *losses):
        super().__init__()
        self.losses = list(losses)

    def forward(self, tokens_BT, targets_BT, starts_BT):
        return torch.tensor(self.losses.pop(0), dtype=torch.float64)


def test_the_sum_of_an_evaluation():
    """In float64: 1 is not lost beside 2^30."""
    windows, plainly = np.zeros((3, 5), np.int64), torch.autocast("cpu", enabled=False)
    model = Losses(2.0**30 + 1, -(2.0**30), 0.0)
    found = evaluate(model, windows, 1, 1.0, "cpu", plainly)
    assert found.loss == 1 / 3


def test_statistics_are_summed_in_float64():
    """Of a stream far from zero, whose fourth powers cancel."""
    x = 1000 + normal(4, 100, 32, seed=6).float()
    n, *sums = _powers(x)
    assert {each.dtype for each in (n, *sums)} == {torch.float64}
    d = x.double() - x.double().mean()
    wanted = (d**4).mean() / (d**2).mean() ** 2 - 3
    assert _excess(n, *sums).item() == pytest.approx(wanted.item(), abs=1e-2)
    ones_BH = torch.full((1, 2, 3000, 3000), 1.0)
    ones_BH[..., 0, 0] = 2.0**25
    assert per_head(ones_BH).tolist() == [2.0**25 + 3000 * 3000 - 1] * 2
