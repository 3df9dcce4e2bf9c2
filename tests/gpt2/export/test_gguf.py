"""GGUF: what llama.cpp computes of the file, and what the file says."""

import contextlib

import numpy as np
import pytest
import torch

from gpt2.export import gguf as ours
from gpt2.export.bundle import DTYPES, ExportError
from gpt2.export.read import load
from tests.gpt2.parcels import HOMES, LLAMA, randomised, bpe, parcel, tokens

pytestmark = pytest.mark.slow
gguf = pytest.importorskip("gguf", reason="requirements-export.txt")
TEXTS = ("", "  a b\n\n\tc 12", "it's <|endoftext|> 12", "import torch", "ç 😀 東")


def left(place, name, tokenizer=None, dtype="fp32"):
    """A file written from an randomised model, and the model as it was packed."""
    packed = parcel(name, randomised(name, tokenizer), dtype)
    ours.write(place, packed)
    return packed


@contextlib.contextmanager
def opened(place, context, **options):
    """llama.cpp with the file loaded, one thread, all logits."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="requirements-slow.txt")
    options |= {"n_ctx": context, "logits_all": True, "n_threads": 1}
    with contextlib.closing(
        llama_cpp.Llama(str(place), verbose=False, **options)
    ) as model:
        yield model


def logits(model, tokens_T):
    """logits_TV of llama.cpp for one sequence."""
    model.reset()
    model.eval(tokens_T)
    return np.array(model.scores[: len(tokens_T)])


@pytest.mark.parametrize("name", HOMES)
def test_logits_equal_those_of_llama_cpp(tmp_path, name):
    """Its cache in fp32; of GELU it has a table in fp16, on a CPU."""
    tolerance = {"gpt2": 1e-3, "llama": 1e-5}[HOMES[name]]
    packed = left(tmp_path / "m.gguf", name)
    with opened(tmp_path / "m.gguf", 24, type_k=0, type_v=0) as model, torch.no_grad():
        for row in tokens(packed):
            wanted = packed.model(row[None])[0, :, :257].numpy()
            found = logits(model, row.tolist())
            assert found.shape == wanted.shape and wanted.std() > 0.3
            assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gpt2-124m", LLAMA])
def test_every_type_loads(tmp_path, name, dtype):
    packed = left(tmp_path / "m.gguf", name, bpe(), dtype)
    row = tokens(packed)[0]
    with opened(tmp_path / "m.gguf", 24) as model, torch.no_grad():
        wanted = packed.model(row[None])[0, :, :300].numpy()
        found = logits(model, row.tolist())
        assert np.abs(found - wanted).max() <= 2e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", ["bytes", "merges"])
def test_the_tokenizer_of_llama_cpp_reads_as_ours(tmp_path, kind):
    packed = left(tmp_path / "m.gguf", LLAMA, bpe() if kind == "merges" else None)
    with opened(tmp_path / "m.gguf", 24) as model:
        assert model.n_vocab() == packed.tokenizer.vocab_size
        assert model.token_eos() == model.token_bos() == packed.tokenizer.eot
        for text in TEXTS:
            wanted = packed.tokenizer.encode(text).tolist()
            assert model.tokenize(text.encode(), add_bos=True, special=False) == wanted
            assert model.detokenize(wanted).decode() == text


@pytest.mark.parametrize("name", HOMES)
def test_it_comes_back_as_ours(tmp_path, name):
    packed = left(tmp_path / "m.gguf", name, bpe())
    again = load(tmp_path / "m.gguf", "cpu")
    wanted, found = packed.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert again.tokenizer.ranks == packed.tokenizer.ranks


@pytest.mark.parametrize("dtype", DTYPES)
def test_pruned_weights_keep_their_zeros(tmp_path, dtype):
    model = randomised(LLAMA)
    with torch.no_grad():
        for key, parameter in model.model.named_parameters():
            if parameter.dim() > 1 and key.startswith("h."):
                parameter[::2, 1::2] = 0.0
    ours.write(tmp_path / "m.gguf", parcel(LLAMA, model, dtype))
    found = sum(
        (gguf.dequantize(tensor.data, tensor.tensor_type) == 0).sum()
        for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors
        if tensor.name.startswith("blk.") and "norm" not in tensor.name
    )
    pruned = [p for k, p in model.model.named_parameters() if k.startswith("h.")]
    assert found == sum((p == 0).sum().item() for p in pruned if p.dim() > 1) > 1000


def test_files_that_are_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_context_length(5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ExportError, match="was not written by `make export`"):
        load(tmp_path / "other.gguf", "cpu")
    (tmp_path / "torn.gguf").write_bytes(b"GGUF\3\0")
    with pytest.raises(ExportError, match="cannot be read as GGUF"):
        load(tmp_path / "torn.gguf", "cpu")
    left(tmp_path / "whole.gguf", LLAMA)
    whole = (tmp_path / "whole.gguf").read_bytes()
    for share in (0.01, 0.1, 0.5, 0.99):
        (tmp_path / "torn.gguf").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ExportError, match="torn.gguf"):
            load(tmp_path / "torn.gguf", "cpu")
    with pytest.raises(ExportError, match="llama.cpp's gpt2, .*\n  CONFIG_RA: "):
        left(tmp_path / "m.gguf", "gpt2-ratio-ablation/05-ra")
    assert not (tmp_path / "m.gguf").exists()
