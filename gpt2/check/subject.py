"""What a proof looks at: one step, its settings, a small real model of it."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from gpt2 import optim
from gpt2.init import initialise
from gpt2.model import GPT
from gpt2.settings import RunSettings

LAYERS = 3
CONTEXT = 48
DIVISOR = 8
VOCABULARY = 97
SEED = 1


class Broken(Exception):
    """A promise that a step does not keep; the text says what was found."""


@dataclass(frozen=True)
class Subject:
    """One step under check.

    settings: as it would train. claims: as the study's own defconfig states it,
    at full width, with the `# Expect:` lines that were made for it.
    """

    name: str
    settings: RunSettings
    claims: RunSettings
    expect: dict[str, str]

    @cached_property
    def small(self) -> RunSettings:
        """The settings of the small real model: 3 layers, T=48, widths / 8."""
        model = replace(
            self.settings.model,
            layers=LAYERS,
            block_size=CONTEXT,
            vocab_size=VOCABULARY,
            width_divisor=DIVISOR,
            dropout=0.0,
        )
        return replace(self.settings, model=model)

    def build(self, seed: int = SEED) -> GPT:
        """A fresh small model on the CPU, in training mode."""
        model = GPT(self.small.model)
        initialise(model, seed, self.settings.train.init_salt)
        return model

    def tokens(self, batch: int = 2, seed: int = 0) -> torch.Tensor:
        """Random tokens_BT over the whole vocabulary, T one more than the context."""
        stream = torch.Generator().manual_seed(seed)
        return torch.randint(0, VOCABULARY, (batch, CONTEXT + 1), generator=stream)

    def loss(self, model: GPT, batch: int = 2, seed: int = 0) -> torch.Tensor:
        """The training loss on random tokens."""
        rows = self.tokens(batch, seed)
        return model(rows[:, :-1], rows[:, 1:])

    def optimizer(self, model: GPT) -> torch.optim.Optimizer:
        """The step's optimizer at its peak learning rate."""
        return optim.build(model, self.settings.optim)


def require(condition: bool, promise: str) -> None:
    """Raise Broken(promise) unless the condition holds."""
    if not condition:
        raise Broken(promise)
