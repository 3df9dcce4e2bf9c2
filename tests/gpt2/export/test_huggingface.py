"""The folder for transformers: logits, greedy text, zeros, what is refused."""

import json

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama import modeling_llama

from gpt2.export import huggingface
from gpt2.export.architectures import CLASSES
from gpt2.export.bundle import DTYPES, ExportError
from gpt2.export.read import load
from gpt2.generation.generate import Reader, Request, sample
from gpt2.generation.sampling import Sampling
from gpt2.model.rope import rotate
from tests.gpt2.export.forged import copied, resealed
from tests.gpt2.parcels import HOMES, LLAMA, randomised, bpe, parcel, tokens

transformers.utils.logging.disable_progress_bar()
RELU2 = "gpt2-124m MLP_RELU2=y"  # no home in llama.cpp


def left(place, name, tokenizer=None, dtype="fp32"):
    """A folder written from an randomised model, and the model as it was packed."""
    packed = parcel(name, randomised(name, tokenizer), dtype)
    huggingface.write(place, packed)
    return packed


def theirs(place):
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=["gpt2-124m", LLAMA])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("hf") / "model"
    left(place, request.param, bpe())
    return place


@pytest.mark.parametrize("name", [*HOMES, RELU2])
def test_logits_equal_those_of_transformers(tmp_path, name):
    packed = left(tmp_path / "m", name)
    model, batch = theirs(tmp_path / "m"), tokens(packed)
    assert type(model).__name__ == CLASSES[HOMES.get(name, "gpt2")]
    with torch.no_grad():
        wanted, found = packed.model(batch), model(batch).logits
    assert found.shape[-1] == packed.tokenizer.vocab_size == 257
    assert wanted.std() > 0.3
    assert (found - wanted[..., :257]).abs().max().item() <= 1e-5


def test_positions_turn_as_far_as_those_of_transformers():
    """At the end of a long context, where the rounding of a frequency shows."""
    config = transformers.LlamaConfig(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=2048
    )
    x_BHTD = torch.randn(1, 2, 2048, 64, generator=torch.Generator().manual_seed(0))
    angles = modeling_llama.LlamaRotaryEmbedding(config)
    cos, sin = angles(x_BHTD, torch.arange(2048)[None])
    wanted, _ = modeling_llama.apply_rotary_pos_emb(x_BHTD, x_BHTD, cos, sin)
    found = rotate(x_BHTD.transpose(1, 2), 0, 1e4).transpose(1, 2)
    assert (found - wanted).abs().max().item() <= 1e-6


@pytest.mark.parametrize("name", HOMES)
def test_greedy_text_equals_that_of_transformers(tmp_path, name):
    """From text to text: tokenizer, model and cache are all theirs."""
    packed = left(tmp_path / "m", name, bpe())
    ours, text = load(tmp_path / "m", "cpu"), "import a"
    prompt = ours.tokenizer.encode(text).tolist()
    wanted = list(sample(Reader(ours), prompt, Request(text, 12, Sampling(0.0))))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    given = tokenizer(text, return_tensors="pt")
    assert given["input_ids"].tolist() == [prompt]
    made = theirs(tmp_path / "m").generate(
        **given,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=ours.tokenizer.eot,
    )
    assert made[0, len(prompt) :].tolist() == wanted and len(wanted) == 12
    spoken = ours.tokenizer.decode(made[0].numpy()).decode(errors="replace")
    assert tokenizer.decode(made[0], skip_special_tokens=True) == spoken


@pytest.mark.parametrize("name", HOMES)
def test_it_comes_back_as_ours(tmp_path, name):
    packed = left(tmp_path / "m", name, bpe())
    wanted, again = packed.model.state_dict(), load(tmp_path / "m", "cpu")
    found = again.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert not found["wte.weight"][300:].any() and found["wte.weight"][:300].any()


@pytest.mark.parametrize("kind", ["bytes", "merges"])
def test_their_tokenizer_reads_any_text_as_ours(tmp_path, kind):
    packed = left(tmp_path / "m", LLAMA, bpe() if kind == "merges" else None)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    for text in ("", "  a b\n\n\tç 😀 東", "it's <|endoftext|> 12", "\0x"):
        wanted = packed.tokenizer.encode(text).tolist()
        assert tokenizer(text)["input_ids"] == wanted
        assert tokenizer.decode(wanted) == text
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == packed.tokenizer.eot
    assert len(tokenizer) == packed.tokenizer.vocab_size
    assert tokenizer.model_max_length == 24


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gpt2-124m", LLAMA])
def test_pruned_weights_keep_their_zeros(tmp_path, name, dtype):
    model = randomised(name)
    with torch.no_grad():
        for key, parameter in model.model.named_parameters():
            if parameter.dim() > 1 and key.startswith("h."):
                parameter[::2, 1::2] = 0.0
    huggingface.write(tmp_path / "m", parcel(name, model, dtype))
    named = theirs(tmp_path / "m").named_parameters()
    found = sum((p == 0).sum().item() for key, p in named if "norm" not in key)
    wanted = sum(
        (p == 0).sum().item()
        for key, p in model.model.named_parameters()
        if "h." in key
    )
    assert found == wanted > 1000


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_the_type_is_stored_and_named(tmp_path, dtype):
    packed = left(tmp_path / "m", LLAMA, dtype=dtype)
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}
    assert kinds == {DTYPES[dtype]}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert model.dtype == DTYPES[dtype]
    batch = tokens(packed)
    with torch.no_grad():
        apart = theirs(tmp_path / "m")(batch).logits - packed.model(batch)[..., :257]
    assert apart.abs().max().item() <= 1e-5


def test_the_head_is_tied_and_stored_once(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "head" in name]
    model = theirs(folder)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_model_without_biases_gets_zeros(tmp_path):
    packed = left(tmp_path / "m", "anchor-cpu")
    assert not packed.model.settings.bias
    biases = [p for n, p in theirs(tmp_path / "m").named_parameters() if "bias" in n]
    assert biases and not any(bias.any() for bias in biases)


def edited(folder, place, name, **changes):
    """A copy of the folder in which a JSON file has other values."""
    place = copied(folder, place)
    content = {**json.loads((place / name).read_text()), **changes}
    (place / name).write_text(json.dumps(content))
    return place


def test_a_folder_whose_files_do_not_fit_together(folder, tmp_path):
    """Each is what its papers name, and yet transformers would compute something else."""
    place = resealed(edited(folder, tmp_path / "a", "config.json", vocab_size=301))
    with pytest.raises(ExportError, match="vocab_size is 301, 300 left with"):
        load(place, "cpu")
    (place / "tokenizer.json").write_text("{}")
    with pytest.raises(ExportError, match="the tokenizer bpe: .*model is absent"):
        load(resealed(place), "cpu")
    place = copied(folder, tmp_path / "c")
    (place / "config.json").write_text("{")
    with pytest.raises(ExportError, match="config.json is not JSON"):
        load(resealed(place), "cpu")
    (place / "kablate.json").unlink()
    with pytest.raises(ExportError, match="not written by `make export`"):
        load(place, "cpu")


def changed(folder, place, change):
    """A copy of the folder with other tensors, sealed again."""
    place = copied(folder, place)
    with safe_open(place / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(tensors, next(name for name in tensors if "mlp" in name))
    save_file(tensors, place / "model.safetensors")
    return resealed(place)


def test_tensors_that_are_refused(folder, tmp_path):
    for number, (change, why) in enumerate(
        [
            (lambda t, name: t.pop(name), "is missing"),
            (lambda t, name: t.update(more=t[name].clone()), "more has no place here"),
            (lambda t, name: t.update({name: t[name][:3].clone()}), "expected"),
            (lambda t, name: t[name].add_(1.0), "changed after the export"),
        ]
    ):
        with pytest.raises(ExportError, match=why):
            load(changed(folder, tmp_path / str(number), change), "cpu")


def test_a_bias_that_the_model_does_not_have_is_refused(tmp_path):
    left(tmp_path / "m", "anchor-cpu")
    name = "transformer.h.1.mlp.c_fc.bias"
    place = changed(tmp_path / "m", tmp_path / "n", lambda t, _: t[name].add_(1.0))
    with pytest.raises(ExportError, match=f"{name} is not zero"):
        load(place, "cpu")
