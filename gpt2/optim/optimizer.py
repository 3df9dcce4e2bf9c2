"""What the file of an optimizer offers.

gpt2/optim/KIND.py, KIND as in OPTIMIZER_KIND, in lower case:

    FACTS: OptimizerFacts
    facts(settings) -> OptimizerFacts
    build(groups, settings, one_pass) -> torch.optim.Optimizer

FACTS: under whatever settings, at most; facts: under these. build: over two groups, of
which the first decays (gpt2/optim/build.py); one_pass: its steps will be taken by
kernels/adamw, asked of those alone whose facts have it.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from gpt2.model.initial import products
from gpt2.settings.run import OptimSettings

Groups = list[dict[str, Any]]

FLOAT = 4  # bytes of a number that an optimizer keeps of a weight
MOMENTS = ("exp_avg", "exp_avg_sq")
"""torch's names of the first and the second moment."""
MOMENTUM = ("momentum_buffer",)


@dataclass(frozen=True)
class OptimizerFacts:
    """What is asked of an optimizer that nobody has built.

    matrix_state, other_state: names of the fp32 tensors that it keeps of a parameter,
    each of the parameter's shape: of those that decay and of all others. elementwise:
    a weight's step depends on its own gradient and state alone, so that a weight whose
    gradient and state are 0 stays where it is. one_pass: kernels/adamw takes its step.
    """

    matrix_state: tuple[str, ...] = ()
    other_state: tuple[str, ...] = ()
    elementwise: bool = True
    one_pass: bool = False

    def state_bytes(self, model: nn.Module) -> int:
        """Bytes of the state over a model's parameters, on any device, meta too."""
        decayed = decayed_names(model)
        numbers = 0
        for name, parameter in model.named_parameters():
            kept = self.matrix_state if name in decayed else self.other_state
            numbers += parameter.numel() * len(kept)
        return FLOAT * numbers


def decayed_names(model: nn.Module) -> set[str]:
    """Parameters that weight decay acts on, of a GPT: the blocks' matrices.

    Norms, biases, filters and embeddings (with the tied head) are left alone.
    """
    return {name for name in products(model) if name.startswith("h.")}


def moment_arguments(settings: OptimSettings) -> dict[str, Any]:
    """The arguments of every optimizer with moments: rate, betas, epsilon."""
    return {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.eps,
    }
