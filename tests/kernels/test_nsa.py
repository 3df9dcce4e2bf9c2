"""The op of native sparse attention: what it equals, chooses, reads and keeps."""

import math

import pytest
import torch

from kernels.attention import AttentionSpec, attention
from kernels.nsa import Memory, NsaSpec, attend, grid, reference, windows
from kernels.nsa.reference import Queries, choose, compressed_weights, importance
from tests.oracles.nsa import closed_forms
from tests.oracles.nsa.blocks import block_scores, compressed_blocks

PAPER = NsaSpec(32, 16, 64, 16, 512)
SMALL = NsaSpec(4, 2, 4, 3, 5)


def drawn(T, G, width, seed, **options):
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(2, T, G, width, generator=stream, dtype=torch.float64)
    return x.to(**options)


def inputs(T=22, H=4, G=2, K=6, V=4, spec=SMALL, **options):
    """q and a memory of pairs of its own for every branch, φ the mean; K is not V."""
    made = [drawn(T, G, (K, V)[i % 2], i, **options) for i in range(6)]
    blocks = [windows(x, spec, None).mean(dim=3) for x in made[:2]]
    return drawn(T, H, K, 9, **options), Memory(*blocks, *made[2:])


SHARED = {
    "sel": SMALL._replace(branches=("sel",), top=6),
    "win": SMALL._replace(branches=("win",), window=22),
    "cmp": NsaSpec(1, 1, 4, 6, 22, ("cmp",)),
    "all": NsaSpec(1, 1, 4, 6, 22),
}


@pytest.mark.parametrize("name", SHARED)
def test_it_is_dense_attention_where_everything_is_read(name):
    """Every branch by itself, so any shares that add up to 1 as well."""
    spec, T = SHARED[name], 22
    q, k, v = drawn(T, 4, 6, 0), drawn(T, 2, 6, 1), drawn(T, 2, 4, 2)
    blocks = (windows(x, spec, None).mean(dim=3) for x in (k, v))
    mixed = attend(q, Memory(*blocks, k, v, k, v), spec, T)
    wanted, _ = attention(q, k, v, AttentionSpec())
    assert len(mixed.o) == len(spec.branches)
    for o in mixed.o:
        assert torch.allclose(o, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("starts", [None, [0] * 7 + [7] * 15], ids=["whole", "packed"])
def test_some_queries_at_a_time_are_all_of_them(monkeypatch, starts):
    """Bits of the choice, values, reads, and gradients, which come from a second pass."""
    rows, found = None, []
    if starts is not None:
        rows = grid(torch.tensor([starts, [0] * 22], dtype=torch.int32), SMALL)
    for at_once, kept in ((1 << 24, 1 << 22), (1 << 11, 0)):
        monkeypatch.setitem(reference.AT_ONCE, "cpu", at_once)
        monkeypatch.setattr(reference, "KEPT", kept)
        q, memory = inputs()
        tensors = [x.requires_grad_() for x in (q, *memory)]
        mixed = attend(q, memory, SMALL, 22, rows)
        sum(o.square().sum() for o in mixed.o).backward()
        found.append((mixed, [x.grad for x in tensors]))
    (one, whole), (other, parts) = found
    assert torch.equal(one.choice, other.choice)
    assert torch.equal(one.reads_Bn3, other.reads_Bn3)
    for a, b in zip((*one.o, *whole), (*other.o, *parts), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_backward_keeps_nothing_that_grows_with_the_square(monkeypatch):
    monkeypatch.setitem(reference.AT_ONCE, "cpu", 1 << 12)
    monkeypatch.setattr(reference, "KEPT", 0)
    kept = []
    for T in (64, 128):
        stored = {}

        def pack(x):
            stored[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        q, memory = inputs(T)
        q.requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            attend(q, memory, SMALL, T)
        kept.append(sum(stored.values()))
    assert kept[1] <= 2.2 * kept[0]


def at(t, count=1, rows=None):
    return Queries.at(t, count, torch.device("cpu"), rows)


def test_a_block_gives_each_block_the_share_that_lies_in_it():
    """Equation 9 with both indices from 0: the tokens 48 … 79 lie half in each of the
    first two blocks of 64. Read otherwise all of it goes to the second.
    """
    C = PAPER.compressed(256)
    p = torch.zeros(1, 1, 1, 1, C)
    p[..., 3] = 1.0
    score = importance(p, at(255), PAPER)[0, 0, 0]
    assert score.tolist() == [0.5, 0.5, 0.0, 0.0]
    for i in range(C):
        p = torch.zeros(1, 1, 1, 1, C)
        p[..., i] = 1.0
        wanted = block_scores(p.flatten().tolist(), 4, 32, 16, 64)
        assert importance(p, at(255), PAPER)[0, 0, 0].tolist() == wanted


@pytest.mark.parametrize("forced", [True, False])
def test_ties_go_to_the_lower_index(forced):
    """Equal scores, everywhere and by fp32's own precision; none is moved by another's."""
    spec = PAPER._replace(length=64, stride=64, top=5, forced=forced)
    p = torch.full((1, 1, 1, 1, 1000), 0.5)
    p[..., 900], p[..., 40] = 0.5000001, 0.0
    chosen = choose(p, at(64 * 1000 - 1), spec).flatten().tolist()
    assert chosen == ([0, 998, 999, 900, 1] if forced else [900, 0, 1, 2, 3])


def test_how_many_blocks_are_chosen():
    """min(n, c + 1), each once, none in the future; the forced ones first."""
    q, memory = inputs()
    choice = attend(q, memory, SMALL, 22).choice
    for t in range(22):
        for row in choice[:, t].flatten(0, 1).tolist():
            there = [j for j in row if j != reference.NONE]
            assert len(there) == len(set(there)) == min(3, t // 4 + 1)
            assert {0, t // 4, max(t // 4 - 1, 0)} <= set(there)
            assert max(there) == t // 4


def test_scores_that_16_bits_cannot_tell_apart():
    """1 and 1 + 2^-9: one number in bf16, where the lower index would be taken."""
    spec = NsaSpec(1, 1, 1, 1, 1, ("sel",), forced=False)
    k = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2**-9], [0.0, 0.0]])
    k = k.view(1, 4, 1, 2).bfloat16()
    q = torch.ones(1, 1, 1, 2).bfloat16()
    mixed = attend(q, Memory(k_cmp=k, k_sel=k, v_sel=k), spec, 4)
    assert mixed.choice.flatten().tolist() == [2]
    p = compressed_weights(q, k, torch.ones(1, 4, dtype=torch.bool))
    assert p.dtype == torch.float32


def test_a_query_without_a_block_reads_nothing_of_it():
    """0, not NaN, forward and backward."""
    q, memory = inputs(spec=PAPER)
    tensors = [x.requires_grad_() for x in (q, *memory) if x.numel()]
    mixed = attend(q, memory, PAPER, 22)
    assert not mixed.o[0].any()
    sum(o.square().sum() for o in mixed.o).backward()
    assert all(x.grad.isfinite().all() for x in tensors)


def test_every_visible_token_moves_the_output():
    """Not only that no future one does: a decode's one query is not the first row of a
    triangle.
    """
    spec = SMALL._replace(top=6, window=22)
    q, memory = inputs(spec=spec)
    tensors = [x.requires_grad_() for x in memory]
    mixed = attend(q[:, -1:], memory, spec, 22)
    for o, v in zip(mixed.o, tensors[1::2], strict=True):
        grad = torch.autograd.grad(o.square().sum(), v, retain_graph=True)[0]
        assert (grad.abs().amax(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("spec", [SMALL, NsaSpec(8, 2, 16, 4, 24)])
def test_reads_are_those_of_the_closed_forms(spec):
    """S = 1 … 300, one query after another, and their sums."""
    l, d, b, n, w = spec[:5]
    q, memory = inputs(300, 2, 1, 2, 2, spec)
    reads = attend(q, memory, spec, 300).reads_Bn3[0]
    for S in range(1, 301):
        sel = closed_forms.selected_keys(S, b, n)
        wanted = [compressed_blocks(S, l, d), sel, min(w, S)]
        assert reads[S - 1].tolist() == wanted == list(spec.reads(S).values())
        bound = closed_forms.reads_bound(S, l, d, b, n, w)
        assert sum(wanted) <= bound
        assert sum(wanted) == bound or S % b or S < n * b
    for T in (1, 2, l, n * b - 1, n * b, n * b + 1, 300):
        sums = (
            closed_forms.compressed_sum(T, l, d),
            closed_forms.selected_sum(T, b, n),
            closed_forms.window_sum(T, w),
        )
        assert tuple(spec.all_reads(T).values()) == sums
        assert sums == tuple(int(x) for x in reads[:T].sum(dim=0))


def test_reads_of_one_query_at_64k():
    S = 1 << 16
    q, memory = inputs(S, 3, 1, 4, 4, PAPER, dtype=torch.float32)
    one = attend(q[:, -1:], memory, PAPER, S)
    assert one.reads_Bn3[0, 0].tolist() == [4095, 1024, 512]
    assert list(PAPER.reads(S).values()) == [4095, 1024, 512]


def test_blocks_begin_with_their_document():
    """61 and 70 tokens: 30 blocks of 8 every 4; one grid over both would have 31."""
    spec = NsaSpec(8, 4, 8, 3, 5)
    starts = torch.tensor([[0] * 61 + [61] * 70], dtype=torch.int32)
    rows = grid(starts, spec)
    there = [first for first in rows.first_BC[0].tolist() if first < 131]
    assert len(there) == 30 and spec.compressed(131) == 31
    assert there == [*range(0, 53, 4), *range(61, 61 + 62, 4)]
    assert rows.before_BT[0, 60] == 0 and rows.before_BT[0, 61] == 14


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"stride": 3}, "stride 3 must divide length 4 and block 4"),
        ({"top": 0}, "every size is at least 1"),
        ({"branches": ("win", "sel")}, "in order"),
        ({"branches": ()}, "some of"),
    ],
)
def test_what_does_not_fit_is_refused(changes, why):
    q, memory = inputs()
    with pytest.raises(ValueError, match=why):
        attend(q, memory, SMALL._replace(**changes), 22)


def test_one_graph():
    """Nothing waits for a value: a training step is traced without a break."""
    q, memory = inputs()
    q.requires_grad_()
    wanted = attend(q, memory, SMALL, 22).o
    compiled = torch.compile(attend, fullgraph=True, backend="eager")
    found = compiled(q, memory, SMALL, 22).o
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))
    assert math.isfinite(sum(o.sum().item() for o in found))
