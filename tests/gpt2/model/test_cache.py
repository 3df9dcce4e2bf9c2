"""Tapes: values that share memory, and never what another one reads."""

import random

import pytest
import torch

from gpt2.model.cache import FIRST, GrowingCache


def empty(most=1024):
    return GrowingCache.of(torch.zeros(2, 0, 3), most)


def tokens(*numbers):
    """x_Bn3 that holds those numbers."""
    return torch.tensor(numbers, dtype=torch.float32)[None, :, None].expand(2, -1, 3)


def test_it_holds_what_was_appended():
    cache = empty().append(tokens(1, 2)).append(tokens(3))
    assert torch.equal(cache.tensor, tokens(1, 2, 3)) and len(cache) == 3
    assert torch.equal(cache.last(2).tensor, tokens(2, 3))
    assert cache.last(9) == cache


def test_a_token_is_not_copied_again():
    cache = empty().append(tokens(0))
    memory, moves = cache.store, 0
    for i in range(1, 1000):
        cache = cache.append(tokens(i))
        moves += cache.store is not memory
        memory = cache.store
    assert moves == 4, "64, 128, 256, 512, 1024"
    assert torch.equal(cache.tensor, tokens(*range(1000)))


def test_two_continuations_do_not_meet():
    prefix = empty().append(tokens(1, 2))
    one, other = prefix.append(tokens(3)), prefix.append(tokens(4))
    assert one.store is prefix.store and other.store is not prefix.store
    one = one.append(tokens(5))
    assert torch.equal(prefix.tensor, tokens(1, 2))
    assert torch.equal(one.tensor, tokens(1, 2, 3, 5))
    assert torch.equal(other.tensor, tokens(1, 2, 4))


def test_any_order_of_continuations_is_that_of_lists():
    rng = random.Random(0)
    made = [([], empty(most=300))]
    for step in range(2000):
        numbers, cache = made[-1] if rng.random() < 0.8 else rng.choice(made)
        new = [rng.random() for _ in range(rng.choice((1, 1, 1, 1, 5, 40)))]
        numbers, cache = numbers + new, cache.append(tokens(*new))
        if len(numbers) > 250 or rng.random() < 0.2:
            count = rng.randint(1, 60)
            numbers, cache = numbers[-count:], cache.last(count)
        made = [*made[-30:], (numbers, cache)]
        assert all(torch.equal(t.tensor, tokens(*n)) for n, t in made)


def test_the_room_is_what_the_context_needs():
    cache = empty(most=100).append(tokens(0))
    assert cache.store.memory.shape[1] == FIRST
    assert cache.append(tokens(*range(70))).store.memory.shape[1] == 100
    assert empty(most=8).append(tokens(1)).store.memory.shape[1] == 8


def test_a_few_tokens_do_not_hold_on_to_much_memory():
    cache = empty().append(tokens(*range(1000))).last(10)
    assert cache.store.memory.shape[1] == FIRST
    assert torch.equal(cache.tensor, tokens(*range(990, 1000)))
    for i in range(1000, 2000):
        cache = cache.append(tokens(i)).last(10)
        assert cache.store.memory.shape[1] == FIRST
    assert torch.equal(cache.tensor, tokens(*range(1990, 2000)))


@pytest.mark.parametrize(
    "other", [torch.zeros(1, 1, 3), torch.zeros(2, 1, 4), torch.zeros(2, 1, 3).half()]
)
def test_tokens_of_another_kind(other):
    with pytest.raises(ValueError, match="cannot go on with"):
        empty().append(other)
