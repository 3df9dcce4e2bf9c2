"""Moments that grow as they should: each step counted once, spikes clipped."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from gpt2 import optim
from gpt2.check.subject import Subject, require
from gpt2.model.initial import STD, InitialLaw, Matrix
from gpt2.settings.run import OptimSettings

STEPS, QUIET = 8, 25
SPIKE, LATE = 1e9, -7.0
TOLERANCE = 1e-4


class _Toy(nn.Module):
    """A matrix of a block, which decays, and three weights that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ParameterDict({"matrix": torch.ones(4, 4)})
        self.bias = nn.Parameter(torch.zeros(3))

    def matrices(self) -> Iterator[Matrix]:
        """The one."""
        yield Matrix("matrix", self.h["matrix"], STD)

    def initial_laws(self) -> Iterator[InitialLaw]:
        """None."""
        yield from ()


class _Steps:
    """An optimizer over the toy, fed gradients of the three weights."""

    def __init__(self, settings: OptimSettings):
        self.toy = _Toy()
        self.optimizer = optim.build(self.toy, settings)

    def take(self, *g: float) -> torch.Tensor:
        """One step; by how much it moved the weights."""
        before = self.toy.bias.detach().clone()
        self.toy.bias.grad = torch.tensor(g)
        self.toy.h["matrix"].grad = torch.ones(4, 4)
        self.optimizer.step()
        return self.toy.bias.detach() - before

    def moment(self, name: str) -> torch.Tensor:
        """A moment of the three weights."""
        return self.optimizer.state[self.toy.bias][name].clone()


def moments(subject: Subject) -> None:
    """Under a constant gradient every step of an optimizer with moments moves a
    weight by the learning rate: the bias correction counts each step once.

    AdamWSPAM clips a spike to √(θ v), never a first gradient after v = 0, and
    its resets empty both moments.
    """
    asked = subject.settings.optim
    if asked.kind == "sgd":
        return
    quiet = replace(asked, spam_interval=0) if asked.kind == "adamwspam" else asked
    steps = _Steps(quiet)
    for step in range(1, STEPS + 1):
        moved = steps.take(1.0, -2.0, 3.0)
        _equal(
            moved / asked.lr,
            [-1.0, 1.0, -1.0],
            f"step {step} under a constant gradient, in learning rates,",
        )
    if asked.spam_theta:
        _clipping(quiet)
    if asked.spam_interval:
        _reset(replace(asked, spam_interval=3, spam_warmup=min(asked.spam_warmup, 2)))


def _clipping(settings: OptimSettings) -> None:
    steps = _Steps(settings)
    for _ in range(QUIET):
        steps.take(1.0, 0.0, 1.0)
    m, v = steps.moment("exp_avg"), steps.moment("exp_avg_sq")
    _equal(v, [1 - settings.beta2**QUIET, 0, 1 - settings.beta2**QUIET], "v")
    steps.take(SPIKE, LATE, 1.0)
    bound = min(SPIKE, (settings.spam_theta * v[0].item()) ** 0.5)
    steady = min(1.0, (settings.spam_theta * v[2].item()) ** 0.5)
    found = (steps.moment("exp_avg") - settings.beta1 * m) / (1 - settings.beta1)
    _equal(found, [bound, LATE, steady], "what SPAM makes of a spike, a first and")


def _reset(settings: OptimSettings) -> None:
    steps = _Steps(settings)
    for _ in range(3):
        steps.take(1.0, 1.0, 1.0)
    moved = steps.take(2.0, 2.0, 2.0)
    _equal(
        steps.moment("exp_avg_sq"),
        [4 * (1 - settings.beta2)] * 3,
        "v after a reset and one step",
    )
    if settings.spam_reset_correction:
        scale = 0.01 if settings.spam_warmup else 1.0
        _equal(moved / settings.lr, [-scale] * 3, "the first step after a reset")


def _equal(found: torch.Tensor, wanted: list[float], what: str) -> None:
    require(
        torch.allclose(found, torch.tensor(wanted), rtol=TOLERANCE, atol=1e-12),
        f"{what} is {found.tolist()}, it should be {wanted}",
    )
