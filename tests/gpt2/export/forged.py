"""Exports as somebody else would write them: changed, and sealed again."""

import json
import struct
from pathlib import Path
from typing import Any, Callable

from safetensors import safe_open
from safetensors.torch import save_file

from gpt2.export import native as ours
from gpt2.export import onnx as graphs
from gpt2.export.bundle import Parcel, in_blocks, settings_of
from gpt2.export.gguf import PAPERS as GGUF_PAPERS, TOKENIZER
from gpt2.export.names import DIALECTS, give
from gpt2.export.seal import PAPERS, seal, seal_folder
from gpt2.export.tokenizer import describe, restore_fitting
from gpt2.model.costs import meta_model


def native(
    file: Path,
    place: Path,
    papers: dict[str, Any] | None = None,
    tensors: Callable[[dict], Any] = lambda tensors: None,
    tokenizer: str | None = None,
) -> Path:
    """A native file with other papers (...: without that field), tensors or tokenizer,
    its checksum right.
    """
    with safe_open(file, "pt") as opened:
        held = {name: opened.get_tensor(name) for name in opened.keys()}
        metadata = dict(opened.metadata())
    tensors(held)
    written = {**json.loads(metadata["kablate"]), **(papers or {})}
    written = {name: value for name, value in written.items() if value is not ...}
    metadata["kablate"] = json.dumps(written)
    if tokenizer is not None:
        metadata["tokenizer.json"] = tokenizer
    save_file(held, place, metadata)
    if type(written.get("sha256")) is str:
        seal(place, written["sha256"])
    return place


def headed(file: Path, place: Path, change: Callable[[dict], Any], size=None) -> Path:
    """A native file with another header: `change` alters it, or gives its bytes."""
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    given = change(header)
    head = (
        given
        if type(given) is bytes
        else json.dumps(header, separators=(",", ":")).encode()
    )
    size = len(head) if size is None else size
    place.write_bytes(struct.pack("<Q", size) + head + content[8 + length :])
    return place


def copied(folder: Path, place: Path) -> Path:
    """A copy of a folder."""
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def onnx(place: Path, parcel: Parcel) -> Path:
    """A folder of FORMAT=onnx whose graphs are bytes alone: no reading of ours looks
    into them.
    """
    place.mkdir()
    save_file(ours.tensors(parcel), place / graphs.WEIGHTS)
    (place / graphs.TOKENIZER).write_text(describe(parcel.tokenizer))
    for name in (graphs.FORWARD, graphs.DECODE):
        (place / name).write_bytes(name.encode())
    seal_folder(place, parcel.papers)
    return place


def resealed(folder: Path, **papers: Any) -> Path:
    """The folder with papers that name what lies in it, and other fields."""
    held = json.loads((folder / PAPERS).read_text())
    (folder / PAPERS).unlink()
    held.pop("files", None)
    seal_folder(folder, {**held, **papers})
    return folder


def metadata_of(file: Path) -> dict[str, str]:
    """The metadata of a native file."""
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def papers_of(file: Path) -> dict[str, Any]:
    """The papers of a native file."""
    return json.loads(metadata_of(file)["kablate"])


def text(content: str | bytes, length: int | None = None) -> bytes:
    """A text of GGUF, which may say that it is longer."""
    content = content if isinstance(content, bytes) else content.encode()
    return struct.pack("<Q", len(content) if length is None else length) + content


def gguf(fields: list[bytes], tensors: list[bytes] = [], **claims: int) -> bytes:
    """A file of GGUF, which may claim another `version`, `tensor_count`, `field_count`."""
    told = {"version": 3, "tensor_count": len(tensors), "field_count": len(fields)}
    head = struct.pack("<4sIQQ", b"GGUF", *{**told, **claims}.values())
    return head + b"".join(fields) + b"".join(tensors)


def field(name: str | bytes, kind: int, value: bytes) -> bytes:
    """A field of GGUF; 8 is text, 9 a list."""
    return text(name) + struct.pack("<I", kind) + value


def entry(name: str, sizes: list[int], kind: int = 0, offset: int = 0) -> bytes:
    """A tensor of GGUF's table."""
    head = text(name) + struct.pack("<I", len(sizes))
    return head + struct.pack(f"<{len(sizes)}QIQ", *sizes, kind, offset)


def blocks(folder: Path, place: Path, kind: int = 8, lost: int = 0) -> Path:
    """A file of GGUF for the GPT-2 of a folder of FORMAT=hf, every value 0: matrices of
    that type, 34 bytes for 32 values; the last of them has lost so many. Its checksum is
    right.
    """
    papers = {**json.loads((folder / PAPERS).read_text()), "dtype": "q8_0"}
    del papers["files"]
    settings = settings_of(folder, papers, 1 << 20)
    tokenizer = (folder / "tokenizer.json").read_text()
    vocabulary = restore_fitting(folder, papers, settings, tokenizer).vocab_size
    shapes = give(meta_model(settings), DIALECTS["gguf", "gpt2"], vocabulary)
    table, size = [], 0
    for name, each in sorted(shapes.items(), key=lambda item: in_blocks(*item)):
        matrix = in_blocks(name, each)
        table.append(entry(name, [*each.shape][::-1], kind if matrix else 0, size))
        size += each.numel() // 32 * 34 if matrix else 4 * each.numel()
        size += -size % 32
    texts = [(GGUF_PAPERS, json.dumps(papers)), (TOKENIZER, tokenizer)]
    head = gguf([field(name, 8, text(each)) for name, each in texts], table)
    place.write_bytes(head + bytes(-len(head) % 32 + size - lost))
    seal(place, papers["sha256"])
    return place
