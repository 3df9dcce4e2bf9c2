"""Bytes of tensors that live at the same time, counted as the operators make them."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that what `run` makes takes at once, real or fake tensors; a
    storage counts once, from the operator that made it until nobody holds it.
    """
    with _Live() as live:
        run()
    return live.peak


class _Live(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._bytes: dict[int, int] = {}
        self._now = self.peak = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        made = operator(*args, **(kwargs or {}))
        for storage in _storages(made):
            key = storage._cdata
            if key not in self._bytes and key not in given:
                self._bytes[key] = storage.nbytes()
                self._now += storage.nbytes()
                weakref.finalize(storage, self._freed, key)
        self.peak = max(self.peak, self._now)
        return made

    def _freed(self, key: int) -> None:
        self._now -= self._bytes.pop(key)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    tensors = (x for x in tree_leaves(values) if isinstance(x, torch.Tensor))
    return [tensor.untyped_storage() for tensor in tensors]
