"""Models of every architecture in defconfigs/, small, randomised, ready to leave."""

from functools import cache
from typing import Any

import torch

from gpt2.data.tokenization.bpe import train, trained
from gpt2.data.tokenization.tokenizers import ByteTokenizer, Tokenizer
from gpt2.export.bundle import Parcel, pack
from gpt2.generation.generate import Trained
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import run_settings
from kconf.overrides import Overrides
from kconf.presets import presets
from kconf.strict import Tree
from kconf.study import list_steps, resolve_step, study_dir
from tests.conftest import ROOT

SMALLER = Overrides(
    {"GPT2_LAYERS": "2", "GPT2_BLOCK_SIZE": "24", "GPT2_VOCAB_SIZE": "300"}
)
DEEPER = {"gpt2-hybrid-ablation": {"GPT2_LAYERS": "4"}}
"""Studies whose pattern of mixers needs more."""
BASES, OVERLAYS = presets(ROOT)
STEPS = {
    name: {step.id: step for step in list_steps(ROOT, name)}
    for name in BASES
    if study_dir(ROOT, name).is_dir()
}
# Studies of optimizers and pruning train the network of gpt2-124m.
ALONE = ("anchor-cpu", "anchor-gpu", "gpt2-124m")
ARCHITECTURES = [*ALONE, *(f"{name}/{step}" for name in STEPS for step in STEPS[name])]
LLAMA = "llama-85m-ablation/00-llama"
HOMES = {
    "anchor-cpu": "gpt2",
    "anchor-gpu": "gpt2",
    "gpt2-124m": "gpt2",
    "gpt2-ratio-ablation/02-golden-ratio": "gpt2",
    LLAMA: "llama",
    f"{LLAMA} ROPE_BASE=500": "llama",
    "llama-85m-ablation/01-mha": "llama",
    "llama-85m-ablation/06-bias": "llama",
}
"""Networks that transformers knows, of every kind, by their name there."""


@cache
def values(name: str) -> dict[str, Any]:
    """At the scale of the overlay tiny, in two layers, with 300 tokens; after a
    blank, symbols to change: STUDY/STEP ROPE_BASE=500.
    """
    name, *changes = name.split(" ")
    base, _, step = name.partition("/")
    written = dict(change.split("=") for change in changes)
    changed = Overrides({**SMALLER, **DEEPER.get(base, {}), **written})
    tree, stages = _tree(), (BASES[base], OVERLAYS["tiny"], changed)
    if step:
        return resolve_step(tree, stages, STEPS[base][step]).values
    return tree.resolve(stages).values


@cache
def _tree() -> Tree:
    return Tree(ROOT)


def bpe() -> Tokenizer:
    """A tokenizer of 300 tokens, trained on this file."""
    return trained(train([(ROOT / "tests/gpt2/parcels.py").read_text()], 300))


def randomised(name: str, tokenizer: Tokenizer | None = None) -> Trained:
    """The architecture in fp32 with every parameter away from its start."""
    model = GPT(run_settings(values(name)).model)
    initialise(model, 1)
    stream = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
    return Trained(model.eval(), tokenizer or ByteTokenizer())


def parcel(name: str, trained: Trained, dtype: str = "fp32", whole: bool = False):
    """The parcel of such a model."""
    origin = {"symbols": values(name), "run": {"commit": None}}
    return pack(trained, origin, dtype, whole)


def tokens(trained: Trained | Parcel, count: int = 24) -> torch.Tensor:
    """Two random sequences."""
    stream = torch.Generator().manual_seed(3)
    return torch.randint(0, trained.tokenizer.eot, (2, count), generator=stream)
