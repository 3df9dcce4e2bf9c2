"""make export: from a finished run to a name, all or nothing; and back to text."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from gpt2.export import huggingface, read, remote_code, write
from gpt2.export.bundle import ExportError
from gpt2.generation import generate
from gpt2.generation.generate import GenerateError, Request
from gpt2.training.cell import execute
from tests.conftest import ROOT
from tests.gpt2.export.forged import native as rewritten
from tests.gpt2.export.forged import papers_of
from tests.gpt2.parcels import randomised, parcel

REFUSED = [
    ("generate", {"RUN": "forged"}, "CONFIG_GPT2_LAYERS=1000000: is out of range"),
    ("eval", {"RUN": "whole", "words": ["TEXT=README.md"]}, "is no run's directory"),
]
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(make_cell, corpus, tmp_path_factory):
    """A trained GPT-2, a model that modeling_kablate.py computes, one without a home."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "plain": make_cell(folder / "plain"),
        "foreign": make_cell(folder / "foreign", RA="y", MLA="y"),
        "homeless": make_cell(folder / "homeless", MLA="y", MLP_LATENT_RECIP="y"),
    }
    for directory in made.values():
        assert execute(directory, corpus) == 0
    return made


def command(script, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def text_of(path, prompt="line 7"):
    """Greedy text of a run or an export."""
    pieces = []
    request = Request(prompt, 9, generate.Sampling(0.0))
    done = generate.generate(read.load(path, "cpu"), request, pieces.append)
    return "".join(pieces), done.tokens


@pytest.mark.parametrize("target", ["hf", "native"])
def test_an_export_speaks_as_its_run(runs, tmp_path, target):
    out = tmp_path / "deeper" / "out"
    lines = write.deliver(runs["plain"], target, "fp32", out)
    assert text_of(out) == text_of(runs["plain"])
    assert lines[0].startswith(f"{out}: ") and "parameters in fp32" in lines[0]
    assert "read back by kablate: the same logits at 32 positions" in lines[1]
    assert any("by transformers" in line for line in lines) == (target == "hf")
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_model_without_a_home_leaves_natively_alone(runs, tmp_path):
    run = runs["homeless"]
    with pytest.raises(ExportError, match="\n  CONFIG_MLP_LATENT_RECIP: "):
        write.deliver(run, "hf", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())
    write.deliver(run, "native", "fp32", tmp_path / "out")
    assert text_of(tmp_path / "out") == text_of(run)


def test_a_model_leaves_with_the_file_that_computes_it(runs, tmp_path):
    """The file's checksum is printed, and stands in the papers."""
    out = tmp_path / "out"
    lines = write.deliver(runs["foreign"], "hf", "fp32", out)
    code = (out / "modeling_kablate.py").read_bytes()
    assert code == remote_code.source()
    found = hashlib.sha256(code).hexdigest()
    warning = (
        "trust_remote_code=True, which this model needs, runs its modeling_kablate.py"
    )
    assert f"{warning}, sha256 {found}" in lines
    assert any("without this project: logits (up to " in line for line in lines)
    papers = json.loads((out / "kablate.json").read_text())
    assert papers["files"]["modeling_kablate.py"] == found
    assert text_of(out) == text_of(runs["foreign"])
    (out / "modeling_kablate.py").write_bytes(code + b"\n")
    with pytest.raises(ExportError, match="modeling_kablate.py has the sha256"):
        read.load(out, "cpu")


@pytest.mark.parametrize(
    "why, old, new",
    [
        ("the logits differ by", "alpha * F.pad", "1.01 * alpha * F.pad"),
        pytest.param(
            "through the cache differs by",
            "q_BnHD, config.ra_band)",
            "q_BnHD, 1)",
            marks=SLOW,
        ),
        pytest.param(
            "cannot compute it: .*gpt2", "import math", "import math, gpt2", marks=SLOW
        ),
        pytest.param(
            "h.0.more is missing",
            "self.mlp = Mlp(",
            "self.more = nn.Parameter(torch.ones(1))\n        self.mlp = Mlp(",
            marks=SLOW,
        ),
    ],
)
def test_a_file_that_computes_something_else_does_not_leave(
    runs, tmp_path, monkeypatch, why, old, new
):
    """What it computes is compared where this project is not, PYTHONPATH or not."""
    text = remote_code.source().decode()
    assert text.count(old) == 1
    monkeypatch.setattr(remote_code, "source", lambda: text.replace(old, new).encode())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(ExportError, match=why):
        write.deliver(runs["foreign"], "hf", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_transformers_it_does_not_leave(runs, tmp_path, monkeypatch):
    """GPT-2 does, and says that it was not compared."""

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(write, "version", absent)
    with pytest.raises(ExportError, match="transformers is not installed: .*export"):
        write.deliver(runs["foreign"], "hf", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())
    lines = write.deliver(runs["plain"], "hf", "fp32", tmp_path / "out")
    assert any(line.startswith("not read back by transformers") for line in lines)


def test_the_papers_say_where_it_comes_from(runs, tmp_path):
    write.deliver(runs["plain"], "hf", "fp32", tmp_path / "out")
    papers = json.loads((tmp_path / "out" / "kablate.json").read_text())
    assert papers["run"]["hash"] == "0" * 64
    assert papers["symbols"]["MLP_DIM"] == 64 and "JOBS" not in papers["symbols"]


def test_nothing_is_overwritten(runs, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(ExportError, match="out exists: move it away"):
        write.deliver(runs["plain"], "native", "fp32", out)
    with (
        pytest.raises(ExportError, match="exists"),
        write.staged(tmp_path / "b") as b,
    ):
        b.write_text("late")
        (tmp_path / "b").write_text("earlier")
    assert out.read_text() == "mine" and (tmp_path / "b").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "out"]


def test_what_computes_something_else_gets_no_name(runs, tmp_path, monkeypatch):
    """A slip in a table that both ways share is seen by transformers alone."""
    _, right = huggingface.architecture, huggingface.DIALECTS["hf", "gpt2"]
    names = {
        **right.names,
        "norm1": right.names["norm2"],
        "norm2": right.names["norm1"],
    }
    wrong = type(right)(names, right.transposed, right.biased)
    monkeypatch.setitem(huggingface.DIALECTS, ("hf", "gpt2"), wrong)
    with pytest.raises(ExportError, match="in transformers .* the logits differ by"):
        write.deliver(runs["plain"], "hf", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_does_not_come_back_gets_no_name(runs, tmp_path, monkeypatch):
    honest = huggingface.read

    def careless(place):
        found = honest(place)
        found.model.wte.weight.data[5] += 1e-3
        return found

    monkeypatch.setattr(huggingface, "read", careless)
    with pytest.raises(ExportError, match="read back by kablate, the logits are not"):
        write.deliver(runs["plain"], "hf", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_transformers_it_says_so(runs, tmp_path, monkeypatch):
    def version(name):
        raise write.PackageNotFoundError(name)

    monkeypatch.setattr(write, "version", version)
    lines = write.deliver(runs["plain"], "hf", "fp32", tmp_path / "out")
    assert "not read back by transformers" in lines[2]
    assert "requirements-export.txt" in lines[2]


@pytest.mark.parametrize("name, target", [("safetensors", "hf"), ("gguf", "gguf")])
def test_an_absent_extra_is_named(runs, tmp_path, monkeypatch, name, target):
    monkeypatch.setitem(sys.modules, name, None)
    why = f"{name} is not installed: .*pip install -r requirements-export.txt"
    with pytest.raises(ExportError, match=why):
        write.deliver(runs["plain"], target, "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_the_export_changed_is_measured():
    """The rounding, and the rows that stay behind: here a row that says much."""
    model = randomised("gpt2-124m")
    packed = parcel("gpt2-124m", model, "bf16")
    rounding, behind = write.differences(model, packed, whole=False)
    batch = write.probe(model)
    with torch.no_grad():
        wanted = model.model(batch)
        apart = (packed.model(batch) - wanted)[..., :257].abs().max().item()
        held = wanted.softmax(-1)[..., 257:].sum(-1).max().item()
    assert rounding == f"rounding to bf16 moves logits by {apart:.1e}"
    assert "63 rows of the embedding that no token uses" in behind
    assert float(behind.split()[-3]) == pytest.approx(held, rel=0.1) and held > 0.01
    whole = parcel("gpt2-124m", model, "fp32", whole=True)
    assert write.differences(model, whole, whole=True) == []


def test_make_export_and_make_generate(runs):
    make = ["make", "-s", "-C", str(ROOT), f"PYTHON={sys.executable}"]
    words = [f"RUN={runs['plain']}", "FORMAT=native", "DTYPE=bf16"]
    done = subprocess.run([*make, "export", *words], capture_output=True, text=True)
    file = runs["plain"] / "export" / "native-bf16.safetensors"
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{file}: ") and file.stat().st_mode & 0o444 == 0o444
    again = subprocess.run([*make, "export", *words], capture_output=True, text=True)
    assert again.returncode == 2 and f"error: {file} exists" in again.stderr
    words = [f"RUN={file}", "PROMPT=line 7", "TOKENS=9", "TEMPERATURE=0"]
    said = subprocess.run([*make, "generate", *words], capture_output=True, text=True)
    assert said.stdout == text_of(file)[0] + "\n"
    refused = subprocess.run([*make, "export"], capture_output=True, text=True)
    assert refused.returncode == 2 and "needs a run" in refused.stderr
    checksum = done.stdout.splitlines()[2]
    assert checksum.endswith(", of all that left")
    assert checksum in said.stderr.splitlines()


@pytest.mark.parametrize("target, variables, why", REFUSED)
def test_make_refuses_in_one_line(runs, tmp_path, target, variables, why):
    """What was forged, and an export where a run belongs."""
    file, forged = tmp_path / "whole", tmp_path / "forged"
    write.deliver(runs["foreign"], "native", "fp32", file)
    with pytest.raises(GenerateError, match="is no run's directory"):
        write.deliver(file, "native", "fp32", tmp_path / "again")
    symbols = {**papers_of(file)["symbols"], "GPT2_LAYERS": 10**6}
    rewritten(file, forged, {"symbols": symbols})
    words = [f"RUN={tmp_path}/{variables['RUN']}", *variables.get("words", ())]
    make = ["make", "-s", "-C", str(ROOT), f"PYTHON={sys.executable}"]
    done = subprocess.run([*make, target, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and why in lines[0], done.stderr


def make_export(run, out, **variables):
    words = [f"{name}={value}" for name, value in {**variables, "OUT": out}.items()]
    return subprocess.run(
        ["make", "-s", "-C", str(ROOT), f"PYTHON={sys.executable}", "export"]
        + [f"RUN={run}", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_make_export_in_blocks(runs, tmp_path):
    pytest.importorskip("gguf", reason="requirements-export.txt")
    out = tmp_path / "m.gguf"
    done = make_export(runs["plain"], out, FORMAT="gguf", DTYPE="Q8_0")
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith(f"{out}: ") and "parameters in q8_0" in first
    assert last.startswith("perplexity: ") and " in q8_0 (" in last
    assert text_of(out)[1]


def test_make_refuses_a_type_of_few_bits(runs, tmp_path):
    done = make_export(runs["plain"], tmp_path / "m", FORMAT="gguf", DTYPE="Q4_K")
    assert done.returncode == 2 and not (tmp_path / "m").exists()
    assert "error: DTYPE=q4_k is not written here" in done.stderr
    assert "Traceback" not in done.stderr
    done = make_export(runs["plain"], tmp_path / "m", DTYPE="Q3")
    assert "DTYPE=Q3: must be one of fp32, bf16, f16, q8_0" in done.stderr


def test_make_export_as_onnx(runs, tmp_path):
    """Of the model without another home; without the extra it says what to install."""
    out = tmp_path / "m"
    done = make_export(runs["foreign"], out, FORMAT="onnx")
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        assert done.returncode == 2 and "requirements-onnx.txt" in done.stderr
        assert not list(tmp_path.iterdir())
        return
    assert done.returncode == 0, done.stderr
    assert "read back by onnxruntime " in done.stdout
    known = ("importing ", "exporting ")  # progress; no warning of another library
    assert all(line.startswith(known) for line in done.stderr.splitlines()), done.stderr
    assert text_of(out) == text_of(runs["foreign"])


def test_what_is_refused_has_no_traceback(runs, tmp_path):
    done = command("export.py", runs["homeless"])
    assert (
        done.returncode == 1 and not (runs["homeless"] / "export" / "hf-fp32").exists()
    )
    assert "error: FORMAT=hf cannot carry this model." in done.stderr
    assert "Traceback" not in done.stderr
    done = command("export.py", tmp_path / "nowhere")
    assert done.returncode == 1 and "no such run" in done.stderr
    (tmp_path / "file").write_bytes(b"GGU")
    done = command("generate.py", tmp_path / "file")
    assert done.returncode == 1 and "cannot be read as safetensors" in done.stderr
    with pytest.raises(GenerateError, match="no such directory"):
        read.load(tmp_path / "nowhere", "cpu")
