"""Optimizers and learning-rate schedules."""

from gpt2.optim.build import build, decayed_names, resolve_update
from gpt2.optim.schedule import learning_rate

__all__ = ["build", "decayed_names", "learning_rate", "resolve_update"]
