"""From the settings to the way in which a cell's ranks share its model."""

from functools import partial

from gpt2.distributed.ddp import DataParallel
from gpt2.distributed.distribution import Distribution
from gpt2.distributed.ranks import ALONE, Ranks
from gpt2.model.compiled import compiled
from gpt2.model.gpt import GPT
from gpt2.settings.run import RunSettings


def chosen(settings: RunSettings) -> type[Distribution]:
    """The configured one; there is one."""
    return DataParallel


def build(settings: RunSettings, model: GPT, ranks: Ranks = ALONE) -> Distribution:
    """The configured one, of a model on its device."""
    system, compiler = settings.system, None
    if system.compile:
        compiler = partial(compiled, blockwise=system.compile_blocks)
    return chosen(settings)(model, ranks, system.param_dtype, compiler)
