"""FORMAT=onnx: the traced form of every step, and what onnxruntime computes of it."""

import sys

import numpy as np
import pytest
import torch

from gpt2.export import onnx as ours
from gpt2.export import seal, write
from gpt2.export.bundle import ExportError
from gpt2.export.onnx_graph import Decode, Forward, require_traceable, traceable
from gpt2.export.read import load
from gpt2.settings.run import run_settings
from tests.gpt2.parcels import ARCHITECTURES, LLAMA, bpe, parcel, randomised, tokens
from tests.gpt2.parcels import values

TRACED = [
    name
    for name in ARCHITECTURES
    if set(run_settings(values(name)).model.pattern) <= {"attention", "linear"}
]
TRACED += [
    "gpt2-124m MLP_CROSS_TOKEN=y MLP_CROSS_TOKEN_RMS=y",
    "gpt2-mixer-ablation/01-linear MLP_ATTN_GATE=y",
    "gpt2-124m SLIDING=y WINDOW=7",
    "gpt2-124m MLA=y RA=y RA_BAND=5",
]
SPLITS = ([1] * 24, [11, *[1] * 13], [5, 1, 11, 7])
LINEAR = "gpt2-mixer-ablation/01-linear"
EVERYTHING = "gpt2-ratio-ablation/16-everything"
TOLERANCE = 1e-5


def installed():
    for name in ("onnx", "onnxruntime", "onnxscript", "safetensors"):
        pytest.importorskip(name, reason="the extra requirements-onnx.txt")


def apart(a, b):
    return (a - b).abs().max().item() / b.abs().max().item()


@pytest.mark.parametrize("name", TRACED)
@torch.no_grad()
def test_the_traced_form_computes_what_the_model_does(name):
    """In plain torch: of every length, and step by step from caches of no tokens."""
    trained = randomised(name)
    batch = tokens(trained)
    wanted_BTV = trained.model(batch)[..., :257]
    model = traceable(trained.model)
    for n in (24, 1, 3):
        found_BnV = Forward(model, 257)(batch[:, :n])
        assert apart(found_BnV, wanted_BTV[:, :n]) <= TOLERANCE
    decode = Decode(model, 257)
    for steps in SPLITS:
        past = [each.expand(2, *each.shape[1:]) for each in decode.caches.values()]
        found = []
        for new_Bn in batch.split(steps, dim=1):
            logits_BnV, *past = decode(new_Bn, tuple(past))
            found.append(logits_BnV)
        assert apart(torch.cat(found, dim=1), wanted_BTV) <= TOLERANCE
        for name, tensor in zip(decode.names, past, strict=True):
            assert not decode.grows(name) or tensor.shape[:2] == (2, 24)


def test_a_mixer_that_chooses_blocks_is_refused():
    settings = run_settings(values("nsa-124m-ablation/03-nsa")).model
    why = "layer 0 has the mixer nsa, .* loops .* FORMAT=native keeps everything"
    with pytest.raises(ExportError, match=why):
        require_traceable(settings)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime", "onnxscript"])
def test_an_absent_extra_is_named(tmp_path, monkeypatch, absent):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, sys)  # there, as far as import sees
    monkeypatch.setitem(sys.modules, absent, None)
    why = f"{absent} is not installed: .*pip install -r requirements-onnx.txt"
    with pytest.raises(ExportError, match=why):
        ours.write(tmp_path / "m", parcel(LLAMA, randomised(LLAMA), whole=True))
    assert not (tmp_path / "m").exists()


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """(the folder, the model as it was packed) of "STEP TYPE"."""
    installed()
    name, _, dtype = request.param.rpartition(" ")
    place = tmp_path_factory.mktemp("onnx") / "m"
    packed = parcel(name, randomised(name, bpe()), dtype, whole=True)
    ours.write(place, packed)
    return place, packed


def every(kinds):
    return pytest.mark.parametrize("folder", kinds, indirect=True)


@pytest.mark.slow
@every(
    [f"{name} fp32" for name in TRACED] + [f"{EVERYTHING} {k}" for k in ("bf16", "f16")]
)
def test_logits_of_onnxruntime(folder):
    place, packed = folder
    batch = tokens(packed)
    with torch.no_grad():
        wanted_BTV = packed.model(batch)[..., : packed.tokenizer.vocab_size]
    assert wanted_BTV.std() > 0.3
    for n in (24, 1, 3):
        found_BnV = ours.logits_of_onnxruntime(place, batch[:1, :n])
        assert apart(found_BnV, wanted_BTV[:1, :n]) <= TOLERANCE
    for steps in SPLITS:
        found_BTV = ours.decoded_by_onnxruntime(place, batch, steps)
        assert found_BTV.shape == wanted_BTV.shape
        assert apart(found_BTV, wanted_BTV) <= TOLERANCE


@every([f"{LINEAR} bf16"])
def test_what_a_folder_holds(folder):
    """The weights once, in their type; no path of this machine; papers of every file."""
    import onnx

    place, packed = folder
    assert {path.name for path in place.iterdir()} == {
        *("forward.onnx", "decode.onnx"),
        *("model.safetensors", "tokenizer.json", "kablate.json"),
    }
    count = sum(p.numel() for p in packed.model.parameters())
    assert 2 * count < (place / "model.safetensors").stat().st_size < 2 * count + 3e4
    for name in ("forward.onnx", "decode.onnx"):
        assert (place / name).stat().st_size < 1e5 + 4 * 384 * 24
        assert str(ours.__file__).encode() not in (place / name).read_bytes()
        assert b"site-packages" not in (place / name).read_bytes()
        model = onnx.load(place / name, load_external_data=False)
        assert not model.metadata_props
        stored = [t for t in model.graph.initializer if t.external_data]
        assert len(stored) == len(list(packed.model.parameters()))
        assert {t.data_type for t in stored} == {onnx.TensorProto.BFLOAT16}
    assert seal.read_folder(place)["files"].keys() == ours.FILES
    found = load(place, "cpu").model.state_dict()
    wanted = packed.model.state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@every(["gpt2-124m fp32"])
def test_a_graph_that_computes_something_else_gets_no_name(folder, monkeypatch):
    place, packed = folder
    assert "onnxruntime" in write.compare(place, "onnx", packed)[1]
    honest = ours.Session.run

    def forgetful(session, new_Bn, past=()):
        """Forgets the keys of the first token."""
        logits_BnV, present = honest(session, new_Bn, past)
        return logits_BnV, [np.delete(each, 0, axis=1) for each in present]

    monkeypatch.setattr(ours.Session, "run", forgetful)
    with pytest.raises(ExportError, match="decode in onnxruntime: the logits differ"):
        write.compare(place, "onnx", packed)
