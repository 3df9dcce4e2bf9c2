"""Optimizers and learning-rate schedules."""

from gpt2.optim.build import build, facts, kinds, resolve_update, state_bytes
from gpt2.optim.optimizer import decayed_names
from gpt2.optim.schedule import learning_rate

__all__ = [
    "build",
    "decayed_names",
    "facts",
    "kinds",
    "learning_rate",
    "resolve_update",
    "state_bytes",
]
