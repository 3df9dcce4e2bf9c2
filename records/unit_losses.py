"""last_evaluation.bin: what each document or window of the last evaluation cost.

     0   8  magic "KABTEXT1"
     8   4  unit, u32: 1 document, 2 window
    12   4  U, units, u32
    16  4U  tokens scored in each unit, u32, at least 1
    …   4U  sum of their losses in nats, f32
    …   32  sha256 of all before

Little-endian, in the order of the text. summary.json names the sha256 of the whole
file, so a file of another attempt is not taken for that of the run.
"""

import hashlib
import math
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from records import atomic
from records.files import RecordError, read_bytes

MAGIC = b"KABTEXT1"
HEAD = struct.Struct("<8sII")
DIGEST = 32
UNITS = {1: "document", 2: "window"}


@dataclass(frozen=True)
class UnitLosses:
    """unit: "document" or "window"; tokens and nats of each, in the order of the text."""

    unit: str
    tokens: Sequence[int]
    nats: Sequence[float]


def write(path: Path, losses: UnitLosses) -> str:
    """Replace the file; the sha256 of its content, for summary.json."""
    number = next(key for key, unit in UNITS.items() if unit == losses.unit)
    body = HEAD.pack(MAGIC, number, len(losses.tokens))
    body += _little(array("I", losses.tokens)) + _little(array("f", losses.nats))
    content = body + hashlib.sha256(body).digest()
    atomic.write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read(path: Path, sha256: str) -> UnitLosses:
    """What `write` wrote. Raises FileNotFoundError, and RecordError for anything else
    and for a content that has not that sha256.
    """
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RecordError(path, f"is not the file that summary.json names ({sha256})")
    if len(content) < HEAD.size + DIGEST:
        raise RecordError(path, f"has {len(content)} bytes, too few")
    magic, number, count = HEAD.unpack_from(content)
    if magic != MAGIC or number not in UNITS:
        raise RecordError(path, f"begins with {content[: HEAD.size]!r}")
    if len(content) != HEAD.size + 8 * count + DIGEST or not count:
        raise RecordError(path, f"has {len(content)} bytes for {count} units")
    middle = HEAD.size + 4 * count
    tokens = _native("I", content[HEAD.size : middle])
    nats = _native("f", content[middle:-DIGEST])
    losses = UnitLosses(UNITS[number], tokens, nats)
    if not all(losses.tokens) or not all(map(math.isfinite, losses.nats)):
        raise RecordError(path, "holds a unit without tokens or without a finite loss")
    return losses


def _little(values: array) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _native(code: str, content: bytes) -> array:
    values = array(code, content)
    if sys.byteorder == "big":
        values.byteswap()
    return values
