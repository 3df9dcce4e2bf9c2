"""modeling_kablate.py computes what this code computes: every step, every option, whole, by
steps of a cache, with padding.
"""

import dataclasses

import pytest
import torch
import transformers

from gpt2.export import modeling_kablate, remote_code
from gpt2.export.architectures import CARRIES, REMOTE, architecture
from gpt2.export.bundle import ExportError
from gpt2.export.modeling_kablate import KablateCache, KablateConfig
from gpt2.export.modeling_kablate import KablateForCausalLM
from gpt2.export.names import DIALECTS, give
from gpt2.settings.run import run_settings
from tests.conftest import ROOT
from tests.gpt2.export.table import short
from tests.gpt2.parcels import ARCHITECTURES, randomised, tokens, values

transformers.utils.logging.disable_progress_bar()
RATIO, ATTENTION = "gpt2-ratio-ablation", "gpt2-attention-ablation"
EVERYTHING = f"{RATIO}/16-everything"
LINEAR, LLAMA = "gpt2-mixer-ablation/01-linear", "llama-85m-ablation/00-llama"
ALMOST = 1e-5
# Logits are up to 5; what is wrong moves them by more than this.
WRONG = 1e-3


def remote(name):
    """Whether modeling_kablate.py is the one that carries an architecture."""
    try:
        return architecture(run_settings(values(name)).model, "hf") == REMOTE
    except ExportError:
        return False


STEPS = [short(name) for name in ARCHITECTURES if remote(name)]
BASE, RA, MLA = f"{RATIO}/00-baseline", "RA=y RA_BAND=4", "MLA=y"
CT, CROSS, WINDOW = "RA_CT=y", "MLP_CROSS_TOKEN=y", "SLIDING=y WINDOW=6"
OPTIONS = [
    f"{BASE} POSITION_NONE=y",
    f"{BASE} RA=y RA_BAND=0",
    f"{BASE} {RA} RA_LEARNED=y",
    f"{BASE} {RA} {MLA} MLA_SHARED_LATENT=y",
    f"{BASE} {RA} {MLA} MLA_SHARED_UP=y {WINDOW}",
    f"{BASE} SOFTPICK=y SOFTPICK_UNSAFE=y",
    f"{BASE} SOFTPICK=y {RA} {WINDOW}",
    f"{BASE} OUTPUT_GATE_HEADWISE=y",
    f"{BASE} OUTPUT_GATE_ELEMENTWISE=y MLP_ATTN_GATE=y MIXER_LINEAR=y",
    f"{BASE} {WINDOW} {RA} {CROSS} {CT}",
    f"{BASE} {CT} RA_CT_MAX=y",
    f"{BASE} {CT} RA_CT_RMS=y {WINDOW}",
    f"{BASE} {CT} RA_CT_ENTROPY=y RA_CT_WEIGHTS=y {WINDOW}",
    f"{BASE} {CT} RA_CT_HEAD_AVERAGE=y",
    f"{BASE} {CT} RA_CT_WEIGHTS=y {RA}",
    f"{BASE} MLP_ATTN_GATE=y MLP_ATTN_GATE_MEAN=n",
    f"{BASE} {CROSS} MLP_CROSS_TOKEN_NONE=y",
    f"{BASE} {CROSS} MLP_CROSS_TOKEN_RMS=y {WINDOW}",
    f"{LLAMA} MLP_RELU2=y",
    f"{LLAMA} {RA} {WINDOW} ROPE_BASE=500",
]


def pair(name):
    """(our model, theirs) of an architecture, with the same weights."""
    ours = randomised(name)
    settings, V = ours.model.settings, ours.tokenizer.vocab_size
    config = KablateConfig(vocab_size=V, **remote_code.slots(settings))
    theirs = KablateForCausalLM(config).eval()
    tensors = give(ours.model, DIALECTS["hf", REMOTE], V)
    left = theirs.load_state_dict(tensors, strict=False)
    assert left.missing_keys == ["lm_head.weight"] and not left.unexpected_keys
    theirs.tie_weights()
    return ours, theirs


def cached(model, tokens_BT, counts, **given):
    """Logits of the tokens, so many at a time."""
    found, cache, end = [], None, 0
    for count in counts:
        start, end = end, end + count
        new = {"past_key_values": cache, "use_cache": True, **given}
        if "attention_mask" in given:
            new["attention_mask"] = given["attention_mask"][:, :end]
        out = model(tokens_BT[:, start:end], **new)
        found.append(out.logits)
        cache = out.past_key_values
        assert cache.get_seq_length() == end
    assert end == tokens_BT.shape[1]
    return torch.cat(found, dim=1)


def apart(a, b):
    return (a - b).abs().max().item()


@torch.no_grad()
@pytest.mark.parametrize("name", [*STEPS, *OPTIONS])
def test_it_computes_what_this_code_computes(name):
    """At once, and through a cache in chunks longer and shorter than bands and windows."""
    ours, theirs = pair(name)
    batch = tokens(ours)
    wanted = ours.model(batch)[..., : ours.tokenizer.vocab_size]
    assert wanted.std() > 0.3
    assert apart(theirs(batch).logits, wanted) <= ALMOST
    assert apart(cached(theirs, batch, (1, 1, 7, 3, *[1] * 12)), wanted) <= ALMOST


def test_the_list_has_the_steps_of_the_studies():
    """Those that are GPT-2's or LLaMA's shape aside, and native sparse attention."""
    assert len([name for name in STEPS if name.startswith(RATIO)]) == 16
    assert len([name for name in STEPS if name.startswith(ATTENTION)]) == 6
    assert len([name for name in STEPS if name.startswith("llama")]) == 4
    assert LINEAR in STEPS and not remote("nsa-124m-ablation/03-nsa")


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [f"{EVERYTHING} {RA}", LINEAR, f"{LLAMA} {RA} {WINDOW}"]
)
def test_padding_changes_nothing(name):
    """On the left, as generate() pads: whole and through a cache."""
    ours, theirs = pair(name)
    text = tokens(ours)[:1, :17]
    wanted = theirs(text).logits
    padded = torch.cat([torch.full((1, 5), 3), text], dim=1)
    other = tokens(ours)[1:, :22]
    mask = torch.ones(2, 22, dtype=torch.long)
    mask[0, :5] = 0
    batch = torch.cat([padded, other])
    assert apart(theirs(batch).logits[:1, 5:], wanted) > WRONG
    whole = theirs(batch, attention_mask=mask).logits
    assert apart(whole[:1, 5:], wanted) <= ALMOST
    assert apart(whole[1:], theirs(other).logits) <= ALMOST
    steps = cached(theirs, batch, (7, 9, *[1] * 6), attention_mask=mask)
    assert apart(steps[:1, 5:], wanted) <= ALMOST
    assert apart(steps[1:], whole[1:]) <= ALMOST


@torch.no_grad()
@pytest.mark.parametrize("name", [f"{EVERYTHING} {RA} {WINDOW}", LINEAR])
def test_generate_is_the_same_with_a_cache(name):
    """Greedy, with beams, and of prompts of different lengths."""
    ours, theirs = pair(name)
    batch, mask = tokens(ours)[:, :7], torch.ones(2, 7, dtype=torch.long)
    mask[0, :3] = 0
    options = {"max_new_tokens": 16, "eos_token_id": None, "pad_token_id": 256}
    for more in ({}, {"num_beams": 3}, {"attention_mask": mask}):
        asked = {**options, "do_sample": False, **more}
        with_cache = theirs.generate(batch, use_cache=True, **asked)
        assert with_cache.shape == (2, 23)
        assert torch.equal(with_cache, theirs.generate(batch, use_cache=False, **asked))
    alone = theirs.generate(batch[:1, 3:], do_sample=False, **options)
    assert torch.equal(with_cache[:1, 3:], alone)


@torch.no_grad()
def test_a_cache_holds_what_it_says():
    """Keys of the window, queries of the band, sums: no more, however long the text."""
    _, theirs = pair(f"{BASE} {RA} {WINDOW} {CROSS} MLP_ATTN_GATE=y")
    cache, config = KablateCache(theirs.config), theirs.config
    for _ in range(20):
        theirs(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)
    lengths = {name: x.shape[1] for name, x in cache.layers[0].items()}
    assert lengths == {
        "memory0": config.window,
        "memory1": config.window,
        "queries": config.ra_band,
        "cross": config.window,
        "gate_sum": 1,
    }
    assert "gate_sum" not in cache.layers[-1] and cache.get_seq_length() == 20
    cache.reset()
    assert cache.get_seq_length() == 0 and not cache.layers[0]


@torch.no_grad()
def test_what_it_refuses():
    _, theirs = pair(f"{RATIO}/05-ra")
    text = torch.zeros(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match="a DynamicCache, not ours"):
        theirs(text, past_key_values=transformers.DynamicCache())
    with pytest.raises(ValueError, match="25 tokens exceed the context of 24"):
        theirs(text.expand(1, -1).repeat(1, 5))
    with pytest.raises(ValueError, match=r"attention_mask: \(1, 4\), not \(1, 5\)"):
        theirs(text, attention_mask=torch.ones(1, 4))


@torch.no_grad()
def test_the_loss_and_the_hidden_states():
    _, theirs = pair(f"{RATIO}/05-ra")
    batch = torch.arange(20).view(1, 20)
    out = theirs(batch, labels=batch, output_hidden_states=True)
    wanted = torch.nn.functional.cross_entropy(out.logits[0, :-1], batch[0, 1:])
    assert out.loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert len(out.hidden_states) == theirs.config.num_hidden_layers + 1
    assert torch.equal(theirs.lm_head(out.hidden_states[-1]), out.logits)
    last = theirs(batch, logits_to_keep=2).logits
    assert apart(last, out.logits[:, -2:]) <= ALMOST and last.shape[1] == 2


def test_every_slot_is_written():
    """config.json names every field of the class: no default is one that a run relies on."""
    written = set(remote_code.slots(run_settings(values(EVERYTHING)).model))
    fields = {field.name for field in dataclasses.fields(KablateConfig)}
    common = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    by_both = {"vocab_size", "tie_word_embeddings"}
    assert fields - common - by_both == written - {"auto_map"}


def test_the_file_stands_alone():
    """Nothing of this project, at most 500 lines, and nothing here imports it."""
    text = remote_code.source().decode()
    assert len(text.splitlines()) <= 500
    imports = [
        line.split()[1].split(".")[0]
        for line in text.splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imports) == {"math", "typing", "torch", "transformers"}
    name = modeling_kablate.__name__.rpartition(".")[2]
    for path in (ROOT / "gpt2").rglob("*.py"):
        written = path.read_text(encoding="utf-8")
        assert f"import {name}" not in written and f"{name} import" not in written


def test_it_carries_what_the_others_do():
    others = {name: has for name, has in CARRIES["hf"].items() if name != REMOTE}
    assert all(has <= CARRIES["hf"][REMOTE] for has in others.values())
