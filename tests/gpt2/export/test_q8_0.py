"""Q8_0: blocks of 32 values, against a decoder of their bytes by hand."""

import json
import re
import struct

import numpy as np
import pytest
import torch

from gpt2.export import gguf as ours
from gpt2.export import gguf_file, perplexity, q8_0, write
from gpt2.export.bundle import ExportError
from gpt2.export.formats import FORMATS, obstacle
from gpt2.export.read import load
from gpt2.generation.generate import Trained
from gpt2.training.cell import execute
from records import atomic
from tests.gpt2.parcels import LLAMA, bpe, parcel, randomised


def decoded(rows):
    """(values, scales): every block is 2 bytes of fp16 and 32 integers of one byte."""
    values, scales = [], []
    for row in rows:
        blocks = list(struct.iter_unpack("<e32b", bytes(row)))
        values.append([scale * q for scale, *each in blocks for q in each])
        scales.append([scale for scale, *each in blocks for q in each])
    return np.array(values), np.array(scales)


def weights():
    """(72, 96): rows of every size that fp32 holds of weights, zeros, one value alone."""
    stream = torch.Generator().manual_seed(5)
    size_R1 = 10.0 ** torch.linspace(-9, 5, 70)[:, None]
    weight_RC = size_R1 * torch.randn(70, 96, generator=stream)
    alone_1C = torch.zeros(1, 96)
    alone_1C[0, 40] = -3.3e-4
    return torch.cat([weight_RC, torch.zeros(1, 96), alone_1C])


def test_values_are_within_half_a_step_of_their_block():
    weight_RC = weights()
    values_RC, scales_RC = decoded(q8_0.stored(weight_RC))
    assert (abs(values_RC - weight_RC.double().numpy()) <= 0.5 * scales_RC).all()
    assert np.array_equal(values_RC, q8_0.rounded(weight_RC).double().numpy())
    most_RN = weight_RC.unflatten(1, (-1, 32)).abs().amax(2).double().numpy()
    least = np.maximum(most_RN / 127, 2.0**-16).repeat(32, axis=1)
    finer = least * (1 + 2**-10) + 2**-24  # one number of fp16 further
    assert (scales_RC <= finer).all(), "a step is no larger than it must be"
    assert (values_RC[-2] == 0).all() and np.count_nonzero(values_RC[-1]) == 1


def test_what_was_in_blocks_goes_into_the_same():
    once_RC = q8_0.rounded(weights())
    assert torch.equal(q8_0.rounded(once_RC), once_RC)
    assert np.array_equal(q8_0.stored(once_RC), q8_0.stored(weights()))


@pytest.mark.parametrize("shape, size, why", [((4, 40), 1, "40"), ((4, 32), 1e8, "1e")])
def test_what_blocks_cannot_hold(shape, size, why):
    with pytest.raises(q8_0.BlockError, match=why):
        q8_0.stored(size * torch.ones(shape))


def test_what_is_restored_from_bytes_is_what_was_rounded():
    blocks_K = torch.from_numpy(q8_0.stored(weights())).view(-1, q8_0.BYTES)
    assert torch.equal(q8_0.restored(blocks_K).view(-1, 96), q8_0.rounded(weights()))


def test_rows_of_no_whole_blocks_are_no_tensor(tmp_path):
    (tmp_path / "m").write_bytes(bytes(999))
    header = gguf_file.Header({}, {"a": gguf_file.Entry((4, 40), 8, 0)}, 999)
    with pytest.raises(ExportError, match="a has rows of 40 values, no whole blocks"):
        gguf_file.read_tensor(tmp_path / "m", header, "a")


def test_matrices_alone_are_rounded():
    trained = randomised("gpt2-124m")
    packed = dict(
        parcel("gpt2-124m", trained, "q8_0", whole=True).model.named_parameters()
    )
    for name, parameter in trained.model.named_parameters():
        kept = parameter.dim() == 1 or name == "wpe.weight"
        assert torch.equal(packed[name], parameter) == kept, name


@pytest.mark.parametrize("name", ["gpt2-124m", LLAMA])
def test_a_file_holds_its_matrices_in_blocks(tmp_path, name):
    gguf = pytest.importorskip("gguf", reason="requirements-export.txt")
    trained = randomised(name, bpe())
    packed = parcel(name, trained, "q8_0")
    ours.write(tmp_path / "m.gguf", packed)
    tensors = gguf.GGUFReader(tmp_path / "m.gguf").tensors
    held = {tensor.name: tensor.tensor_type.name for tensor in tensors}
    positions = ("position_embd.weight",)
    small = {n for n in held if "norm" in n or n.endswith("bias") or n in positions}
    assert {held[n] for n in small} == {"F32"}
    assert {held[n] for n in held.keys() - small} == {"Q8_0"} and len(held) > len(small)
    inner = next(tensor for tensor in tensors if tensor.name == "blk.1.ffn_up.weight")
    values_RC, scales_RC = decoded(inner.data)
    wanted_RC = trained.model.h[1].mlp.inner.weight.detach().double().numpy()
    assert (abs(values_RC - wanted_RC) <= 0.5 * scales_RC).all()
    again, wanted = load(tmp_path / "m.gguf", "cpu"), packed.model.state_dict()
    found = again.model.state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("dtype", ["q8_0", "q4_k", "iq2_xxs", "q5_0"])
def test_types_that_a_format_does_not_have(tmp_path, target, dtype):
    if (target, dtype) == ("gguf", "q8_0"):
        return
    assert obstacle(target, dtype) and not obstacle("gguf", "q8_0")
    with pytest.raises(ExportError, match=f"^DTYPE={dtype} ") as error:
        write.deliver(tmp_path / "run", target, dtype, tmp_path / "out")
    wanted = "FORMAT=gguf alone" if dtype == "q8_0" else "llama-quantize"
    assert wanted in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def run(make_cell, corpus, tmp_path_factory):
    """A trained GPT-2 whose record says where its data is."""
    directory = make_cell(tmp_path_factory.mktemp("run") / "run")
    assert execute(directory, corpus) == 0
    record = json.loads((directory / "run.json").read_text())
    atomic.write_json(directory / "run.json", {**record, "data_dir": str(corpus)})
    return directory


def test_the_perplexity_is_measured_on_the_validation_data(run, tmp_path, corpus):
    """Against the model's own loss, whose softmax has rows that no token uses."""
    pytest.importorskip("gguf", reason="requirements-export.txt")
    line = write.deliver(run, "gguf", "q8_0", tmp_path / "m.gguf")[-1]
    trained, _ = write.of_run(run)
    packed = load(tmp_path / "m.gguf", "cpu")
    rows = perplexity._windows(run, trained)[0]
    vocabulary = trained.tokenizer.vocab_size

    def by_hand(model: Trained) -> float:
        with torch.no_grad():
            p = model.model(rows[:, :-1])[..., :vocabulary].double().log_softmax(-1)
        return (-p.gather(2, rows[:, 1:, None])).mean().exp().item()

    found = re.match(r"perplexity: (\S+) in fp32, (\S+) in q8_0 \((\S+)%\), over", line)
    before, after, change = (float(each.replace(",", "")) for each in found.groups())
    assert before == pytest.approx(by_hand(trained), abs=1e-4)
    assert after == pytest.approx(by_hand(packed), abs=1e-4)
    assert change == pytest.approx(100 * (after / before - 1), abs=2e-3)
    assert before != after
    assert f"over {rows[:, 1:].numel():,} tokens of the run's validation data" in line


def test_without_the_data_it_says_what_it_read(run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    gone = {**record, "data_dir": str(tmp_path / "gone")}
    atomic.write_json(run / "run.json", gone)
    trained, origin = write.of_run(run)
    packed = write.pack(trained, origin, "q8_0", False)
    line = perplexity.perplexity_change(run, trained, packed)
    atomic.write_json(run / "run.json", record)
    assert "over 4,096 tokens of this checkout's README.md" in line
    before, after = re.match(r"perplexity: (\S+) in fp32, (\S+) in", line).groups()
    assert before != after
    assert str(tmp_path / "gone") in line
