"""What only a GPU can show of attention and routing: two runs that agree bit for
bit, very long rows, more elements than 32 bits count. `make gpu-test`.
"""

from itertools import product

import pytest
import torch

from kernels.attention.check import FLOOR, Case, _compare, _terms, inputs, packed
from kernels.attention.check import poisoned, results
from kernels.attention.fused import attention_fused
from kernels.attention.packed import attention_packed
from kernels.attention.reference import attention
from tests.oracles.blockwise import blockwise

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
ALONE = [*GPU, pytest.mark.alone]
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
NAMES = ("o", "dq", "dk", "dv", "dalpha")
VARIANTS = list(product(("softmax", "softpick"), (None, 64)))


def gpu(test):
    for mark in GPU:
        test = mark(test)
    return test


def alone(test):
    for mark in ALONE:
        test = mark(test)
    return test


@pytest.mark.parametrize("normaliser, band", [(n, b and 5) for n, b in VARIANTS])
@pytest.mark.parametrize("window", [None, 9])
def test_blocks_of_queries_are_the_whole(normaliser, band, window):
    """The reference of the long rows, against the T x T matrix; on the CPU."""
    case = Case(37, 4, 2, 8, torch.float64, normaliser, band, window, B=2)
    q, k, v, do, alpha = inputs(case, "cpu")
    leaves = [q, k, v] if band is None else [q, k, v, alpha.double()]

    def whole(q, k, v, alpha=None):
        return (attention(q, k, v, case.spec(alpha))[0],)

    found = blockwise(leaves, do, normaliser, band, window, rows=16)
    for mine, wanted in zip(found, results(whole, leaves, [do]), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-10)


def ran(case: Case, given: tuple, starts) -> list[torch.Tensor]:
    """Everything that a case computes: o, its statistic and every gradient; of q, k, v
    or, where one tensor is given for them, of the fused projection.
    """
    *leaves, do, alpha = given
    if case.band is not None:
        leaves.append(alpha)
    upstream = [do]
    if case.statistic is not None:
        upstream.append(torch.ones(case.B, case.H, case.T, device=do.device))

    def fused(*leaves):
        spec = case.spec(starts=starts)
        if case.band is not None:
            *leaves, alpha = leaves
            spec = spec._replace(alpha=alpha)
        if len(leaves) == 1:
            found = attention_packed(*leaves, case.H, spec)
        else:
            found = attention_fused(*leaves, spec)
        return (found,) if case.statistic is None else (found[0], *found[1].values())

    with poisoned():
        return results(fused, leaves, upstream)


def twice() -> list[Case]:
    """Every variant at both widths, T that no block divides."""
    found = []
    for dtype, D in product((BF16, F16, F32), (64, 128)):
        shape = {"T": 1000, "H": 4, "G": 2, "D": D, "dtype": dtype, "B": 3}
        for normaliser, band in VARIANTS:
            more = {"normaliser": normaliser, "band": band, **shape}
            found += [Case(**more), Case(window=200, **more)]
            found += [Case(document=150, **more), Case(statistic="lse", **more)]
            found.append(Case(statistic="topk", top=8, **more))
        found += [Case(statistic=s, **shape) for s in ("max", "entropy", "rms")]
    return found


@gpu
@pytest.mark.parametrize("case", twice(), ids=str)
def test_two_runs_agree_bit_for_bit(case):
    given, starts = inputs(case, "cuda"), packed(case, "cuda")
    first = ran(case, given, starts)
    # Something else runs in between, and memory is another.
    torch.randn(2048, 2048, device="cuda") @ torch.randn(2048, 2048, device="cuda")
    held = torch.empty(2**24, device="cuda")
    second = ran(case, given, starts)
    del held
    assert all(map(torch.equal, first, second))
    assert not any(x.isnan().any() for x in first)


@gpu
@pytest.mark.parametrize("case", twice(), ids=str)
def test_fused_projections_agree_bit_for_bit(case):
    """With attention on their parts, and twice."""
    (q, k, v, *others), starts = inputs(case, "cuda"), packed(case, "cuda")
    given = torch.cat([q, k, v], dim=2), *others
    first, second = ran(case, given, starts), ran(case, given, starts)
    assert all(map(torch.equal, first, second))
    apart = ran(case, (q, k, v, *others), starts)
    dalpha = [] if case.band is None else [apart.pop()]
    *before, dq, dk, dv = apart
    joined = [*before, torch.cat([dq, dk, dv], dim=2), *dalpha]
    assert all(map(torch.equal, first, joined))


@gpu
@pytest.mark.parametrize("normaliser, band", VARIANTS)
def test_two_routings_agree_bit_for_bit(normaliser, band):
    from kernels.topk_routing import routed_mix, topk_routing

    case = Case(1000, 4, 4, 64, BF16, normaliser, band, B=3)
    q, k, v, _, alpha = inputs(case, "cuda")
    spec = case.spec(None if band is None else alpha)._replace(statistics=("lse",))
    m, dr = torch.randn(2, case.B, case.T, 96, device="cuda").to(BF16)

    def routed():
        _, rows = attention_fused(q, k, v, spec)
        index, weight = topk_routing(q, k, rows["lse"], 8, spec)
        mixed = results(lambda m: (routed_mix(m, index, weight),), [m], [dr])
        return [index, weight, *mixed]

    assert all(map(torch.equal, routed(), routed()))


def need(gib: float) -> None:
    """Skip where so much memory is not free."""
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] / 2**30
    if free < gib:
        pytest.skip(f"needs {gib:.0f} GiB of GPU memory, {free:.1f} are free")


@alone
@pytest.mark.parametrize("T, D", [(65536, 64), (16384 + 9, 128)])
@pytest.mark.parametrize("normaliser, band", VARIANTS)
def test_long_rows(T, D, normaliser, band):
    """All of o and all gradients, against float64 block by block."""
    need(30)
    case = Case(T, 2, 1, D, BF16, normaliser, band)
    given = inputs(case, "cuda")
    q, k, v, do, alpha = given
    leaves = [q, k, v] if band is None else [q, k, v, alpha]
    ours = ran(case, given, None)
    truth = blockwise([x.double() for x in leaves], do, normaliser, band)
    rough = blockwise([x.to(BF16) for x in leaves], do, normaliser, band)
    terms = _terms(case, q, k, v, do)
    errors = [
        _compare(name, mine, low, ref, terms[name], FLOOR[BF16])
        for name, mine, low, ref in zip(NAMES, ours, rough, truth)
    ]
    assert all(error.ok for error in errors), errors


@alone
@pytest.mark.parametrize("normaliser, band", VARIANTS)
def test_more_elements_than_32_bits_count(normaliser, band):
    """The last sequence of a batch is what it is alone, bit for bit: 2.1e9 elements
    of q, and three times as many in the projection that q, k and v are views of.
    """
    need(58)
    case = Case(2048, 16, 16, 64, BF16, normaliser, band, B=1025)
    assert case.B * case.T * case.H * case.D > 2**31
    q, k, v, do, alpha = inputs(case, "cuda")
    everything = ran(case, (q, k, v, do, alpha), None)
    for b in (0, case.B - 1):
        one = slice(b, b + 1)
        part = ran(case._replace(B=1), (q[one], k[one], v[one], do[one], alpha), None)
        for name, whole, mine in zip(NAMES[:4], everything, part):
            assert torch.equal(whole[one], mine), (b, name)


@alone
@pytest.mark.parametrize("normaliser, band", [("softmax", None), ("softmax", 64)])
def test_a_projection_of_more_elements_than_32_bits_count(normaliser, band):
    """Likewise where q, k and v are one tensor, and so are their gradients."""
    need(58)
    case = Case(2048, 16, 16, 64, BF16, normaliser, band, B=1025)
    qkv = torch.randn(case.B, case.T, 3 * case.H, case.D, device="cuda", dtype=BF16)
    do = torch.randn(case.B, case.T, case.H, case.D, device="cuda", dtype=BF16)
    alpha = torch.randn(case.H, device="cuda")
    o, dqkv, *_ = ran(case, (qkv, do, alpha), None)
    for b in (0, case.B - 1):
        one = slice(b, b + 1)
        part = ran(case._replace(B=1), (qkv[one], do[one], alpha), None)
        assert torch.equal(o[one], part[0]) and torch.equal(dqkv[one], part[1]), b
