"""A study as somebody sent it, with code and compiled graphs that do harm: `make` goes
on with it and runs none of that.
"""

import importlib.util
import marshal
import os
import pickle
import shutil
from pathlib import Path

import pytest

HARM = "open({!r}, 'a').write({!r})\n"


class Harm:
    """What notes its name when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple:
        return exec, (HARM.format(str(self.place), "pickle "),)


@pytest.fixture
def ran(checkout) -> Path:
    """The file in which whatever runs notes its name."""
    return checkout.root.parent / f"{checkout.root.name}-ran"


def send(checkout, ran: Path, code: Path) -> None:
    """Put a snapshot into the results, with what python would import beside it."""
    received = checkout.root / "results" / ".code" / code.name
    if received != code:
        shutil.copytree(code, received)
    (received / "numpy.py").write_text(HARM.format(str(ran), "numpy "))
    source = received / "gpt2" / "training" / "cell.py"
    info = source.stat()
    text = HARM.format(str(ran), "bytecode ") + source.read_text()
    head = importlib.util.MAGIC_NUMBER + bytes(4)
    head += int(info.st_mtime).to_bytes(4, "little") + info.st_size.to_bytes(
        4, "little"
    )
    found = Path(importlib.util.cache_from_source(str(source)))
    found.parent.mkdir()
    found.write_bytes(head + marshal.dumps(compile(text, str(source), "exec")))


def test_a_study_with_its_code_is_gone_on_with(checkout, ran):
    """It planned, trained one cell, and is sent."""
    checkout.toy(GPT2_MAX_ITERS="3", GPT2_EVAL_INTERVAL="3")
    assert checkout.make("data").status == 0
    assert checkout.make(STEPS="0").status == 0
    (first,) = checkout.cells().values()
    send(checkout, ran, Path(first.run["command"][1]).parents[1])
    for target in ("plan", "estimate", "all", "report"):
        done = checkout.make(target)
        assert done.status == 0 and not ran.exists(), done.output
    assert [cell.state for cell in checkout.cells().values()] == ["done", "done"]


@pytest.mark.slow
def test_compiled_graphs_do_not_come_with_results(checkout, ran):
    """Every entry of a cache that a real run filled is one that does harm."""
    compiled = {"GPT2_COMPILE": "y", "GPT2_MAX_ITERS": "2", "GPT2_EVAL_INTERVAL": "2"}
    checkout.toy({"00-control": "# Help: the base\n"}, GPT2_LAYERS="1", **compiled)
    assert checkout.make("data").status == 0
    cache, temporary = checkout.root / "mine", checkout.root / "tmp"
    given = {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)}
    done = checkout.make(SEEDS="1", **given)
    assert done.status == 0, done.output
    (first,) = checkout.cells().values()
    filled = Path(first.attempts[0]["caches"]["TORCHINDUCTOR_CACHE_DIR"])
    received = checkout.root / "results" / ".cache" / "inductor"
    if received != filled:
        shutil.copytree(filled, received)
    entries = [
        path
        for kind in ("fxgraph", "aotautograd")
        for path in (received / kind).rglob("*")
        if path.is_file()
    ]
    assert entries, "nothing was compiled"
    for path in entries:
        path.write_bytes(pickle.dumps(Harm(ran)))
    done = checkout.make(SEEDS="2", **given)
    assert done.status == 0, done.output
    assert not ran.exists(), ran.read_text()
    second = checkout.cells()["00-control/seed-2"]
    taken = [cell.summary["time_to_first_step"] for cell in (first, second)]
    assert taken[1] < 0.6 * taken[0], "the user's own cache is not used"
    inside = [path.name for path in temporary.iterdir()]
    assert inside == [f"kablate-{os.getuid()}"], "torch's own folder lies in it"
