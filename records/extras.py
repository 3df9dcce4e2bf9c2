"""Packages that only some tasks need: requirements-NAME.txt."""

import sys


def installing(name: str) -> str:
    """The command that installs an extra for the Python that runs this."""
    return f"{sys.executable} -m pip install -r requirements-{name}.txt"
