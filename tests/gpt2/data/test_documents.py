"""Where documents begin, from the tokens alone and from the shards."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.documents import starts_of
from gpt2.data.loading.loader import TokenStream, TrainWindows
from records.manifest import read_manifest


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1))
def test_the_last_separator_at_or_before_a_token(rows):
    length = min(map(len, rows))
    tokens_BT = torch.tensor([row[:length] for row in rows])
    found_BT = starts_of(tokens_BT, 3)
    assert found_BT.dtype == torch.int32 and found_BT.is_contiguous()
    for row, found in zip(tokens_BT.tolist(), found_BT.tolist()):
        first = 0
        for t, token in enumerate(row):
            first = t if token == 3 else first
            assert found[t] == first


def test_a_part_of_a_batch_and_no_separator():
    rows_BT = torch.tensor([[1, 3, 2, 3, 3], [3, 1, 1, 1, 2]])
    assert starts_of(rows_BT[:, :-1], 3).tolist() == [[0, 1, 1, 3], [0, 0, 0, 0]]
    assert starts_of(rows_BT, None) is None


def test_windows_are_cut_where_the_shards_say(dataset):
    """Every document of the split is its tokens and then a separator; a window's
    documents are those runs, each opened by the separator of the one before.
    """
    stream, context = TokenStream(dataset, "train"), 64
    separator = read_manifest(dataset).vocab_size - 1
    tokens = np.concatenate([np.asarray(shard) for shard in stream.shards])
    assert (tokens == separator).sum() == stream.split.documents > 10
    opened = [0, *np.flatnonzero(tokens == separator).tolist()]
    windows = TrainWindows(stream, context, seed=1)
    index = np.arange(windows.windows)
    tokens_BT = torch.from_numpy(windows.rows(index)[:, :-1])
    starts_BT = starts_of(tokens_BT, separator)
    several = 0
    for first, starts in zip(windows.starts(index).tolist(), starts_BT.tolist()):
        for t, found in enumerate(starts):
            document = max(place for place in opened if place <= first + t)
            assert found == max(document - first, 0)
        several += len(set(starts)) > 1
    assert several > 3
