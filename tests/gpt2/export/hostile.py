"""Exports that lie, by kind, and what each gets; as a program: a row of JSON for each.

Every input is loaded with little more memory than this process has already, so that
one whose sizes are believed ends in a MemoryError.
"""

import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gpt2.export import forged

ROOM = 768 << 20
"""Bytes beyond those of the process: twice what the largest header takes as objects."""
MEGABYTE = "x" * (1 << 20)
WEIGHT = "wte.weight"


@dataclass(frozen=True)
class Case:
    """make(exports, place) puts the input at `place`; `why` is in its one line."""

    id: str
    make: Callable[[Path, Path], Any]
    why: str


def header(id: str, change: Callable[[dict], Any], why: str, size=None) -> Case:
    """Another header of the native file."""

    def make(exports: Path, place: Path) -> None:
        forged.headed(exports / "native", place, change, size)

    return Case(f"safetensors: {id}", make, why)


def tensor(id: str, why: str, **changes: Any) -> Case:
    """Another entry of a tensor."""
    return header(id, lambda head: head[WEIGHT].update(changes), why)


def cut(id: str, change: Callable[[bytes], bytes], why: str, name="native") -> Case:
    """Other bytes."""

    def make(exports: Path, place: Path) -> None:
        place.write_bytes(change((exports / name).read_bytes()))

    return Case(f"{name}: {id}", make, why)


def papers(id: str, why: str, **changes: Any) -> Case:
    """Other papers, with a checksum that fits."""

    def make(exports: Path, place: Path) -> None:
        forged.native(exports / "native", place, changes)

    return Case(f"papers: {id}", make, why)


def symbols(id: str, why: str, **changes: Any) -> Case:
    """Other symbols, with a checksum that fits; ...: none."""

    def make(exports: Path, place: Path) -> None:
        held = {**forged.papers_of(exports / "native")["symbols"], **changes}
        held = {name: value for name, value in held.items() if value is not ...}
        forged.native(exports / "native", place, {"symbols": held})

    return Case(f"symbols: {id}", make, why)


def text(id: str, written: str, why: str) -> Case:
    """Papers of this text."""

    def change(head: dict) -> None:
        head["__metadata__"]["kablate"] = written

    return header(f"papers {id}", change, why)


def tokens(id: str, change: Callable[[dict], Any], why: str) -> Case:
    """Another vocabulary, with a checksum that fits."""

    def make(exports: Path, place: Path) -> None:
        held = json.loads(forged.metadata_of(exports / "native")["tokenizer.json"])
        change(held["model"]["vocab"])
        forged.native(exports / "native", place, tokenizer=json.dumps(held))

    return Case(f"tokenizer: {id}", make, why)


def folder(id: str, change: Callable[[Path], Any], why: str, of: str = "hf") -> Case:
    """A folder of FORMAT=hf or onnx in which something was changed."""

    def make(exports: Path, place: Path) -> None:
        change(forged.copied(exports / of, place))

    return Case(f"{of}: {id}", make, why)


def gguf(id: str, content: Callable[[dict], bytes], why: str) -> Case:
    """A file of FORMAT=gguf with papers of the native one."""

    def make(exports: Path, place: Path) -> None:
        place.write_bytes(content(forged.metadata_of(exports / "native")))

    return Case(f"gguf: {id}", make, why)


def limited(exports: Path) -> None:
    """Print a row for each case, under the limit."""
    from gpt2.export.bundle import ExportError
    from gpt2.export.read import load
    from tests.gpt2.export.hostile_cases import CASES

    for name in ("native", "hf", "onnx"):
        load(exports / name, "cpu")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    for number, case in enumerate(CASES):
        place = exports / f"case-{number}"
        case.make(exports, place)
        began = time.monotonic()
        try:
            load(place, "cpu")
            kind, said = "nothing", ""
        except ExportError as error:
            kind, said = "ExportError", str(error)
        except Exception as error:  # a row of the report: the test fails by it
            kind, said = type(error).__name__, str(error)
        seconds = time.monotonic() - began
        row = {"id": case.id, "kind": kind, "said": said[:2000], "seconds": seconds}
        print(json.dumps(row), flush=True)


def number(size: int, value: int) -> bytes:
    """Little-endian."""
    return struct.pack({4: "<I", 8: "<Q"}[size], value)


if __name__ == "__main__":
    limited(Path(sys.argv[1]))
