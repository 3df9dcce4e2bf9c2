"""Optimizers and learning-rate schedules."""

from gpt2.optim.build import KINDS, build, decayed_names, facts, resolve_update
from gpt2.optim.schedule import learning_rate

__all__ = [
    "KINDS",
    "build",
    "decayed_names",
    "facts",
    "learning_rate",
    "resolve_update",
]
