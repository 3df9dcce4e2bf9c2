"""Recall rows: what they hold, that they are always the same, and windows on them."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from gpt2.data.loading.loader import EvalWindows, TokenStream
from gpt2.data.loading.on_the_fly import train_windows
from gpt2.data.packing.prepare import prepare
from gpt2.data.sources.corpora import documents, scan
from gpt2.data.sources.recall import FIRST_VALUE, recall_row
from gpt2.settings.recall import RecallSettings
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from records.manifest import dataset_dir, read_manifest

RECALL = {
    "DATASET_RECALL": "y",
    "RECALL_PAIRS": "2,5",
    "RECALL_KEYS": "9",
    "RECALL_VALUES": "4",
    "RECALL_LENGTH": "24",
    "RECALL_ROWS": "60",
    "GPT2_BLOCK_SIZE": "24",
    "VAL_FRACTION": "0.3",
}
SIZES = [(1, 4, 8), (2, 9, 24), (5, 9, 24), (8, 64, 128), (40, 48, 128), (40, 40, 84)]


def read(text: bytes) -> tuple[dict[int, int], list[tuple[int, int, int]]]:
    """The pairs of a row, byte by byte, and (place, query, answer) of what follows them:
    the pairs end where a key comes a second time.
    """
    pairs, asked, at = {}, [], 0
    while at < len(text) and text[at] not in pairs:
        pairs[text[at]] = text[at + 1]
        at += 2
    while at + 1 < len(text):
        asked.append((at + 1, text[at], text[at + 1]))
        at += 2
    return pairs, asked


@pytest.mark.parametrize("n, keys, length", SIZES)
def test_a_row_by_an_independent_loop(n: int, keys: int, length: int) -> None:
    for number in range(20):
        row = recall_row(3, number, n, keys, 16, length)
        assert len(row.text) == length - 1
        pairs, asked = read(row.text)
        assert len(pairs) == n and max(pairs) < keys
        assert all(FIRST_VALUE <= value < FIRST_VALUE + 16 for value in pairs.values())
        assert all(pairs[query] == answer for _, query, answer in asked)
        first = []
        for place, query, _ in asked:
            if len(first) < n and place not in first:
                first.append(place)
        assert list(row.answers) == first
        queries = [query for _, query, _ in asked]
        for start in range(0, len(queries), n):
            part = queries[start : start + n]
            assert len(set(part)) == len(part)
        if length % 2 == 0:  # one byte is left: a query
            assert row.text[-1] in pairs


def test_rows_are_a_function_of_seed_and_number() -> None:
    size = (8, 64, 64, 128)
    one = [recall_row(1, number, *size).text for number in range(50)]
    assert one == [recall_row(1, number, *size).text for number in range(50)]
    others = [recall_row(2, number, *size).text for number in range(50)]
    assert len({*one, *others}) == 100
    digest = hashlib.sha256(b"".join(one)).hexdigest()
    assert digest.startswith("c3b9c22ba398ea07")


def test_keys_values_and_queries_are_spread_evenly() -> None:
    rows = [recall_row(1, number, 8, 16, 16, 128).text for number in range(400)]
    text = np.stack([np.frombuffer(row, np.uint8) for row in rows])
    for column, lowest in ((0, 0), (14, 0), (1, 128), (15, 128), (17, 128)):
        counts = np.bincount(text[:, column] - lowest, minlength=16)
        assert len(counts) == 16 and counts.min() > 8 and counts.max() < 50
    first_asked = [list(read(row)[0]).index(row[16]) for row in rows]
    assert np.bincount(first_asked, minlength=8).min() > 25


@pytest.mark.parametrize("n, keys, length", [(5, 4, 128), (40, 64, 82)])
def test_a_row_without_room_is_refused(n: int, keys: int, length: int) -> None:
    with pytest.raises(ValueError, match=f"{n} pairs need as many keys"):
        recall_row(1, 0, n, keys, 16, length)


def test_the_corpus_has_the_numbers_of_pairs_in_turn(resolve) -> None:
    data = run_settings(resolve(RECALL)).data
    found = [len(read(text)[0]) for _, text in documents(data)]
    assert found == [2, 5] * 30
    assert scan(data).documents == 60 and scan(data).bytes == 60 * 23


def test_every_window_is_a_row(resolve, tmp_path) -> None:
    settings = run_settings(resolve(RECALL))
    prepare(settings.data, tmp_path / "set", say=lambda line: None)
    rows = {text for _, text in documents(settings.data)}
    windows = train_windows(settings, tmp_path / "set", read_manifest(tmp_path / "set"))
    trained = windows.rows(np.arange(3 * windows.windows))
    evaluated = EvalWindows(TokenStream(tmp_path / "set", "val"), 24, 99)
    for window in [*trained, *evaluated.rows(np.arange(len(evaluated)))]:
        assert window[:23].astype(np.uint8).tobytes() in rows
        assert window[23] == 256
    epochs = trained[:, :23].reshape(3, windows.windows, 23)
    assert len({epoch.tobytes() for epoch in epochs}) == 3


@pytest.mark.parametrize(
    "symbol, value",
    [("SEED", "2"), ("PAIRS", "2,4"), ("KEYS", "10"), ("VALUES", "5"), ("ROWS", "61")],
)
def test_the_datasets_hash_knows_each_symbol(resolve, tmp_path, symbol, value) -> None:
    hashes, names = set(), set()
    for number, changed in enumerate(({}, {f"RECALL_{symbol}": value})):
        values = resolve(RECALL, **changed)
        made = tmp_path / str(number)
        hashes.add(prepare(run_settings(values).data, made, lambda line: None).sha256)
        names.add(dataset_dir(tmp_path, values))
    assert len(hashes) == len(names) == 2


def test_packed_corpora_keep_their_names(resolve) -> None:
    values = resolve({})
    before = {k: v for k, v in values.items() if "RECALL" not in k}
    assert dataset_dir("data", values) == dataset_dir("data", before)


@pytest.mark.parametrize(
    "symbols, why",
    [
        ({"RECALL_PAIRS": "2,10"}, "a row of 10 pairs needs 1 to CONFIG_RECALL_KEYS=9"),
        ({"RECALL_PAIRS": "0"}, "a row of 0 pairs"),
        ({"RECALL_LENGTH": "12", "GPT2_BLOCK_SIZE": "12"}, "are 13 tokens"),
        ({"GPT2_BLOCK_SIZE": "32"}, "is not CONFIG_GPT2_BLOCK_SIZE=32"),
    ],
)
def test_settings_without_a_meaning(resolve, symbols, why) -> None:
    with pytest.raises(SettingsError, match=why):
        run_settings(resolve(RECALL, symbols))


def test_another_tokenizer_is_refused(resolve) -> None:
    data = run_settings(resolve(RECALL)).data
    assert isinstance(data.recall, RecallSettings)
    with pytest.raises(SettingsError, match="CONFIG_TOKENIZER_BYTE=y"):
        replace(data, tokenizer="gpt2")
