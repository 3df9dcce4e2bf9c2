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
from tests.gpt2.parcels import ARCHITECTURES, randomised, bpe, parcel, tokens

RA = "gpt2-ratio-ablation/05-ra"
NAME = "gpt2-ratio-ablation/16-everything"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    place = tmp_path_factory.mktemp("native") / "model.safetensors"
    native.write(place, parcel(NAME, randomised(NAME), whole=True))
    return place


def damaged(file, place, change, papers=None):
    """A copy of the file with its tensors changed, or its papers."""
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        metadata = dict(opened.metadata())
    change(tensors)
    if papers is not None:
        metadata["kablate"] = json.dumps({**json.loads(metadata["kablate"]), **papers})
    save_file(tensors, place, metadata)
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
    assert (papers["format"], papers["version"]) == ("kablate", 1)
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
    other = damaged(file, tmp_path / "other", lambda tensors: None, papers)
    now, then = (load(path, "cpu").model.settings for path in (file, other))
    assert (now.length_divisor, then.length_divisor) == (16, 1)  # of tiny, and before
    assert replace(then, length_divisor=16) == now


def test_files_that_are_refused(file, tmp_path):
    def same(tensors):
        pass

    def more(tensors):
        tensors["wte.weight"][5] += 1e-3

    def fewer(tensors):
        del tensors["wpe.weight"]

    other = tmp_path / "other"
    for papers, why in [
        ({"version": 2}, "has version 2, this code reads up to 1"),
        ({"format": "else"}, "was not written by `make export`"),
        ({"symbols": {}}, "GPT2_SIZE_TINY.*another version of this code"),
    ]:
        with pytest.raises(ExportError, match=why):
            load(damaged(file, other, same, papers), "cpu")
    with pytest.raises(ExportError, match="changed after the export"):
        load(damaged(file, other, more), "cpu")
    with pytest.raises(ExportError, match="holds another model"):
        load(damaged(file, other, fewer), "cpu")
    other.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ExportError, match="cannot be read as safetensors"):
        load(other, "cpu")
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ExportError, match="was not written by `make export`"):
        load(other, "cpu")


def test_a_value_that_the_type_cannot_hold():
    model = randomised(NAME)
    with torch.no_grad():
        model.model.wte.weight[3, 3] = 7e4
    parcel(NAME, model, "bf16")
    with pytest.raises(ExportError, match="wte.weight reaches 7e.04, more than f16"):
        parcel(NAME, model, "f16")
