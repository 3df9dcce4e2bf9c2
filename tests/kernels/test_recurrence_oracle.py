"""The op of the recurrences against loops over its formula, in float64.

Legend: tests/oracles/recurrence/op.py.
"""

import pytest
import torch
import torch.nn.functional as F

from kernels.recurrence import chunks, loop
from tests.oracles.recurrence.op import recurrence

B, H, K, V = 2, 2, 3, 2
KINDS = [(decay, erases) for decay in ("no", "head", "channel") for erases in (0, 1)]
NAMES = [f"{decay}-decay{'-delta' * erases}" for decay, erases in KINDS]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=NAMES)
CLOSE = 1e-9


def inputs_of(kind, T, seed=3):
    """q, k, v, state, and g, e, c or None, which want their gradients: decays of all
    strengths, e and c that are neither k nor parallel.
    """
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    decay, erases = kind
    g = e = c = None
    if decay != "no":
        shape = (B, T, H) if decay == "head" else (B, T, H, K)
        g = -F.softplus(2 * normal(*shape))
    if erases:
        e = F.normalize(normal(B, T, H, K), dim=-1)
        c = 0.9 * F.normalize(e + 0.2 * normal(B, T, H, K), dim=-1)
    vectors = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)
    tensors = [*vectors, normal(B, H, K, V), g, e, c]
    return [None if x is None else x.requires_grad_() for x in tensors]


def documents(T):
    """starts_BT: the first row goes on with a document that began before it, the second
    begins one; documents of one token, and one that begins where a chunk of 16 does.
    """
    starts_BT = torch.zeros(B, T, dtype=torch.int32)
    starts_BT[0] = -3
    for b, cuts in enumerate([(5, 6, 16, 37), (2, 33, 64, 66)]):
        for cut in cuts:
            starts_BT[b, cut:] = cut
    return starts_BT


def by_op(op, inputs, starts, **size):
    q, k, v, state, g, e, c = inputs
    erase = None if e is None else (e, c)
    return op(q, k, v, state, starts, g, erase, **size)


def by_oracle(inputs, starts):
    q, k, v, state, g, e, c = inputs
    return recurrence(q, k, v, g, e, c, starts, state)


def with_gradients(results, inputs):
    """The outputs, and the gradients of a sum of them that weighs each otherwise."""
    weights = [1 + torch.cos(torch.arange(x.numel()).double()) for x in results]
    loss = sum((x.flatten() * w).sum() for x, w in zip(results, weights, strict=True))
    leaves = [x for x in inputs if x is not None]
    return [*results, *torch.autograd.grad(loss, leaves)]


def assert_close(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() <= CLOSE * theirs.abs().max()


@every_kind
@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
def test_the_op_is_the_oracle(kind, packed):
    """The loop and chunks of 1, 16 and 64: outputs, last state, every gradient."""
    T = 70
    inputs, starts = inputs_of(kind, T), documents(T) if packed else None
    wanted = with_gradients(by_oracle(inputs, starts), inputs)
    assert_close(with_gradients(by_op(loop, inputs, starts), inputs), wanted)
    for size in (1, 16, 64):
        found = by_op(chunks, inputs, starts, size=size)
        assert_close(with_gradients(found, inputs), wanted)


@every_kind
@pytest.mark.parametrize("T", [1, 15, 16, 17, 33])
def test_lengths_that_no_chunk_divides(kind, T):
    inputs = inputs_of(kind, T, seed=T)
    wanted = with_gradients(by_oracle(inputs, None), inputs)
    for size in (16, 64):
        found = by_op(chunks, inputs, None, size=size)
        assert_close(with_gradients(found, inputs), wanted)


@every_kind
@pytest.mark.parametrize("packed", [False, True], ids=["whole", "documents"])
def test_a_state_is_handed_on_at_odd_places(kind, packed):
    """Parts of other lengths than a chunk, each with the state of the one before it; its
    gradient comes back through all of them.
    """
    T = 40
    inputs, starts = inputs_of(kind, T), documents(70)[:, :T] if packed else None
    wanted = with_gradients(by_oracle(inputs, starts), inputs)
    for cuts in ((0, 1, 2, 19, T), (0, 16, 39, T)):
        outputs, state = [], inputs[3]
        for first, end in zip(cuts, cuts[1:]):
            part = [None if x is None else x[:, first:end] for x in inputs]
            part[3] = state
            left = None if starts is None else starts[:, first:end] - first
            o, state = by_op(chunks, part, left, size=16)
            outputs.append(o)
        assert_close(with_gradients([torch.cat(outputs, 1), state], inputs), wanted)


@pytest.mark.parametrize("kind", KINDS[2:], ids=NAMES[2:])
def test_decays_of_any_strength(kind):
    """None, hardly any, and ones that leave 0 of a state in fp64: no gradient is lost."""
    inputs = inputs_of(kind, 40)
    strengths = torch.tensor([0.0, 1e-9, 0.3, 40.0, 800.0], dtype=torch.float64)
    stream = torch.Generator().manual_seed(1)
    chosen = torch.randint(5, inputs[4].shape, generator=stream)
    inputs[4] = (-strengths[chosen]).requires_grad_()
    wanted = with_gradients(by_oracle(inputs, None), inputs)
    for size in (16, 64):
        found = by_op(chunks, inputs, None, size=size)
        assert_close(with_gradients(found, inputs), wanted)
