"""Masks are the sorted ranking: the plain-torch choice and the Triton one.

The kernel runs on a GPU where there is one; test_in_the_interpreter runs these
tests through Triton's interpreter on the CPU in a process of their own.
"""

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pruning import on, reference
from kernels.tensors import chunks, table
from tests.conftest import ROOT
from tests.oracles import optim as oracle

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FAST = INTERPRETED or DEVICE.type == "cuda"

if INTERPRETED:
    from kernels.pruning import kernel

    kernel.BLOCK, kernel.PROGRAMS = 256, 3
elif FAST:
    kernel = on(DEVICE)


class Way:
    """The kernel, one of its two ways to the threshold taken at every size."""

    def __init__(self, bracketed):
        self.least = 1 if bracketed else 2**62

    def prune_lowest(self, *given, **named):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "BRACKETED", self.least)
            kernel.prune_lowest(*given, **named)

    def zero(self, *given):
        kernel.zero(*given)


CHOICES = [pytest.param(reference, id="reference")]
if FAST:
    CHOICES = [
        pytest.param(Way(bracketed=False), id="counted"),
        pytest.param(Way(bracketed=True), id="bracketed"),
    ]

EXAMPLES = 8 if INTERPRETED else 100
STATE = [name for name in reference.SCORES if name != "given"]


def pruned(choice, criterion, sources, masks, count, pattern="unstructured"):
    """The masks after `count` more, on the CPU."""
    sources = [tuple(t.to(DEVICE) for t in source) for source in sources]
    masks = [mask.clone().to(DEVICE) for mask in masks]
    choice.prune_lowest(criterion, sources, masks, count, pattern)
    return [mask.cpu() for mask in masks]


def given_scores(scores):
    return [(score, score, score) for score in scores]


LEAST = 2.0**-149
"""The smallest fp32 above 0; the oracles rank in fp64, so a score is an fp32 in both."""

SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, LEAST, math.inf, -math.inf]),
    st.floats(width=32, allow_nan=False),
)
MATRICES = st.lists(
    st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=12),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("choice", CHOICES)
@settings(deadline=None, max_examples=EXAMPLES)
@given(MATRICES, st.data())
def test_the_lowest_live_weights_go_first(choice, matrices, data):
    """First of sorted((score, index)): ties, zeros, negatives, infinities."""
    flat = [pair for matrix in matrices for pair in matrix]
    live = sum(not gone for _, gone in flat)
    count = data.draw(st.integers(0, live))
    scores = [torch.tensor([s for s, _ in matrix]) for matrix in matrices]
    masks = [torch.tensor([gone for _, gone in matrix]) for matrix in matrices]
    found = torch.cat(pruned(choice, "given", given_scores(scores), masks, count))
    sparsity = (len(flat) - live + count) / len(flat)
    keep = oracle.lowest_mask(
        [s for s, _ in flat], [not gone for _, gone in flat], sparsity
    )
    assert found.tolist() == [not kept for kept in keep]


@pytest.mark.parametrize("choice", CHOICES)
@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=24), st.data())
def test_two_of_four(choice, pairs, data):
    """Never more than two of a four; otherwise the lowest first."""
    pairs += [(1.0, False)] * (-len(pairs) % 4)
    gone = [g for _, g in pairs]
    for at in range(0, len(gone), 4):
        if sum(gone[at : at + 4]) > 2:
            gone[at : at + 4] = [True, False, True, False]
    count = data.draw(st.integers(0, len(gone) // 2 - sum(gone)))
    scores = torch.tensor([s for s, _ in pairs]).view(-1, 4)
    masks = [torch.tensor(gone).view(-1, 4)]
    found = pruned(choice, "given", given_scores([scores]), masks, count, "2:4")[0]
    wanted = oracle.two_of_four_mask(scores.flatten().tolist(), gone, count)
    assert found.flatten().tolist() == wanted


def random_state(n, seed=0):
    """w, m, v of some spread, with zeros; columns a multiple of 4."""
    stream = torch.Generator().manual_seed(seed)
    w, m, v = torch.randn(3, n, 8, generator=stream)
    m, v = m * 1e-3, (v * 1e-3) ** 2 * 10 ** torch.randn(n, 8, generator=stream)
    w[::7], m[::11], v[::5] = 0.0, 0.0, 0.0
    return w, m, v


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("criterion", STATE)
def test_every_criterion_ranks_by_its_formula(choice, criterion, pattern):
    """The reference in float64 against the formula, the choice against it."""
    sources = [random_state(n, n) for n in (40, 3)]
    for w, m, v in sources:
        found = reference.SCORES[criterion](w.double(), m.double(), v.double())
        triples = zip(*(t.double().flatten().tolist() for t in (w, m, v)))
        wanted = [oracle.criterion(criterion, *triple) for triple in triples]
        assert found.flatten().tolist() == pytest.approx(wanted, rel=1e-12, abs=0.0)
    masks = [torch.rand(w.shape) < 0.0 for w, _, _ in sources]
    scores = [reference.SCORES[criterion](*source) for source in sources]
    flat = torch.cat([score.flatten() for score in scores]).tolist()
    gone = [False] * len(flat)
    for count in (31, 90):
        masks = pruned(choice, criterion, sources, masks, count, pattern)
        if pattern == "2:4":
            gone = oracle.two_of_four_mask(flat, gone, count)
        else:
            live = [not g for g in gone]
            share = (sum(gone) + count) / len(flat)
            gone = [not kept for kept in oracle.lowest_mask(flat, live, share)]
        assert torch.cat([mask.flatten() for mask in masks]).tolist() == gone


SIZES = [10**3] if INTERPRETED else [10**3, 10**5, 10**6]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("size", [*SIZES, pytest.param(10**8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["distinct", "tied", "nearly all equal"])
def test_many_weights_in_many_updates(choice, size, kind):
    """Exact at every update, against a stable sort, and the same twice."""
    stream = torch.Generator().manual_seed(size)
    flat = torch.randn(size, generator=stream)
    if kind == "tied":
        flat = (flat * 4).round() / 4
    elif kind == "nearly all equal":
        flat = torch.where(flat > 3, flat, 0.5)
    cut = [size // 10, size // 3, size - size // 10 - size // 3]
    scores = [part.contiguous().clone() for part in flat.split(cut)]
    order = flat.argsort(stable=True)
    masks = [torch.zeros_like(score, dtype=torch.bool) for score in scores]
    wanted = torch.zeros(size, dtype=torch.bool)
    done = 0
    for target in (1, size // 7, size // 2, size):
        masks = pruned(choice, "given", given_scores(scores), masks, target - done)
        wanted[order[done:target]] = True
        done = target
        assert torch.equal(torch.cat(masks), wanted), target


@pytest.mark.parametrize("choice", CHOICES)
def test_more_than_there_are_and_not_a_number(choice):
    masks = [torch.tensor([True, False]), torch.tensor([False])]
    scores = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    with pytest.raises(ValueError, match="3 weights to prune, 2 are live"):
        pruned(choice, "given", given_scores(scores), masks, 3)
    for wild in (math.nan, -math.nan):
        scores = [torch.tensor([1.0, 2.0]), torch.tensor([wild])]
        with pytest.raises(ArithmeticError, match="not a number"):
            pruned(choice, "given", given_scores(scores), masks, 1)
    dead = [torch.tensor([math.nan, 2.0]), torch.tensor([3.0])]
    found = pruned(choice, "given", given_scores(dead), masks, 1)
    assert [mask.tolist() for mask in found] == [[True, True], [False]]
    with pytest.raises(TypeError, match="float64"):
        pruned(choice, "given", given_scores([s.double() for s in scores]), masks, 1)
    held = [mask.to(DEVICE) for mask in masks]
    bad = [tuple(t.to(DEVICE) for t in s) for s in given_scores(scores)]
    with pytest.raises(ArithmeticError):
        choice.prune_lowest("given", bad, held, 1)
    assert [mask.tolist() for mask in held] == [[True, False], [False]]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_what_is_pruned_is_zeroed(choice, pattern):
    """In every list given, where a weight is pruned now, nowhere else."""
    w, m, v = (t.to(DEVICE) for t in random_state(40))
    other = torch.ones_like(w)
    masks = [torch.zeros_like(w, dtype=torch.bool)]
    before = [t.clone() for t in (w, m, v, other)]
    zeroed = [[w], [m], [v], [other]]
    choice.prune_lowest("variance", [(w, m, v)], masks, 90, pattern, zeroed)
    assert masks[0].sum() == 90
    for found, old in zip((w, m, v, other), before):
        assert torch.equal(found, old.masked_fill(masks[0], 0.0))


@pytest.mark.skipif(not FAST, reason="needs a GPU or the interpreter")
def test_a_bracket_finds_the_threshold():
    """Of weights like a network's, without counting them all."""
    size = 16 * kernel.BLOCK
    w = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    masks = [torch.zeros_like(w, dtype=torch.bool)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "BRACKETED", 1)
        patch.setattr(kernel, "_counted", None)
        kernel.prune_lowest("magnitude", [(w, w, w)], masks, size // 3)
    assert masks[0].sum() == size // 3
    assert w.abs()[masks[0]].max() <= w.abs()[~masks[0]].min()


@pytest.mark.parametrize("choice", CHOICES)
def test_zeros_where_the_masks_are(choice):
    values = [torch.randn(n, 3) for n in (50, 1, 7)]
    masks = [torch.rand(v.shape) < 0.4 for v in values]
    wanted = [torch.where(mask, 0.0, v) for v, mask in zip(values, masks)]
    found = [v.to(DEVICE) for v in values]
    choice.zero(found, [mask.to(DEVICE) for mask in masks])
    for a, b in zip(found, wanted):
        assert torch.equal(a.cpu(), b)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("criterion", STATE)
def test_the_gpus_masks_are_the_cpus(criterion, pattern):
    """Scores are the same bits: IEEE operations in the same order."""
    sources = [random_state(n, n) for n in (60_000, 11, 9_000)]
    masks = [torch.zeros_like(w, dtype=torch.bool) for w, _, _ in sources]
    count = sum(w.numel() for w, _, _ in sources) // 3
    fast = pruned(kernel, criterion, sources, masks, count, pattern)
    reference.prune_lowest(criterion, sources, masks, count, pattern)
    assert all(map(torch.equal, fast, masks))


def test_tables_cut_tensors_into_chunks():
    tensor_C, start_C, sizes_N = chunks((5, 8, 1), 4, torch.device("cpu"))
    assert tensor_C.tolist() == [0, 0, 1, 1, 2] and sizes_N.tolist() == [5, 8, 1]
    assert start_C.tolist() == [0, 4, 0, 4, 0]
    a, b = torch.zeros(8), torch.zeros(4, 4)
    found = table([[a, b], [a.clone(), b]])
    assert found.addresses[:, 1].tolist() == [b.data_ptr()] * 2
    assert found.sizes == (8, 16) and found.alignment == 16
    assert table([[a, a[1:5]]]).alignment == table([[a[:3]]]).alignment == 1
    with pytest.raises(ValueError, match=r"shape \(4, 4\) and strides \(1, 4\)"):
        table([[b.T]])
    with pytest.raises(ValueError, match=r"differ in size: \[\[\(8,\)\], \[\(4, 4\)\]"):
        table([[a], [b]])


def kernels_masks(scores, masks, count):
    """As lists, the masks after `count` more."""
    from kernels.pruning import kernel

    scores = given_scores([torch.tensor(row) for row in scores])
    masks = [torch.tensor(row) for row in masks]
    kernel.prune_lowest("given", scores, masks, count)
    return [mask.tolist() for mask in masks]


@pytest.mark.skipif(FAST, reason="the kernel's tests run in this process")
def test_the_kernel_by_hand(interpret):
    """The 0, then the first two of four 1s; the lowest of all is pruned already."""
    scores = [[3.0, 1.0, 1.0, -2.0, 1.0], [1.0, 0.0, 5.0]]
    masks = [[False, False, False, True, False], [False] * 3]
    found = interpret(kernels_masks, scores, masks, 3)
    assert found == [[False, True, True, True, False], [False, True, False]]


@pytest.mark.skipif(FAST, reason="these are the kernel's own tests")
def test_in_the_interpreter():
    """This file again, with Triton's interpreter in place of a GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", __file__]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
