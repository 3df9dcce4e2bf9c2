"""Small corpora in tmp_path and settings that name them."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import DataSettings

MakeSettings = Callable[..., DataSettings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """DataSettings of a local corpus at tmp_path/corpus; any field by name."""

    def make(**changes: Any) -> DataSettings:
        fields = dict(
            corpus="local",
            stdlib_tests=False,
            local_path=str(tmp_path / "corpus"),
            local_sources=None,
            local_field="text",
            local_files=None,
            local_shuffle=False,
            finewebedu_sample=None,
            synthetic_mb=None,
            recall=None,
            hf_path=None,
            hf_revision=None,
            shuffle_buffer=None,
            shuffle_seed=None,
            on_the_fly=False,
            val_tokens=None,
            workers=None,
            report_documents=None,
            tokens=0 if changes.get("split") != "tail" else None,
            tokenizer="byte",
            gpt2_vocab_path=None,
            bpe_vocab_size=None,
            bpe_train_mb=None,
            split="document",
            val_fraction=0.2,
            directory=str(tmp_path / "data"),
            shard_tokens=1024,
            prefetch=2,
            timeout=60,
        )
        return DataSettings(**{**fields, **changes})

    return make


@pytest.fixture
def documents(tmp_path: Path) -> list[bytes]:
    """120 documents of 1-299 random bytes without NUL, in files at corpus/."""
    random = np.random.default_rng(7)
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = []
    for number in range(120):
        size = int(random.integers(1, 300))
        texts.append(random.integers(1, 256, size, np.uint8).tobytes())
        (folder / f"{number:03d}.txt").write_bytes(texts[-1])
    return texts


@pytest.fixture
def dataset(
    tmp_path: Path, documents: list[bytes], make_settings: MakeSettings
) -> Path:
    """The packed corpus of `documents`, several shards per split."""
    directory = tmp_path / "data" / "set"
    prepare(make_settings(), directory, say=lambda line: None)
    return directory
