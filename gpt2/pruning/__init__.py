"""Pruning: criteria, schedule, masks."""

from gpt2.pruning.build import build
from gpt2.pruning.pruner import Pruner

__all__ = ["Pruner", "build"]
