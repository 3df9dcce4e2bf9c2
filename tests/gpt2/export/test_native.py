"""The native file: any model leaves and comes back, bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gpt2.export import native
from gpt2.export.bundle import DTYPES, ExportError
from gpt2.export.read import load
from records import history
from tests.gpt2.export import forged
from tests.gpt2.parcels import ARCHITECTURES, randomised, bpe, parcel, tokens

RA = "gpt2-ratio-ablation/05-ra"
NAME = "gpt2-ratio-ablation/16-everything"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    place = tmp_path_factory.mktemp("native") / "model.safetensors"
    native.write(place, parcel(NAME, randomised(NAME), whole=True))
    return place


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_comes_back_bit_for_bit(tmp_path, name):
    model = randomised(name, bpe())
    native.write(tmp_path / "m", parcel(name, model, whole=True))
    again = load(tmp_path / "m", "cpu")
    wanted, found = model.model.state_dict(), again.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert again.model.settings == model.model.settings and not again.model.training
    batch = tokens(model)
    with torch.no_grad():
        assert torch.equal(again.model(batch), model.model(batch))
    assert (
        again.tokenizer.encode("the é").tolist()
        == model.tokenizer.encode("the é").tolist()
    )


def test_a_model_trained_by_triton_runs_on_a_cpu(tmp_path):
    """Kernels that no CPU runs bind neither a sample nor an export."""
    name = f"{RA} ATTENTION_IMPL_TRITON=y"
    native.write(tmp_path / "m", parcel(name, randomised(RA), whole=True))
    model, batch = load(tmp_path / "m", "cpu").model, tokens(randomised(RA))
    assert model.settings.attention.impl == "auto"
    with torch.no_grad():
        assert torch.equal(model(batch), randomised(RA).model(batch))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_rounded_once_and_stored_in_their_type(tmp_path, dtype):
    model = randomised(NAME)
    native.write(tmp_path / "m", parcel(NAME, model, dtype, whole=True))
    found = load(tmp_path / "m", "cpu").model.state_dict()
    with safe_open(tmp_path / "m", "pt") as file:
        for name, tensor in model.model.state_dict().items():
            assert file.get_tensor(name).dtype == DTYPES[dtype]
            assert torch.equal(found[name], tensor.to(DTYPES[dtype]).float())


def test_the_file_describes_itself(file):
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    papers = json.loads(metadata["kablate"])
    assert (papers["format"], papers["version"]) == ("kablate", 2)
    assert papers["symbols"]["RA_CT"] is True and papers["tokenizer"] == "byte"
    assert len(json.loads(metadata["tokenizer.json"])["model"]["vocab"]) == 256
    header = file.read_bytes()[:8]
    assert int.from_bytes(header, "little") < file.stat().st_size


def test_a_file_from_before_a_symbol(file, tmp_path):
    with safe_open(file, "pt") as opened:
        symbols = json.loads(opened.metadata()["kablate"])["symbols"]
    older = {name: each for name, each in symbols.items() if name not in history.ADDED}
    assert older != symbols
    papers = {"symbols": older}
    other = forged.native(file, tmp_path / "other", papers)
    now, then = (load(path, "cpu").model.settings for path in (file, other))
    assert (now.length_divisor, then.length_divisor) == (16, 1)  # of tiny, and before
    assert replace(then, length_divisor=16) == now


def test_a_file_of_version_1(file, tmp_path):
    """Its papers were written without a checksum."""
    older = forged.headed(file, tmp_path / "older", as_version_1)
    assert load(file, "cpu").note.startswith("checksum: ")
    assert load(older, "cpu").note.startswith("checksum: of the weights alone")


def as_version_1(header):
    papers = json.loads(header["__metadata__"]["kablate"])
    papers.pop("sha256")
    header["__metadata__"]["kablate"] = json.dumps({**papers, "version": 1})


def test_weights_of_another_model(file, tmp_path):
    def more(tensors):
        tensors["wte.weight"][5] += 1e-3

    def fewer(tensors):
        del tensors["wpe.weight"]

    with pytest.raises(ExportError, match="changed after the export"):
        load(forged.native(file, tmp_path / "more", tensors=more), "cpu")
    with pytest.raises(ExportError, match="another model.*wpe.weight is missing"):
        load(forged.native(file, tmp_path / "fewer", tensors=fewer), "cpu")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ExportError, match="was not written by `make export`"):
        load(tmp_path / "other", "cpu")


def test_a_value_that_the_type_cannot_hold():
    model = randomised(NAME)
    with torch.no_grad():
        model.model.wte.weight[3, 3] = 7e4
    parcel(NAME, model, "bf16")
    with pytest.raises(ExportError, match="wte.weight reaches 7e.04, more than f16"):
        parcel(NAME, model, "f16")
