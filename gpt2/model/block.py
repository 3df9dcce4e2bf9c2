"""One transformer block, pre-norm."""

from collections.abc import Iterator
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import nn

from gpt2.model.initial import Constant, InitialLaw, Matrix
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mlp.mlp import Mlp
from gpt2.model.norm import added, build_norm
from gpt2.model.values import BlockToBlock, CacheSize, LayerCache, Positions, Products
from gpt2.settings.run import ModelSettings

CHOSEN = {
    "gpt2.model.mixers.attention.attention": (
        "MIXER_ATTENTION",
        "attention in MIXER_LAYERS",
    ),
    "gpt2.model.mixers.deltanet": ("MIXER_DELTANET", "deltanet in MIXER_LAYERS"),
    "gpt2.model.mixers.gdn": ("MIXER_GDN", "gdn in MIXER_LAYERS"),
    "gpt2.model.mixers.gla": ("MIXER_GLA", "gla in MIXER_LAYERS"),
    "gpt2.model.mixers.linear": ("MIXER_LINEAR", "linear in MIXER_LAYERS"),
    "gpt2.model.mixers.mamba2": ("MIXER_MAMBA2", "mamba2 in MIXER_LAYERS"),
    "gpt2.model.mixers.nsa.nsa": ("MIXER_NSA", "nsa in MIXER_LAYERS"),
    "gpt2.model.mixers.retnet": ("MIXER_RETNET", "retnet in MIXER_LAYERS"),
}
"""The one list of mixers (gpt2/model/mixers/mixer.py): the module of each, whose MIXER
it is, and the symbols that choose it (records/imports.py).
"""
MODULES = {module.split(".")[3]: module for module in CHOSEN}


def build_mixer(settings: ModelSettings, layer: int, decoder: str) -> Mixer:
    """The mixer of a layer. decoder: see GPT."""
    module = import_module(MODULES[settings.layers[layer].name])
    return module.MIXER(settings, decoder)


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)) (GPT-2, section 2.3).

    What a block reads from the previous one and gives the next one is a value:
    an argument and a result of forward. Whatever the mixer is, its parameters are
    called `attn`: so they are in checkpoints, and so they pair between steps.
    """

    def __init__(self, settings: ModelSettings, layer: int, decoder: str = "reference"):
        super().__init__()
        self.norm1 = build_norm(settings)
        self.attn = build_mixer(settings, layer, decoder)
        self.norm2 = build_norm(settings)
        self.mlp = Mlp(settings, last=layer == settings.depth - 1)
        self.dropout = settings.dropout

    def forward(
        self,
        x_BnE: torch.Tensor,
        y_BnE: torch.Tensor | None,
        context: BlockToBlock,
        positions: Positions,
        cache: LayerCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, BlockToBlock, LayerCache | None]:
        """The residual stream, the context for the next block, the grown cache.

        The stream is x + y, on the way in and out: y is what the last branch adds
        (None: nothing yet), and the next norm reads both in the pass that adds them.
        """
        mixer, mlp = cache or (None, None)
        x_BnE, normed_BnE = added(self.norm1, x_BnE, y_BnE)
        y_BnE, given, mixer = self.attn(normed_BnE, context, positions, mixer)
        x_BnE, normed_BnE = added(self.norm2, x_BnE, self._drop(y_BnE))
        y_BnE, context, mlp = self.mlp(normed_BnE, given, positions, mlp)
        cache = None if cache is None else LayerCache(mixer, mlp)
        return x_BnE, self._drop(y_BnE), context, cache

    def _drop(self, x_BnE: torch.Tensor) -> torch.Tensor:
        return F.dropout(x_BnE, self.dropout, self.training)

    def empty_cache(self, x_BnE: torch.Tensor) -> LayerCache:
        """A cache of no tokens, shaped for x."""
        return LayerCache(self.attn.empty_cache(x_BnE), self.mlp.empty_cache(x_BnE))

    def cache_size(self, tokens: int) -> CacheSize:
        """What a decode holds after so many tokens."""
        return self.attn.cache_size(tokens) + self.mlp.cache_size(tokens)

    def products(self, T: int) -> Products:
        """Multiply-adds of a token that no parameter accounts for."""
        mlp = self.mlp.products(T, self.attn.keys(T))
        return Products(*map(sum, zip(self.attn.products(T), mlp)))

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """The logical matrices of both branches."""
        yield from self.attn.matrices(f"{prefix}.attn")
        yield from self.mlp.matrices(f"{prefix}.mlp")

    def initial_laws(self, prefix: str) -> Iterator[Constant | InitialLaw]:
        """Norms at 1, and where what the branches learn besides starts."""
        for name in ("norm1", "norm2"):
            yield Constant(f"{prefix}.{name}.weight", getattr(self, name).weight, 1.0)
        yield from self.attn.initial_laws(f"{prefix}.attn")
        yield from self.mlp.initial_laws(f"{prefix}.mlp")

    def late(self, prefix: str) -> Iterator[str]:
        """See Mixer."""
        yield from self.attn.late(f"{prefix}.attn")
