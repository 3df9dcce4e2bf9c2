"""The kinds of bad input that are tried on every export, and what each gets."""

import json
import os
import struct

from tests.gpt2.export import forged
from tests.gpt2.export.forged import entry, field
from tests.gpt2.export.hostile import (
    MEGABYTE,
    WEIGHT,
    Case,
    cut,
    folder,
    gguf,
    header,
    papers,
    symbols,
    tensor,
    text,
    tokens,
)

CHANGED = "changed after the export"
UNREADABLE = "cannot be read as safetensors"
LAYERS = "CONFIG_GPT2_LAYERS"
NEEDED = ("dtype", "tokenizer", "symbols", "run", "weights_sha256", "sha256")


def flipped(content: bytes, at: int) -> bytes:
    """One bit of a byte."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def replaced(old: bytes, new: bytes):
    """Bytes that stand there, others of the same length."""

    def change(content: bytes) -> bytes:
        assert content.count(old) and len(old) == len(new)
        return content.replace(old, new, 1)

    return change


SAFETENSORS = [
    cut("empty", lambda b: b"", UNREADABLE),
    cut("seven bytes", lambda b: b[:7], UNREADABLE),
    cut("cut in the header", lambda b: b[:500], "a header of .* in a file of 500"),
    cut("cut in the tensors", lambda b: b[:-9], "end at byte .*, the file at"),
    cut("one byte more", lambda b: b + b"\0", "end at byte .*, the file at"),
    cut("noise", lambda b: bytes(i * 97 % 251 for i in range(9999)), UNREADABLE),
    header("2^63 bytes", lambda h: None, "9223372036854775808 bytes", 1 << 63),
    header("beyond the file", lambda h: None, "bytes in a file", 1 << 24),
    header("40 MiB", lambda h: b" " * (40 << 20), "at most 33554432"),
    header("no UTF-8", lambda h: b"\xff" * 99, "utf-8"),
    header("no JSON", lambda h: b"{" * 99, UNREADABLE),
    header("a list", lambda h: b"[]", "is no object"),
    header("nested 10^5 times", lambda h: b"[" * 10**5, "nested too deeply"),
    header("10^7 values", lambda h: b"[" + b"0," * 10**7, "more than 2,000,000 values"),
    header(
        "2 million objects", lambda h: b'{"":[%s{}]}' % (b"{}," * 999_990), "header"
    ),
    header("a number of 10^6 digits", lambda h: b"9" * 10**6, UNREADABLE),
    header("NaN", lambda h: b'{"x": NaN}', "NaN is no value of JSON"),
    header("a tensor twice", lambda h: b'{"x": {}, "x": {}}', "'x' stands twice"),
    header("no tensors", lambda h: b"{}", "end at byte 0, the file"),
    header("a lone surrogate", lambda h: b'{"\\ud800": {}}', "valid Unicode"),
    header("metadata of numbers", lambda h: h.update(__metadata__={"a": 1}), "text"),
    header("a name of 1 MB", lambda h: h.update({MEGABYTE: {}}), "dtype is absent"),
    tensor("a type unknown", "expected one of F32", dtype="F64"),
    tensor("a field more", "no field of a tensor", more=1),
    tensor("a negative size", "expected a whole number from 1", shape=[-1, 8]),
    tensor("a size of nothing", "expected a whole number from 1", shape=[0, 8]),
    tensor("a size of true", "is true", shape=[True, 8]),
    tensor("a fraction of a size", "is 8.5", shape=[8.5]),
    tensor("10^12 wide", "needs", shape=[10**12]),
    tensor("2^63 times 2^62", "expected a whole number", shape=[1 << 63, 1 << 62]),
    tensor("10^5 dimensions", "100000 dimensions", shape=[1] * 10**5),
    tensor("overlapping", "has .* bytes, its shape", data_offsets=[0, 8]),
    tensor("offsets beyond", "bytes, its shape", data_offsets=[0, (1 << 63) - 1]),
    tensor("offsets backwards", "bytes, its shape", data_offsets=[64, 0]),
    tensor("a negative offset", "expected a whole number", data_offsets=[-8, 0]),
    tensor("three offsets", "3 offsets", data_offsets=[0, 1, 2]),
    header("two on one place", lambda h: h.update(x=dict(h[WEIGHT])), "begins at byte"),
]

UNSEALED = [
    cut("one bit of a weight", lambda b: flipped(b, len(b) - 3), CHANGED),
    cut("another study", replaced(b"gpt2-ratio", b"gpt2-raxio"), CHANGED),
    cut("another seed", replaced(rb"\"seed\": 1", rb"\"seed\": 2"), CHANGED),
    cut(
        "another symbol",
        replaced(rb"RA_ALPHA\": \"0.3", rb"RA_ALPHA\": \"0.4"),
        CHANGED,
    ),
    cut("another tokenizer", replaced(rb"\"-\": 12,", rb"\"-\": 13,"), CHANGED),
]

PAPERS = [
    header("no metadata", lambda h: h.pop("__metadata__") and None, "has no papers"),
    text("no JSON", "{", "papers are not JSON"),
    text("a list", "[]", "name no format"),
    text("nested 10^5 times", "[" * 10**5, "nested too deeply"),
    text("a field twice", '{"format": 1, "format": 2}', "stands twice"),
    text("infinite", '{"format": Infinity}', "Infinity is no value"),
    text("of 1 MB", MEGABYTE, "not JSON"),
    papers("of another program", "name no format", format="else"),
    papers("a newer version", "version 3, this code reads up to 2", version=3),
    papers("version 0", "version is 0", version=0),
    papers("version true", "version is true", version=True),
    papers("version of text", "version is '2'", version="2"),
    papers("version 10^30", "has version 1000", version=10**30),
    papers("a field unknown", "more is no field", more=1),
    papers("a list of symbols", "symbols is a list", symbols=[]),
    papers("a type unknown", "dtype is 'f8'", dtype="f8"),
    papers("a type of GGUF alone", "dtype is 'q8_0'", dtype="q8_0"),
    papers("a tokenizer unknown", "tokenizer is 'word'", tokenizer="word"),
    papers("a digest too short", "weights_sha256 is 'ab'", weights_sha256="ab"),
    papers("weights of another", "does not hold the weights", weights_sha256="0" * 64),
    papers("a checksum of null", "sha256 is null", sha256=None),
    *(papers(f"no {name}", f"{name} is absent", **{name: ...}) for name in NEEDED),
    papers("no version", "version is absent", version=...),
    papers("no format", "name no format", format=...),
    papers("a run of text", "run is 'x'", run="x"),
    papers("a run without commit", "run.commit is absent", run={}),
    papers("seed -1", "run.seed is -1", run={"commit": None, "seed": -1}),
    papers("a study of two lines", "a name", run={"commit": None, "study": "a\nb"}),
]

SYMBOLS = [
    symbols("10^6 layers", f"{LAYERS}=1000000: is out of range", GPT2_LAYERS=10**6),
    symbols("no layers", f"{LAYERS}=0: is out of range", GPT2_LAYERS=0),
    symbols("-1 layers", f"{LAYERS}=-1: is out of range", GPT2_LAYERS=-1),
    symbols("true layers", f"{LAYERS}=y: expected int", GPT2_LAYERS=True),
    symbols("layers of text", f'{LAYERS}="2": expected int', GPT2_LAYERS="2"),
    symbols("2.0 layers", "symbols.GPT2_LAYERS is 2.0", GPT2_LAYERS=2.0),
    symbols("NaN layers", "NaN is no value", GPT2_LAYERS=float("nan")),
    symbols("null layers", "found NoneType", GPT2_LAYERS=None),
    symbols("layers unsaid", f"{LAYERS}.*missing", GPT2_LAYERS=...),
    symbols("256 layers", "tensors for 256 layers", GPT2_LAYERS=256),
    symbols("3 layers", "h.2.norm1.weight is missing", GPT2_LAYERS=3),
    symbols("10^12 wide", "is out of range", GPT2_WIDTH=10**12),
    symbols("2^70 wide", "GPT2_WIDTH is 118", GPT2_WIDTH=2**70),
    symbols("the widest", "wte.weight is", GPT2_WIDTH=49152, MLP_DIM=1 << 20),
    symbols("no heads", "CONFIG_GPT2_HEADS=0: is out", GPT2_HEADS=0),
    symbols("a divisor of 0", "WIDTH_DIVISOR=0: is out", WIDTH_DIVISOR=0),
    symbols("a context of 10^6", "wpe.weight is", GPT2_BLOCK_SIZE=1 << 20),
    symbols("4 million tokens", "wte.weight is", GPT2_VOCAB_SIZE=1 << 22),
    symbols("a fraction of infinity", "is not finite", RA_ALPHA="inf"),
    symbols("a flag of 1", "CONFIG_RA=1: expected bool", RA=1),
    symbols("two members of a choice", "exactly one of", MLP_SWIGLU=True),
    symbols("one that is unknown", "no such symbol", QUANTUM_MIXER=True),
    symbols("a name in lower case", "a symbol", quantum=False),
    symbols("a list", "symbols.RA_ALPHA is a list", RA_ALPHA=["0.3"]),
    symbols("text of 1 MB", "has 1048576 characters", RA_ALPHA=MEGABYTE),
    symbols(
        "6000 mixers", "needs CONFIG_GPT2_LAYERS", MIXER_LAYERS="attention " * 6000
    ),
    symbols("10^5 of them", "at most 10000", **{f"X{i}": 1 for i in range(10**5)}),
]

TOKENIZERS = [
    tokens("a token of nothing", lambda v: v.update({"": 5}), "'' is no token"),
    tokens(
        "a strange character", lambda v: v.update({"東": 5}), "is no token of bytes"
    ),
    tokens("a token true", lambda v: v.update(a=True), "expected a whole number"),
    tokens("a token 5.0", lambda v: v.update(a=5.0), "expected a whole number"),
    tokens("a token -1", lambda v: v.update(a=-1), "expected a whole number"),
    tokens("a number twice", lambda v: v.update(a=5), "the ranks are not"),
    tokens(
        "a byte lost", lambda v: v.update(zz=v.pop("a")), "no token for the byte 0x61"
    ),
    tokens("a token of 1 MB", lambda v: v.update({MEGABYTE: 10**6}), "ranks are not"),
    tokens(
        "more than the model has",
        lambda v: v.update({f"zz{i}": len(v) + i for i in range(200)}),
        "its tokenizer has .* tokens, its model",
    ),
    tokens("none", lambda v: v.clear(), "no token for the byte"),
    Case(
        "tokenizer: a list",
        lambda e, p: forged.native(e / "native", p, tokenizer="[]"),
        "expected an object",
    ),
    header(
        "no tokenizer",
        lambda h: h["__metadata__"].pop("tokenizer.json") and None,
        CHANGED,
    ),
]


def written(name: str, content: bytes):
    """Other content of a file."""
    return lambda place: (place / name).write_bytes(content)


def instead(name: str, make):
    """Something else in a file's place."""

    def change(place) -> None:
        (place / name).unlink()
        make(place / name)

    return change


def more(name: str):
    """A byte more."""
    return lambda p: (p / name).write_bytes((p / name).read_bytes() + b"\n")


def sealed(**changes):
    """Papers with other fields, sealed alone."""

    def change(place) -> None:
        path = place / "kablate.json"
        held = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps(held))
        forged.seal(path, held["sha256"])

    return change


FILES = (
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
)
FOLDERS = [
    *(folder(f"{name} changed", more(name), "kablate.json names") for name in FILES),
    *(folder(f"{n} lost", lambda p, n=n: (p / n).unlink(), n) for n in FILES),
    folder("papers changed", more("kablate.json"), CHANGED),
    folder("papers lost", lambda p: (p / "kablate.json").unlink(), "has no papers"),
    folder("papers are a folder", instead("kablate.json", os.mkdir), "is a directory"),
    folder("papers are a pipe", instead("kablate.json", os.mkfifo), "is a pipe"),
    folder(
        "papers are a link into nothing",
        instead("kablate.json", lambda path: os.symlink("nowhere", path)),
        "is a link to nowhere",
    ),
    folder("papers of 17 MiB", written("kablate.json", b" " * (17 << 20)), "16 MiB"),
    folder("weights are a pipe", instead("model.safetensors", os.mkfifo), "is a pipe"),
    folder(
        "weights are a folder", instead("model.safetensors", os.mkdir), "a directory"
    ),
    folder(
        "weights are endless",
        instead("model.safetensors", lambda path: os.symlink("/dev/zero", path)),
        "is a device",
    ),
    folder("a file more", written("pytorch_model.bin", b"x"), "did not leave with"),
    folder("a folder more", lambda p: (p / "more").mkdir(), "did not leave with"),
    folder("a file's name of two lines", written("a\nb", b"x"), r"a\\nb did not leave"),
    folder("no list of files", sealed(files={}), "did not leave with"),
    folder("a type of GGUF alone", sealed(dtype="q8_0"), "dtype is 'q8_0'"),
    folder("a file above", sealed(files={"../x": "0" * 64}), "a file of the folder"),
    folder("a file of null", sealed(files={"x": None}), "files.x is null"),
    folder(
        "10^5 files", sealed(files={f"x{i}": "" for i in range(10**5)}), "at most 1000"
    ),
]

GRAPHS = ("forward.onnx", "decode.onnx", "model.safetensors", "tokenizer.json")
UNCOVERED = "kablate.json names other files than decode.onnx, forward.onnx, "


def resealed(change, **papers):
    """A change, after which the papers name what lies there."""

    def make(place) -> None:
        change(place)
        forged.resealed(place, **papers)

    return make


def of_version_1(place) -> None:
    """Papers that name no checksum and no file."""
    path = place / "kablate.json"
    held = {**json.loads(path.read_text()), "version": 1}
    del held["sha256"], held["files"]
    path.write_text(json.dumps(held))


def graph_folder(id: str, change, why: str) -> Case:
    """A folder of FORMAT=onnx in which something was changed."""
    return folder(id, change, why, of="onnx")


GRAPH_FOLDERS = [
    *(graph_folder(f"{n} changed", more(n), "kablate.json names") for n in GRAPHS),
    *(graph_folder(f"{n} lost", lambda p, n=n: (p / n).unlink(), n) for n in GRAPHS),
    graph_folder("papers changed", more("kablate.json"), CHANGED),
    graph_folder("papers lost", lambda p: (p / "kablate.json").unlink(), "no papers"),
    graph_folder("papers of version 1", of_version_1, UNCOVERED),
    graph_folder("a file more", written("more.onnx", b"x"), "did not leave with"),
    graph_folder(
        "without decode.onnx",
        resealed(lambda p: (p / "decode.onnx").unlink()),
        UNCOVERED,
    ),
    graph_folder("with another graph", resealed(written("x.onnx", b"x")), UNCOVERED),
    folder("with a graph", resealed(written("forward.onnx", b"x")), UNCOVERED),
    graph_folder(
        "weights longer",
        resealed(more("model.safetensors")),
        "end at byte .*, the file",
    ),
    graph_folder(
        "symbols of another model",
        resealed(lambda p: None, symbols={}),
        "its papers|missing",
    ),
]


def blocks(id: str, why: str, **changes: int) -> Case:
    """A file of GGUF in blocks, with a checksum that fits."""

    def make(exports, place) -> None:
        forged.blocks(exports / "hf", place, **changes)

    return Case(f"gguf: {id}", make, why)


GGUF_FIELDS = [field("general.architecture", 8, forged.text("gpt2"))]
BEYOND = "beyond its end"


def with_papers(metadata: dict[str, str]) -> bytes:
    """A file with the papers of the native one."""
    return forged.gguf([field("kablate.papers", 8, forged.text(metadata["kablate"]))])


GGUFS = [
    gguf("its magic alone", lambda m: b"GGUF", BEYOND),
    gguf("version 9", lambda m: forged.gguf([], version=9), "version 9"),
    gguf(
        "2^63 fields", lambda m: forged.gguf(GGUF_FIELDS, field_count=1 << 63), BEYOND
    ),
    gguf(
        "2^63 tensors", lambda m: forged.gguf(GGUF_FIELDS, tensor_count=1 << 63), BEYOND
    ),
    gguf(
        "a name of 2^63 bytes",
        lambda m: forged.gguf([forged.text("", 1 << 63)]),
        BEYOND,
    ),
    gguf(
        "a text of 2^63 bytes",
        lambda m: forged.gguf([field("a", 8, forged.text("", 1 << 63))]),
        BEYOND,
    ),
    gguf(
        "a list of 2^63 numbers",
        lambda m: forged.gguf([field("a", 9, struct.pack("<IQ", 4, 1 << 63))]),
        BEYOND,
    ),
    gguf(
        "a list of 2^60 texts",
        lambda m: forged.gguf([field("a", 9, struct.pack("<IQ", 8, 1 << 60))]),
        BEYOND,
    ),
    gguf(
        "a list of lists",
        lambda m: forged.gguf([field("a", 9, struct.pack("<IQ", 9, 1) * 99)]),
        "a list of the type 9",
    ),
    gguf("a type unknown", lambda m: forged.gguf([field("a", 99, b"")]), "the type 99"),
    gguf(
        "a name of no UTF-8",
        lambda m: forged.gguf([field(b"\xff", 4, b"\0" * 4)]),
        "utf-8",
    ),
    gguf("a field twice", lambda m: forged.gguf(GGUF_FIELDS * 2), "stands twice"),
    gguf(
        "an alignment of 0",
        lambda m: forged.gguf([field("general.alignment", 4, b"\0" * 4)]),
        "general.alignment is 0",
    ),
    gguf(
        "10^9 dimensions",
        lambda m: forged.gguf([], [forged.text("a") + b"\xff" * 40]),
        "dimensions",
    ),
    gguf(
        "a tensor twice",
        lambda m: forged.gguf([], [entry("a", [2]), entry("a", [2])]),
        "stands twice",
    ),
    gguf("no papers", lambda m: forged.gguf(GGUF_FIELDS), "has no papers"),
    gguf(
        "papers of a number",
        lambda m: forged.gguf([field("kablate.papers", 4, b"\1\0\0\0")]),
        "has no papers",
    ),
    gguf("papers of another file", with_papers, CHANGED),
    blocks("blocks of zeros", "does not hold the weights"),
    blocks("blocks that end early", "ends at byte .*, the file at", lost=32),
    blocks("blocks of another type", "has the type 12, .* writes", kind=12),
]

CASES = [
    *SAFETENSORS,
    *UNSEALED,
    *PAPERS,
    *SYMBOLS,
    *TOKENIZERS,
    *FOLDERS,
    *GRAPH_FOLDERS,
    *GGUFS,
]
