"""A small Kconfig tree with every feature that the strict merge must judge."""

from pathlib import Path

import pytest

from kconf.dotconfig import render
from kconf.strict import Tree

ROOT = Path(__file__).resolve().parents[2]

TOY = """
mainmenu "toy"

menu "Shape"

config FLAG
	bool "Flag"
	help
	  [identity]

config FORCED
	bool "Forced"
	help
	  [identity]

config FORCER
	bool "Forcer"
	select FORCED
	help
	  [identity]

config NARROW
	bool "Narrow"
	help
	  [identity]

config WIDTH
	int "Width"
	range 1 100
	default 10
	help
	  [identity]

config DEPTH
	int "Depth"
	range 1 5 if NARROW
	range 1 50
	default 3
	help
	  [identity]

config OFFSET
	int "Offset"
	default 0
	help
	  [identity]

config LATENT
	int "Latent"
	depends on FLAG && !NARROW
	default 4
	help
	  [identity]

config HIDDEN
	int "Hidden" if FLAG
	default 8 if BLUE
	default 7
	help
	  [identity]

config AREA
	int
	default 100 if FLAG
	default 50
	help
	  [identity]

choice COLOUR
	prompt "Colour"
	default RED

config RED
	bool "red"
	help
	  [identity]

config BLUE
	bool "blue"
	help
	  [identity]

config GREEN
	bool "green"
	depends on FLAG
	help
	  [identity]

endchoice

endmenu

menu "Running"

config JOBS
	int "Jobs"
	range 0 8
	default 0
	help
	  [operational]

config RATE
	string "Rate"
	default "0.1"
	help
	  [identity]

config STUDY_OVERLAYS
	string "Overlays"
	default ""
	help
	  [operational]

endmenu
"""


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    (root / "Kconfig").write_text(TOY)
    return root


@pytest.fixture(scope="session")
def toy(toy_root) -> Tree:
    return Tree(toy_root)


@pytest.fixture(scope="session")
def real() -> Tree:
    """This repository's own tree."""
    return Tree(ROOT)


@pytest.fixture
def write(tmp_path):
    """write(name, text or bytes) -> Path"""

    def save(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        return path

    return save


@pytest.fixture
def full(toy) -> str:
    """The text of the toy's default .config."""
    return render(toy, toy.resolve([]))
