"""The reader in C of docs/native-format.md, and what else the page says, held against
what Python reads.
"""

import functools
import json
import re
import resource
import shutil
import subprocess

import pytest
import torch
from safetensors import safe_open

from gpt2.export import native
from gpt2.export.bundle import DTYPES
from tests.conftest import ROOT
from tests.gpt2.export.hostile_cases import SAFETENSORS
from tests.gpt2.parcels import bpe, parcel, randomised

PAGE = (ROOT / "docs" / "native-format.md").read_text()
NAME = "gpt2-ratio-ablation/05-ra"
STRICT = ("-Wall", "-Wextra", "-Werror", "-std=c11")
CHECKED = ("-g", "-fsanitize=undefined", "-fno-sanitize-recover=all")
ROOM = 100 << 20

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")


def block(language):
    """The page's block of code in a language."""
    return re.search(f"```{language}\n(.*?)```", PAGE, re.S)[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The page's reader, compiled; what it does with words."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "read_native.c").write_text(block("c"))
    words = [
        "cc",
        "-O1",
        *STRICT,
        *CHECKED,
        "-o",
        "read_native",
        "read_native.c",
    ]
    made = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (ROOM, ROOM))

    def run(*words):
        command = [str(folder / "read_native"), *map(str, words)]
        options = {"capture_output": True, "text": True, "preexec_fn": limit}
        return subprocess.run(command, timeout=20, errors="replace", **options)

    return run


def fnv(content):
    """FNV-1a of 64 bits."""
    found = 0xCBF29CE484222325
    for byte in content:
        found = (found ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return f"{found:016x}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_reads_what_python_reads(reader, tmp_path, dtype):
    native.write(tmp_path / "m", parcel(NAME, randomised(NAME, bpe()), dtype, True))
    lines = reader(tmp_path / "m").stdout.splitlines()
    with safe_open(tmp_path / "m", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert {line.split(" ")[0] for line in lines} == set(tensors)
    small = [name for name, tensor in tensors.items() if tensor.numel() < 5000]
    for name, shape, digest in (line.split(" ") for line in lines):
        assert json.loads(shape) == list(tensors[name].shape)
        if name in small:
            raw = tensors[name].flatten().view(torch.uint8).numpy().tobytes()
            assert digest == fnv(raw)
    name = next(name for name in small if tensors[name].dim() == 1)
    values = [float(line) for line in reader(tmp_path / "m", name).stdout.splitlines()]
    assert torch.equal(torch.tensor(values), tensors[name].float())


def test_the_page_names_the_tensors(tmp_path):
    """Of a GPT-2 of ours: each, with its shape."""
    model = randomised("gpt2-124m").model
    s = model.settings
    sizes = {"E": s.embed, "F": s.mlp_dim, "R": s.vocab_rows, "context": s.block_size}
    rows = re.findall(r"^\| `([a-z]\S*\.weight)`.*? \| (.*?) \|", PAGE, re.M)
    state = {k: list(v.shape) for k, v in model.state_dict().items() if "bias" not in k}
    told = {}
    for name, shape in rows:
        parts = [part.replace("3E", "E") for part in shape.split(" × ")]
        wide = [
            sizes[p] * (3 if "3E" in q else 1)
            for p, q in zip(parts, shape.split(" × "))
        ]
        told |= {name.replace("h.i.", f"h.{i}."): wide for i in range(s.depth)}
    assert told == state


def test_the_checksum_in_a_shell(tmp_path):
    native.write(tmp_path / "m", parcel(NAME, randomised(NAME, bpe()), "bf16", True))
    words = ["sh", "-c", block("sh"), "sh", str(tmp_path / "m")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    computed, named = (line.split()[0] for line in done.stdout.splitlines())
    assert computed == named and len(named) == 64


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    native.write(folder / "native", parcel(NAME, randomised(NAME, bpe()), "fp32", True))
    return folder


@pytest.mark.parametrize("case", SAFETENSORS, ids=lambda case: case.id)
def test_it_believes_no_header(reader, exports, tmp_path, case):
    case.make(exports, tmp_path / "m")
    done = reader(tmp_path / "m")
    assert done.returncode == 1, done.stdout[-500:] + done.stderr[-500:]
    assert re.fullmatch("error: .*\n", done.stderr)
