"""Which files of a local corpus are read, and as what.

A file's name, in either case, says what it holds: JSON lines (one document a line),
parquet (one a row) or text (one document). A name that is known for something else
is refused, and so are the papers of a data set (README, LICENSE, dataset_infos.json …)
beside its records: packed as text they would be trained on in silence.
CONFIG_LOCAL_FILES says otherwise, by patterns.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gpt2.data.sources.expand import ENGINES
from gpt2.data.sources.files import CorpusError, hidden, printable, read, walk
from gpt2.settings.run import FILE_KINDS

JSONL, PARQUET, TEXT, SKIP = FILE_KINDS
Rules = Sequence[tuple[str, str]]

RECORDS = {
    **dict.fromkeys((".jsonl", ".jsonlines", ".ndjson"), JSONL),
    **dict.fromkeys((".parquet", ".parq", ".pq"), PARQUET),
}
# Names of what is probably no text, or not text alone.
TABLES = ".csv .tsv .json .arrow .feather .ipc .avro .orc .msgpack .xls .xlsx .ods"
ARRAYS = ".bin .npy .npz .h5 .hdf5 .mat .pkl .pickle .pt .pth .safetensors .gguf .onnx"
ARCHIVES = ".gz .zst .bz2 .xz .lz4 .zip .tar .tgz .7z .rar .jar .whl .deb .rpm .iso"
DOCUMENTS = ".pdf .ps .doc .docx .odt .rtf .ppt .pptx .odp .epub .mobi .djvu"
MEDIA = (
    ".png .jpg .jpeg .gif .webp .bmp .ico .tif .tiff .mp3 .mp4 .m4a .wav .ogg .flac "
    ".avi .mov .mkv .webm .ttf .otf .woff .woff2"
)
PROGRAMS = ".so .o .a .dll .exe .class .pyc .pyo .wasm .db .sqlite .sqlite3 .tfrecord"
FOREIGN = frozenset(
    " ".join((TABLES, ARRAYS, ARCHIVES, DOCUMENTS, MEDIA, PROGRAMS)).split()
)
# What lies beside the records of a data set and is none of its documents.
PAPERS = (
    *("readme*", "license*", "licence*", "copying*", "notice*", "citation*"),
    *("changelog*", "authors*", "*sums", "*sums.txt", "*.md5", "*.sha256"),
)


@dataclass(frozen=True)
class CorpusFile:
    """A file to read. name: its path below the corpus; kind: of FILE_KINDS, not skip."""

    path: Path
    name: str
    kind: str


@dataclass(frozen=True)
class CorpusFiles:
    """The files of one place in the order of reading.

    refused: (name, message) of each that is of no known kind. skipped: how many
    files and folders CONFIG_LOCAL_FILES leaves out.
    """

    files: list[CorpusFile]
    refused: list[tuple[str, str]]
    skipped: int

    def summary(self) -> str:
        """What is read, as "3 files as jsonl (.jsonl 2, .ndjson 1), 1 left out"."""
        parts = []
        for kind in FILE_KINDS:
            names = [file.name for file in self.files if file.kind == kind]
            if names:
                counts = Counter(_suffix(name) or "no suffix" for name in names)
                common = counts.most_common(8)
                each = ", ".join(f"{printable(s)} {n:,}" for s, n in common)
                more = ", …" if len(counts) > 8 else ""
                files = "file" if len(names) == 1 else "files"
                parts.append(f"{len(names):,} {files} as {kind} ({each}{more})")
        if self.skipped:
            parts.append(f"{self.skipped:,} left out by CONFIG_LOCAL_FILES")
        return ", ".join(parts) or "no file"


def corpus_files(root: Path, rules: Rules, shuffled: bool) -> CorpusFiles:
    """The files at `root`, a file or a folder.

    rules: (pattern, kind), the first that fits a file decides before its name
    does. A pattern with a slash is matched against the path below the corpus,
    any other against the last part of it; * crosses slashes. "@FILE" fits the
    paths that FILE lists, one a line. A folder that is skipped is not entered.
    shuffled: in the order of the sha256 of their paths, else of the paths
    themselves. Raises CorpusError for a folder that cannot be read.
    """
    listed = {pattern: _listed(pattern) for pattern, _ in rules if pattern[0] == "@"}
    skipped: list[Path] = []

    def ruled(name: str) -> str | None:
        for pattern, kind in rules:
            part = name if "/" in pattern else name.rpartition("/")[2]
            found = listed.get(pattern)
            if name in found if found is not None else fnmatchcase(part, pattern):
                return kind
        return None

    def skip(path: Path) -> bool:
        if hidden(path):
            return True
        if ruled(path.relative_to(root).as_posix()) != SKIP:
            return False
        skipped.append(path)
        return True

    if root.is_dir():
        named = [(path, path.relative_to(root).as_posix()) for path in walk(root, skip)]
    else:
        named = [(root, root.name)]
    if shuffled:
        named.sort(key=lambda file: hashlib.sha256(os.fsencode(file[1])).digest())
    kinds = [ruled(name) or kind_of(name) for _, name in named]
    records = any(kind in (JSONL, PARQUET) for kind in kinds)
    files, refused = [], []
    for (path, name), kind in zip(named, kinds):
        if kind == TEXT and records and ruled(name) is None and _is_paper(name):
            why = "beside records it is probably no document"
            refused.append((name, f"{path}: {why}"))
        elif kind is None:
            refused.append((name, f"{path}: {_refusal(name)}"))
        elif kind == SKIP:  # a place that is one file
            skipped.append(path)
        else:
            files.append(CorpusFile(path, name, kind))
    return CorpusFiles(files, refused, len(skipped))


def kind_of(name: str) -> str | None:
    """What a file of this name holds, None for what is probably not text."""
    name = name.lower()
    stem, suffix = os.path.splitext(name)
    record = RECORDS.get(_suffix(stem)) if suffix in ENGINES else None
    if record == JSONL:
        return record
    if suffix in RECORDS:
        return RECORDS[suffix]
    return None if suffix in FOREIGN else TEXT


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_paper(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return any(fnmatchcase(last, pattern) for pattern in PAPERS)


def _refusal(name: str) -> str:
    if _suffix(name) == ".json" or _suffix(os.path.splitext(name)[0]) == ".json":
        return (
            f"{_suffix(name)} is no kind that is read; with one object a line it is "
            "jsonl, as one document text"
        )
    return f"{_suffix(name)} is probably not text"


def _listed(pattern: str) -> frozenset[str]:
    """The paths that a "@FILE" names."""
    text = os.fsdecode(read(Path(pattern[1:])))
    return frozenset(line for line in text.split("\n") if line)


class UnusableFiles(CorpusError):
    """Files that cannot be packed, all of them. paths: below the corpus."""

    SHOWN = 20

    def __init__(self, where: str, reasons: Sequence[tuple[str, str]]):
        """where: the corpus; reasons: (path below it, what is wrong)."""
        self.paths = [name for name, _ in reasons]
        count = f"{len(reasons):,} files" if len(reasons) > 1 else "a file"
        lines = [f"{where}: {count} cannot be used"]
        lines += [f"  {why}" for _, why in reasons[: self.SHOWN]]
        if len(reasons) > self.SHOWN:
            lines.append(f"  … and {len(reasons) - self.SHOWN:,} more")
        kinds = ", ".join(FILE_KINDS[:-1])
        lines.append(
            f'CONFIG_LOCAL_FILES="PATTERN:KIND,…" takes files as {kinds}, or leaves '
            "them out (skip); docs/data.md"
        )
        super().__init__("\n".join(lines))
