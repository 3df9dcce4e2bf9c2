"""Bytes of a training run, from its settings: in memory, and in a checkpoint."""

from torch import nn

from gpt2 import optim, pruning
from gpt2.model.costs import activation_bytes, meta_model
from gpt2.settings.run import RunSettings

FLOAT = 4


def memory_estimate(settings: RunSettings, micro_batch: int) -> int:
    """Estimated peak bytes of training with this micro-batch, run eagerly.

    Weights, gradients, optimizer state, masks and scores (AdamW: 16 bytes per
    parameter) + what the micro-batch adds (gpt2/model/costs.py).
    """
    net = meta_model(settings.model)
    gradients = FLOAT * _parameters(net)
    held = checkpoint_bytes(settings, net) + gradients
    return held + activation_bytes(settings, micro_batch)


def checkpoint_bytes(settings: RunSettings, net: nn.Module) -> int:
    """Of the tensors of a resume checkpoint: fp32 weights, what the optimizer keeps
    of them, masks and scores. net: the model, on any device.
    """
    state = optim.facts(settings.optim).state_bytes(net)
    return FLOAT * _parameters(net) + state + pruning.state_bytes(net, settings.pruning)


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
