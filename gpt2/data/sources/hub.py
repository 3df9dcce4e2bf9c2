"""Corpora in Hugging Face's form, streamed: from the hub or from a folder.

Nothing is stored but the shards. Rows are read in order, in blocks of
CONFIG_SHUFFLE_BUFFER; a block is permuted by (CONFIG_SHUFFLE_SEED, its number),
so the order of the documents is a pure function of the configuration and can
be taken up at any block: its position is the number and the state of the
`datasets` stream in front of it. (That library's own buffer forgets what is in
it when it is taken up.)
"""

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Iterator

import datasets
import numpy as np

from gpt2.data.permutation import Permutation
from gpt2.data.sources.columns import FIELD, text_only
from gpt2.data.sources.corpora import CorpusError, Document, Source
from gpt2.settings.run import DataSettings
from records.offline import OfflineError, offline_by

SPLIT = "train"
# Rows of a block that is not shuffled.
PLAIN_BLOCK = 1000

Position = dict[str, Any]


@dataclass(frozen=True)
class Repository:
    """A corpus on the hub.

    paragraphs: a row is cut at its blank lines into documents, for a corpus of
    one row.
    """

    path: str
    revision: str | None = None
    paragraphs: bool = False


REPOSITORIES = {
    "finewebedu": Repository("HuggingFaceFW/fineweb-edu"),
    "openwebtext": Repository("Skylion007/openwebtext"),
    "tinystories": Repository("roneneldan/TinyStories"),
    "shakespeare": Repository(
        "karpathy/tiny_shakespeare", "refs/convert/parquet", True
    ),
}


class Stream:
    """The documents of a corpus on the hub, in blocks that can be taken up.

    revision: the commit it is read at, None for a folder. source: its sha256 is
    that of the corpus' name, commit, files and order; documents and bytes are
    not known before the end. files: what it is read from. rows: how many there
    are, if the corpus says so.
    """

    def __init__(self, settings: DataSettings, revision: str | None = None):
        """revision: the commit of a build that is taken up.

        Raises CorpusError when the corpus cannot be reached.
        """
        self.settings = settings
        self.repository = REPOSITORIES[settings.corpus]
        self.place, self.local = _place(settings, self.repository)
        if not self.local:
            self._require_network()
        own = None if settings.hf_path else self.repository.revision
        with self._reaching():
            datasets.disable_progress_bars()
            self._builder = datasets.load_dataset_builder(
                self.place,
                settings.finewebedu_sample,
                revision=(
                    None if self.local else revision or settings.hf_revision or own
                ),
            )
            text_only(self._builder)
            splits = self._builder.config.data_files or {}
            if SPLIT not in splits:
                raise ValueError(f"no split {SPLIT!r}, it has {sorted(splits)}")
        files = splits[SPLIT]
        self.files = list(files)
        self.revision = None if self.local else _commit(files)
        identity = {
            "place": None if self.local else self.place,
            "sample": settings.finewebedu_sample,
            "files": [_within(file, self.place) for file in files],
            "versions": [list(version) for version in files.origin_metadata],
            "paragraphs": self.repository.paragraphs,
            "shuffle": [settings.shuffle_buffer, settings.shuffle_seed],
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        self.source = Source(digest.hexdigest(), None, None, 0)
        known = (self._builder.info.splits or {}).get(SPLIT)
        countable = known and not self.repository.paragraphs
        self.rows = known.num_examples or None if countable else None

    @property
    def amount(self) -> str:
        """How many rows there are, in words."""
        return f"streamed, {self.rows:,} rows" if self.rows else "streamed"

    @property
    def description(self) -> str:
        """The corpus in words."""
        words = (self.place, self.settings.finewebedu_sample)
        at = f" at {self.revision[:12]}" if self.revision else ""
        return " ".join(word for word in words if word) + at

    def blocks(
        self, position: Position | None
    ) -> Iterator[tuple[list[Document], Position]]:
        """(documents, position behind them) from a position on, None the start.

        Raises CorpusError when the stream breaks off or a row is no text.
        """
        buffer = self.settings.shuffle_buffer
        number = position["block"] if position else 0
        with self._reaching():
            rows = self._builder.as_streaming_dataset(split=SPLIT)
            if position:
                rows.load_state_dict(position["state"])
            stream = iter(rows)
            while block := list(islice(stream, buffer or PLAIN_BLOCK)):
                texts = [self._text(row, number, at) for at, row in enumerate(block)]
                if self.repository.paragraphs:
                    texts = [part for item in texts for part in _paragraphs(*item)]
                if buffer:
                    key = f"shuffle:{self.settings.shuffle_seed}:{number}"
                    order = Permutation(len(texts), key)(np.arange(len(texts)))
                    texts = [texts[at] for at in order.tolist()]
                number += 1
                yield texts, {"block": number, "state": rows.state_dict()}

    def confirm(self) -> None:
        """A commit does not change, and a folder's files are in the recipe."""

    def _text(self, row: dict[str, Any], block: int, at: int) -> Document:
        name = f"{self.place} block {block} row {at}"
        text = row.get(FIELD)
        if not isinstance(text, str):
            raise CorpusError(
                f"{name}: field {FIELD!r} is {text!r:.40}, expected a string; the "
                f"row has {', '.join(sorted(row))}"
            )
        try:
            return name, text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CorpusError(f"{name}: {error}") from error

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """What goes wrong below becomes a CorpusError that says what helps."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            head = f"{self.place}: {type(error).__name__}: {error}"
            raise CorpusError(f"{head}. {self._help()}") from error

    def _require_network(self) -> None:
        """Raise CorpusError where a variable says that the hub is not to be asked."""
        try:
            variable = offline_by()
        except OfflineError as error:
            raise CorpusError(str(error)) from None
        if variable:
            raise CorpusError(
                f"{self.place}: {variable}, so the hub is not asked. {self._help()}"
            )

    def _help(self) -> str:
        if self.local:
            return "CONFIG_HF_PATH names a folder in the form of a hub repository"
        return (
            "If the hub cannot be reached from here, run `hf download --repo-type "
            f"dataset --local-dir FOLDER {self.place}` where it can, and set "
            "CONFIG_HF_PATH=FOLDER here; CONFIG_DATASET_STDLIB=y and "
            "CONFIG_DATASET_LOCAL=y need no network. A build that broke off is "
            "taken up by `make data`"
        )


def _place(settings: DataSettings, repository: Repository) -> tuple[str, bool]:
    """(repository or absolute path, whether it is a folder)."""
    path = settings.hf_path
    if not path:
        return repository.path, False
    if Path(path).is_dir():
        return str(Path(path).resolve()), True
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and path[0] not in "./":
        return path, False
    raise CorpusError(
        f"CONFIG_HF_PATH={path}: neither a folder nor the name of a repository "
        "(OWNER/NAME)"
    )


def _commit(files: "datasets.data_files.DataFilesList") -> str | None:
    """The commit that the files on the hub were resolved to."""
    found = {version[1] for version in files.origin_metadata if len(version) == 2}
    return found.pop() if len(found) == 1 else None


def _within(file: str, place: str) -> str:
    """A file's name without the folder it lies in."""
    return file.removeprefix(place).lstrip("/")


def _paragraphs(name: str, text: bytes) -> Iterator[Document]:
    for number, part in enumerate(re.split(rb"\n\s*\n", text)):
        if part.strip():
            yield f"{name} paragraph {number}", part
