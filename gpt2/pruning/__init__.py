"""Pruning: criteria, schedule, masks."""

from gpt2.pruning.pruner import Pruner, build, state_bytes

__all__ = ["Pruner", "build", "state_bytes"]
