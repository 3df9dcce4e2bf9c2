"""Which tokens a run sees, in which order."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.loading.loader import (
    EvalWindows,
    LoaderTimeout,
    Prefetcher,
    TokenStream,
    TrainWindows,
    micro_batch,
)


class Counting(TokenStream):
    """A stream of the numbers 0, 1, 2 … in shards of the given sizes."""

    def __init__(self, *sizes: int):
        self.tokens, self.name = sum(sizes), "numbers"
        numbers = np.arange(self.tokens, dtype="<u4")
        self._ends = np.cumsum(sizes)
        self.shards = np.split(numbers, self._ends[:-1])


@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_every_token_is_a_target_once_per_epoch(
    context: int, sizes: list[int], seed: int, epoch: int
) -> None:
    stream = Counting(*sizes)
    if stream.tokens < context + 1:
        return
    train = TrainWindows(stream, context, seed)
    rows = train.rows(epoch * train.windows + np.arange(train.windows))
    assert (np.diff(rows, axis=1) == 1).all()
    targets = np.sort(rows[:, 1:].ravel())
    first = targets[0]
    assert targets.tolist() == list(range(first, first + train.windows * context))
    assert 1 <= first <= context
    assert stream.tokens - len(targets) <= 2 * context


def test_every_offset_occurs_and_none_leaves_the_split() -> None:
    for tokens in range(6, 40):
        stream = Counting(tokens)
        train = TrainWindows(stream, 5, 0)
        epochs = np.arange(200 * train.windows).reshape(200, train.windows)
        offsets = {int(train.starts(epoch).min()) for epoch in epochs}
        assert offsets == set(range(min(5, tokens - 5 * train.windows)))
        last = max(offsets) + 5 * train.windows + 1
        assert last <= tokens


def test_the_order_changes_from_epoch_to_epoch() -> None:
    train = TrainWindows(Counting(1000), 10, 0)
    starts = train.starts(np.arange(2 * train.windows)).reshape(2, -1) // 10
    assert starts[0].tolist() != starts[1].tolist()


def test_two_seeds_differ_and_one_repeats() -> None:
    index = np.arange(300)
    first, again, other = (
        TrainWindows(Counting(700, 300), 10, seed).rows(index) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first == other).all(axis=1).mean() < 0.1


def test_a_sample_depends_on_its_number_only() -> None:
    train = TrainWindows(Counting(100, 200), 7, 3)
    together = train.rows(np.arange(500))
    backwards = [
        TrainWindows(train.stream, 7, 3).rows([n])[0] for n in range(499, -1, -1)
    ]
    np.testing.assert_array_equal(together, backwards[::-1])


def test_rows_cross_shards_and_documents(dataset: Path) -> None:
    stream = TokenStream(dataset, "train")
    everything = np.concatenate([shard.astype(np.int64) for shard in stream.shards])
    length = 1500  # longer than a shard
    starts = np.arange(0, stream.tokens - length + 1, 97)
    rows = stream.rows(starts, length)
    assert rows.dtype == np.int64
    for row, start in zip(rows, starts):
        np.testing.assert_array_equal(row, everything[start : start + length])


@pytest.mark.parametrize("start", [-1, 91])
def test_a_row_outside_the_split_is_refused(start: int) -> None:
    with pytest.raises(IndexError, match="rows of 10 tokens"):
        Counting(100).rows(np.array([0, start]), 10)


def test_a_negative_sample_is_refused() -> None:
    with pytest.raises(IndexError, match="sample -1"):
        TrainWindows(Counting(100), 10, 0).rows(np.array([-1]))


@pytest.mark.parametrize(
    "micro, accumulation, ranks", [(12, 1, 1), (2, 3, 2), (1, 4, 3)]
)
def test_how_a_step_is_cut_does_not_change_what_it_sees(
    micro: int, accumulation: int, ranks: int
) -> None:
    effective = 12
    for step in (0, 5):
        seen = [
            micro_batch(step * accumulation + part, micro, accumulation, rank, ranks)
            for part in range(accumulation)
            for rank in range(ranks)
        ]
        samples = np.concatenate(seen)
        assert samples.tolist() == list(range(step * effective, (step + 1) * effective))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_shorter_than_a_window_names_both_numbers(
    dataset: Path, split: str
) -> None:
    stream = TokenStream(dataset, split)
    context = stream.tokens
    message = (
        f"{split} has {context} tokens, .*BLOCK_SIZE={context} needs {context + 1}"
    )
    with pytest.raises(ValueError, match=message):
        TrainWindows(stream, context, 0)
    with pytest.raises(ValueError, match=message):
        EvalWindows(stream, context, 1)
    assert TrainWindows(stream, context - 1, 0).rows([0, 1, 2]).shape == (3, context)
    assert len(EvalWindows(stream, context - 1, 5)) == 1


@given(st.integers(2, 500), st.integers(1, 30), st.integers(1, 60))
def test_eval_windows_are_apart_even_and_inside(
    tokens: int, context: int, count: int
) -> None:
    if tokens < context + 1:
        return
    windows = EvalWindows(Counting(tokens), context, count)
    available = (tokens - 1) // context
    assert len(windows) == min(count, available)
    rows = windows.rows(np.arange(len(windows)))
    gaps = np.diff(rows[:, 0])
    assert (gaps >= context).all()
    assert gaps.size == 0 or gaps.max() - gaps.min() <= context
    assert rows[0, 0] == 0
    assert available - rows[-1, 0] // context <= -(-available // len(windows))
    np.testing.assert_array_equal(
        rows, EvalWindows(Counting(tokens), context, count).rows(slice(None))
    )


def test_prefetched_batches_are_the_batches_in_order() -> None:
    for depth in (0, 1, 3):
        with Prefetcher(lambda n: np.array([n, n * n]), start=4, depth=depth) as ahead:
            found = [next(ahead).tolist() for _ in range(5)]
            assert ahead.position == 9
        assert found == [[n, n * n] for n in range(4, 9)]


def test_prefetching_runs_ahead_in_another_thread() -> None:
    made: list[tuple[int, int]] = []
    third = threading.Event()

    def fetch(number: int) -> np.ndarray:
        made.append((number, threading.get_ident()))
        if number == 2:
            third.set()
        return np.zeros(1)

    with Prefetcher(fetch, start=0, depth=2) as ahead:
        next(ahead)
        assert third.wait(10)
    assert [number for number, _ in made] == [0, 1, 2]
    assert threading.get_ident() not in {thread for _, thread in made}


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_in_the_thread_reaches_the_consumer(depth: int) -> None:
    def fetch(number: int) -> np.ndarray:
        if number == 1:
            raise OSError(f"batch {number}")
        return np.array([number])

    with Prefetcher(fetch, start=0, depth=depth) as ahead:
        assert next(ahead).tolist() == [0]
        for _ in range(2):
            with pytest.raises(OSError, match="batch 1"):
                next(ahead)
        assert ahead.position == 1


def test_a_closed_prefetcher_has_no_thread_and_gives_nothing() -> None:
    before = threading.active_count()
    ahead = Prefetcher(lambda n: np.zeros(1), start=0, depth=3)
    next(ahead)
    assert threading.active_count() == before + 1
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        next(ahead)


def test_a_thread_that_does_not_deliver_is_left_behind() -> None:
    """With a message; closing does not wait for it."""
    stuck = threading.Event()

    def fetch(number: int) -> np.ndarray:
        if number == 2:
            assert stuck.wait(600)
        return np.zeros(1)

    with Prefetcher(fetch, start=0, depth=3, timeout=0.2) as ahead:
        next(ahead), next(ahead)
        for _ in range(2):
            with pytest.raises(LoaderTimeout, match="batch 2 did not come within 0.2"):
                next(ahead)
    stuck.set()


def test_pinning_is_done_in_the_thread(monkeypatch) -> None:
    pinned: list[int] = []

    def pin_memory(batch: torch.Tensor) -> torch.Tensor:
        pinned.append(threading.get_ident())
        return batch

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    for pin in (False, True):
        with Prefetcher(lambda n: np.zeros(1), start=0, depth=1, pin=pin) as ahead:
            next(ahead)
        assert bool(pinned) == pin
    assert threading.get_ident() not in pinned


@pytest.mark.parametrize("context", [64, 1024])
def test_throughput(
    tmp_path: Path, make_settings, context: int, record_property
) -> None:
    """At least 2M tokens/s on one core, from memory-mapped shards."""
    from gpt2.data.packing.prepare import prepare

    random = np.random.default_rng(0)
    text = random.integers(1, 256, 4_000_000, np.uint8).tobytes()
    (tmp_path / "corpus").write_bytes(text)
    changed = make_settings(split="tail", val_fraction=0.1, shard_tokens=1 << 20)
    prepare(changed, tmp_path / "set", say=lambda line: None)
    train = TrainWindows(TokenStream(tmp_path / "set", "train"), context, 1)
    best = 0.0
    for _ in range(3):
        start, tokens = time.perf_counter(), 0
        for position in range(20):
            tokens += train.rows(micro_batch(position, 65536 // context)).size
        best = max(best, tokens / (time.perf_counter() - start))
    record_property("tokens_per_s", best)
    print(f"loader, T={context}: {best / 1e6:.1f}M tokens/s")
    assert best >= 2e6
