"""From the settings to the way in which a cell's ranks share its model."""

from gpt2.distributed.ddp import DataParallel
from gpt2.distributed.distribution import Distribution
from gpt2.distributed.ranks import ALONE, Ranks
from gpt2.model.gpt import GPT
from gpt2.settings.run import RunSettings


def chosen(settings: RunSettings) -> type[Distribution]:
    """The configured one; there is one."""
    return DataParallel


def build(settings: RunSettings, model: GPT, ranks: Ranks = ALONE) -> Distribution:
    """The configured one, of a model on its device."""
    system = settings.system
    return chosen(settings)(model, ranks, system.param_dtype, system.compile)
