"""Bytes of a training run in memory, from its settings."""

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
        pruning=pruning.state_bytes(net)[settings.pruning.kind],
    )


def memory_estimate(settings: RunSettings, micro_batch: int) -> int:
    """Estimated peak bytes of a rank that trains with this micro-batch, run eagerly.

    Its share of weights, gradients, optimizer state, masks and scores (AdamW: 16
    bytes per parameter) + what the micro-batch adds (gpt2/model/costs.py).
    """
    held = training_bytes(settings, meta_model(settings.model))
    share = chosen(settings).bytes_per_rank(held, settings.train.ranks)
    return share + activation_bytes(settings, micro_batch)
