"""make data-smoke, and the rates that packing and loading must reach."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from gpt2.data.loading.loader import TokenStream, TrainWindows, micro_batch
from gpt2.data.packing.pack import encoded
from gpt2.data.packing.prepare import prepare
from gpt2.data.sources.corpora import documents as corpus_documents
from gpt2.data.tokenization.bpe import train, trained
from gpt2.measure.data_rates import smoke
from gpt2.settings.run import run_settings
from records.manifest import dataset_dir

TEXT = "To be, or not to be: that is the question – é.\n"


@pytest.fixture
def symbols(tmp_path: Path) -> dict[str, str]:
    """A local corpus of 300 documents; a context of 16."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03d}.txt").write_text(TEXT * (1 + number % 7))
    return {
        "DATASET_LOCAL": "y",
        "LOCAL_PATH": str(folder),
        "VAL_FRACTION": "0.3",
        "GPT2_BLOCK_SIZE": "16",
        "DATA_DIR": str(tmp_path / "data"),
    }


@pytest.mark.parametrize("tokenizer", ["BYTE", "BPE"])
def test_it_tells_the_rates_before_and_after_packing(
    resolve, symbols, capsys, tokenizer
) -> None:
    extra = {"BPE_VOCAB_SIZE": "280"} if tokenizer == "BPE" else {}
    values = resolve(symbols, {f"TOKENIZER_{tokenizer}": "y"}, **extra)
    settings = run_settings(values)
    directory = dataset_dir(settings.data.directory, values)
    smoke(settings, directory, 0.05)
    said = capsys.readouterr().out
    assert re.search(r"^reading +[\d,]+ documents/s, [\d.]+ MB/s$", said, re.M)
    assert "`make data` packs the corpus" in said and not directory.exists()
    assert ("encoding   the vocabulary is trained" in said) == (tokenizer == "BPE")
    prepare(settings.data, directory, lambda line: None)
    smoke(settings, directory, 0.05)
    said = capsys.readouterr().out
    for line in (
        r"^encoding +[\d,]+ documents/s, [\d.]+ MB/s, [\d,]+ tokens/s$",
        r"^ +[\d.]+ MB/s per core$",
        r"^loader +[\d,]+ tokens/s on \d+ cores",
        r"^first +\(8, 17\) after",
        r"^ +'.+'$",
    ):
        assert re.search(line, said, re.M), line


def test_encoded_gives_the_documents_in_order() -> None:
    tokenizer = trained(train([TEXT * 20], 270))
    texts = [(f"{n}", (TEXT * (n % 5) + str(n)).encode()) for n in range(200)]
    found = [tokenizer.decode(tokens) for tokens in encoded(tokenizer, texts)]
    assert found == [text for _, text in texts]


@pytest.mark.slow
def test_packing_and_loading_are_fast_enough(tmp_path, make_settings) -> None:
    """BPE at 5 MB per core second and more; the loader at 1M tokens per core
    second and more (2M on two cores). CPU time, so that other work on the
    machine does not count."""
    stdlib = make_settings(corpus="stdlib", local_path=None)
    read = [text for _, text in zip(range(300), corpus_documents(stdlib))]
    tokenizer = trained(train((text.decode() for _, text in read[:100]), 8192))
    size = sum(len(text) for _, text in read)
    start = time.process_time()
    for _ in encoded(tokenizer, read):
        pass
    rate = size / 1e6 / (time.process_time() - start)
    print(f"\nbpe {rate:.1f} MB per core second")
    assert rate >= 5

    prepare(stdlib, tmp_path / "set", lambda line: None)
    windows = TrainWindows(TokenStream(tmp_path / "set", "train"), 1024, 1)
    start, batches = time.process_time(), 400
    for position in range(batches):
        rows = windows.rows(micro_batch(position, 8))
        assert rows.shape == (8, 1025) and rows.dtype == np.int64
    rate = batches * 8 * 1024 / (time.process_time() - start)
    print(f"loader {rate / 1e6:.1f}M tokens per core second")
    assert rate >= 1e6
