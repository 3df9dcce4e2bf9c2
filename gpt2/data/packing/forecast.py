"""What a build will take, measured on the first megabyte of its text."""

import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Iterable, Iterator, Protocol

from gpt2.data.sources.corpora import Document, Source
from gpt2.data.tokenization.tokenizers import Tokenizer, cut, encode
from gpt2.settings.run import DataSettings

SAMPLE_BYTES = 1_000_000


class BuildError(Exception):
    """A dataset that cannot be built; the message says why and what helps."""


class Origin(Protocol):
    """A corpus as it is packed: corpora.Scanned or hub.Stream."""

    source: Source
    revision: str | None
    rows: int | None
    description: str
    amount: str

    def blocks(
        self, position: Any
    ) -> Iterator[tuple[Iterable[Document], dict[str, Any] | None]]:
        """(documents, where to go on after them) from a position on."""

    def confirm(self) -> None:
        """Raise CorpusError if what was packed is not what was promised."""


@dataclass(frozen=True)
class Forecast:
    """About how much text, tokens and bytes of shards; None is not known."""

    bytes_per_token: float
    text_bytes: int | None
    tokens: int | None
    disk_bytes: int | None

    def line(self, folder: Path) -> str:
        """The forecast in words."""
        free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"
        rate = f"{self.bytes_per_token:.2f} bytes a token"
        if self.tokens is None:
            return (
                f"forecast: {rate}; the corpus does not say how large it is "
                f"(CONFIG_DATA_TOKENS sets an end), {free}"
            )
        return (
            f"forecast: about {self.tokens:,} tokens, {self.disk_bytes / 1e9:.3f} GB "
            f"({rate}), {free}"
        )

    def require_room(self, folder: Path, there: int) -> None:
        """Raise BuildError when the shards will not fit; `there` bytes exist."""
        free = shutil.disk_usage(folder).free
        if self.disk_bytes is not None and self.disk_bytes > free + there:
            raise BuildError(
                f"{folder} has {free / 1e9:.3f} GB free, the shards need about "
                f"{self.disk_bytes / 1e9:.3f} GB: set CONFIG_DATA_DIR to a larger "
                "disk or CONFIG_DATA_TOKENS to fewer tokens"
            )


def forecast(settings: DataSettings, origin: Origin, tokenizer: Tokenizer) -> Forecast:
    """The forecast of a build; reads the first documents of the corpus."""
    text = encoded = tokens = documents = 0
    every = chain.from_iterable(block for block, _ in origin.blocks(None))
    for name, document in every:
        text += len(document)
        head = document[: cut(memoryview(document), SAMPLE_BYTES)]
        encoded += len(head)
        tokens += len(encode(tokenizer, name, head)) + 1
        documents += 1
        if text >= SAMPLE_BYTES:
            whole = origin.rows and origin.rows * text / documents
            break
    else:
        whole = text
    rate = encoded / max(tokens, 1)
    whole = origin.source.bytes or whole
    if settings.tokens:
        wanted = settings.tokens / (1 - settings.val_fraction) * rate
        whole = wanted if whole is None else min(whole, wanted)
    if whole is None:
        return Forecast(rate, None, None, None)
    total = round(whole / max(rate, 1e-9))
    return Forecast(rate, round(whole), total, total * tokenizer.dtype.itemsize)


def size_of(folder: Path) -> int:
    """Bytes of the shards that are already in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.bin"))
