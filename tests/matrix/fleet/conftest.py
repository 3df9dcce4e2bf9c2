"""Machines without the libraries of GPU vendors, whatever this one has."""

import sys

import pytest


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Neither library is installed; a test puts in what it needs."""

    def installed(name: str, module: object) -> None:
        monkeypatch.setitem(sys.modules, name, module)

    for name in ("pynvml", "amdsmi"):
        installed(name, None)
    return installed
