"""What a proof looks at: one step, its settings, a small real model of it."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from gpt2 import optim, pruning
from gpt2.data.documents import starts_of
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.run import ModelSettings, RunSettings

LAYERS = 3
CONTEXT = 48
DIVISOR = 8
LENGTH_DIVISOR = 16
VOCABULARY = 97
EDGE = 8
LONG_CONTEXT = 256
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
        """The settings of the small real model: T=48, widths / 8 (or what of 8 divides
        them and leaves a head its width), lengths / 16 likewise, the fewest layers, 3 at
        least, that hold every pair of neighbours, and a band and a window of 8, so that their edges lie
        inside the sequence.
        """
        model, edges = self.settings.model, {}
        if model.attention is not None:
            ends = {"ra_band": model.attention.ra, "window": model.attention.window}
            edges = {name: EDGE if there else None for name, there in ends.items()}
        model = replace(
            model.with_attention(**edges),
            depth=_depth(self.settings.model.pattern),
            block_size=CONTEXT,
            vocab_size=VOCABULARY,
            width_divisor=_divisor(self.settings),
            length_divisor=_length_divisor(self.settings.model),
            dropout=0.0,
            mixer_impl="auto",
        )
        return replace(self.settings, model=model)

    def build(
        self,
        seed: int = SEED,
        context: int = CONTEXT,
        dropout: float = 0.0,
        depth: int | None = None,
        impl: str | None = None,
    ) -> GPT:
        """A fresh small model on the CPU, in training mode. impl: what computes its
        attention, None: as configured.
        """
        shape = replace(
            self.small.model,
            block_size=context,
            dropout=dropout,
            depth=depth or self.small.model.depth,
        )
        if impl is not None:
            shape = shape.with_attention(impl=impl)
        model = GPT(shape)
        initialise(model, seed, self.settings.train.init_salt)
        return model

    @torch.no_grad()
    def randomised(
        self, dropout: float = 0.0, impl: str | None = None, context: int = CONTEXT
    ) -> GPT:
        """A small model in float64 with every parameter away from its initial
        value: gates that act, biases that are not zero, factors that differ.
        """
        model = self.build(context=context, dropout=dropout, impl=impl).double()
        stream = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=stream)
            parameter.add_(spread(parameter) * noise)
        return model

    def implementations(self, of: tuple[str, ...]) -> list[str | None]:
        """Those that serve its attention; as configured where it has none."""
        model = self.small.model
        if model.attention not in model.layers:
            return [None]
        return [impl for impl in of if not model.obstacle(impl)]

    def autocast(self) -> torch.autocast:
        """The step's compute type, on the CPU."""
        bf16 = self.settings.system.dtype == "bf16"
        return torch.autocast("cpu", torch.bfloat16, enabled=bf16)

    def long_tokens(self) -> torch.Tensor:
        """One random sequence of the configured context length, 256 at most."""
        T = min(self.settings.model.block_size, LONG_CONTEXT)
        stream = torch.Generator().manual_seed(7)
        return torch.randint(0, VOCABULARY, (1, T), generator=stream)

    def tokens(self, batch: int = 2, seed: int = 0) -> torch.Tensor:
        """Random tokens_BT over the whole vocabulary, T one more than the context."""
        stream = torch.Generator().manual_seed(seed)
        return torch.randint(0, VOCABULARY, (batch, CONTEXT + 1), generator=stream)

    def loss(self, model: GPT, batch: int = 2, seed: int = 0) -> torch.Tensor:
        """The training loss on random tokens."""
        rows = self.tokens(batch, seed)
        return model(*self.halves(rows))

    def halves(
        self, rows_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What a training step hands to the model: tokens, targets, and with
        CONFIG_DOCUMENTS_APART=y where the documents begin.
        """
        tokens_BT = rows_BT[:, :-1]
        return tokens_BT, rows_BT[:, 1:], self.starts(tokens_BT)

    def starts(self, tokens_BT: torch.Tensor) -> torch.Tensor | None:
        """Where documents begin, one token of `tokens()` taken for the separator;
        None where documents see each other.
        """
        if not self.small.model.documents_apart:
            return None
        separator = self.tokens()[0, CONTEXT // 2].item()
        return starts_of(tokens_BT, separator)

    def optimizer(self, model: GPT) -> torch.optim.Optimizer:
        """The step's optimizer at its peak learning rate."""
        return optim.build(model, self.settings.optim)

    def pruner(
        self, model: GPT, optimizer: torch.optim.Optimizer
    ) -> pruning.Pruner | None:
        """The step's pruner with an update at every step, None when it prunes
        nothing.
        """
        settings = replace(self.settings.pruning, frequency=1)
        return pruning.build(model, optimizer, settings, self.settings.optim)


def block_matrices(model: GPT) -> dict[str, torch.nn.Parameter]:
    """The blocks' matrices by name, as a reader of their names finds them: of two
    dimensions, and no filters of a convolution.
    """
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("h.") and parameter.dim() > 1 and ".conv_" not in name
    }


def spread(parameter: torch.Tensor) -> float:
    """The deviation that keeps a matrix's outputs as large as its inputs; 0.3 for
    a vector.
    """
    return parameter.shape[1] ** -0.5 if parameter.dim() > 1 else 0.3


def _depth(pattern: tuple[str, ...]) -> int:
    """The fewest layers, LAYERS at least, that hold every mixer next to each that
    follows it anywhere, over the seam of the pattern too.
    """
    turn = len(pattern)
    names = [pattern[i % turn] for i in range(2 * turn + LAYERS)]
    pairs = list(zip(names, names[1:]))
    return next(
        depth
        for depth in range(max(LAYERS, turn), len(names))
        if set(pairs[: depth - 1]) == set(pairs)
    )


def _divisor(settings: RunSettings) -> int:
    """The largest divisor up to 8 that every width of the model allows."""
    model = settings.model
    widths = [model.width // model.heads, model.mlp.dim]
    widths.append(model.attention and model.attention.mla_latent)
    widths += [model.mlp.attn_gate_rank, model.mlp.cross_token_rank]
    widths += [width for layer in set(model.layers) for width in layer.widths.values()]
    shared = math.gcd(*(width for width in widths if width))
    if model.position == "rope":
        shared //= 2
    if settings.pruning.pattern == "2:4":
        shared //= 4
    return max(d for d in range(1, DIVISOR + 1) if shared % d == 0)


def _length_divisor(model: ModelSettings) -> int:
    """The largest divisor up to 16 that every length of the mixers allows."""
    lengths = [each for layer in set(model.layers) for each in layer.lengths.values()]
    shared = math.gcd(*lengths)
    return max(d for d in range(1, LENGTH_DIVISOR + 1) if shared % d == 0)


def require(condition: bool, promise: str) -> None:
    """Raise Broken(promise) unless the condition holds."""
    if not condition:
        raise Broken(promise)
