"""Bytes of a training run, from its settings: in memory, and in a checkpoint."""

from torch import nn

from gpt2 import optim, pruning
from gpt2.distributed.build import chosen
from gpt2.distributed.distribution import TrainingBytes
from gpt2.model.costs import activation_bytes, meta_model
from gpt2.settings.run import RunSettings

FLOAT = 4


def training_bytes(settings: RunSettings, net: nn.Module) -> TrainingBytes:
    """What training holds of the whole model; net: the model, on any device."""
    weights = FLOAT * sum(parameter.numel() for parameter in net.parameters())
    return TrainingBytes(
        weights=weights,
        gradients=weights,
        optimizer=optim.facts(settings.optim).state_bytes(net),
        pruning=pruning.state_bytes(net, settings.pruning),
    )


def memory_estimate(settings: RunSettings, micro_batch: int) -> int:
    """Estimated peak bytes of a rank that trains with this micro-batch, run eagerly.

    Its share of weights, gradients, optimizer state, masks and scores (AdamW: 16
    bytes per parameter) + what the micro-batch adds (gpt2/model/costs.py).
    """
    held = training_bytes(settings, meta_model(settings.model))
    share = chosen(settings).bytes_per_rank(held, settings.train.ranks)
    return share + activation_bytes(settings, micro_batch)


def checkpoint_bytes(settings: RunSettings, net: nn.Module) -> int:
    """Of the tensors of a resume checkpoint, which holds no gradients."""
    held = training_bytes(settings, net)
    return held.weights + held.optimizer + held.pruning
