"""Results that somebody else sent hold code; none of it is run.

The plants are of every kind that python imports, in the results and, as if it had
been damaged, in the user's own cache. Each would note its name in a file.
"""

import importlib.util
import marshal
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2.data.loading import on_the_fly
from kconf.overrides import COMMAND_LINE
from matrix.fleet.place import Slot
from matrix.launch.slurm import Slurm
from matrix.plan import device
from matrix.trackers import wandb_files
from matrix.trackers.target import TrackerError
from records import codehash, private

ENTRY = "gpt2/train_ra_mla.py"
TAG = f"__pycache__/{{}}.{sys.implementation.cache_tag}.pyc"


def harm(name: str, place: Path) -> str:
    """Source that notes the name and imports what it hides, as far as it can."""
    return f"open({str(place / 'ran')!r}, 'a').write({name + chr(10)!r})\n"


def bytecode(source: Path, text: str, flags: int) -> bytes:
    """A .pyc of `text` that python takes for that of the file `source`.

    flags 0: by its time and size; 1: by nothing at all (PEP 552, unchecked).
    """
    code = marshal.dumps(compile(text, str(source), "exec"))
    info = source.stat()
    seal = (
        struct.pack("<II", int(info.st_mtime), info.st_size) if not flags else b"8" * 8
    )
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", flags) + seal + code


def plant(code: Path, place: Path) -> None:
    """Everything beside the hashed files: what each would do is written to `place`."""

    def put(name: str, content: str | bytes) -> None:
        path = code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    put("secrets.py", harm("module", place))
    put("numpy/__init__.py", harm("package", place))
    put("sitecustomize.py", harm("sitecustomize", place))
    put("usercustomize.py", harm("usercustomize", place))
    put("a.pth", f"import os; {harm('pth', place)}")
    for name in ("argparse", "signal", "torch"):  # the script's own folder
        loose = compile(harm(name, place), name, "exec")
        head = importlib.util.MAGIC_NUMBER + bytes(12)
        put(f"gpt2/{name}.pyc", head + marshal.dumps(loose))
        put(f"gpt2/{name}/__init__.pyc", head + marshal.dumps(loose))
    for name, flags in (("atomic", 0), ("jsonl", 1)):
        source = code / "records" / f"{name}.py"
        own = source.read_text() + harm(f"pyc {flags}", place)
        put(f"records/{TAG.format(name)}", bytecode(source, own, flags))
    for folder, entry in (("gpt2", "train_ra_mla"), ("gpt2/distributed", "torchrun")):
        source = code / folder / f"{entry}.py"
        own = harm(entry, place) + source.read_text()
        put(f"{folder}/{TAG.format(entry)}", bytecode(source, own, 1))
    outside = place / "outside.py"
    outside.write_text(harm("link", place))
    (code / "heapq.py").symlink_to(outside)


@pytest.fixture
def own(monkeypatch, tmp_path_factory) -> Path:
    """A cache that this test alone uses."""
    base = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))
    return base / "kablate"


def snapshot_of(checkout) -> Path:
    """Where the cells' code lies."""
    commands = [cell.run["command"] for cell in checkout.cells.values()]
    (entry,) = {word for words in commands for word in words if word.endswith(ENTRY)}
    return Path(entry).parents[1]


@pytest.mark.parametrize("where", ["results", "cache"])
def test_nothing_beside_the_code_is_run(checkout, own, tmp_path_factory, where):
    place = tmp_path_factory.mktemp("place")
    assert checkout.run(SEEDS="1", STEPS="0")[0] == 0
    code = snapshot_of(checkout)
    received = checkout.root / "results" / ".code" / code.name
    if where == "results" and received != code:
        shutil.copytree(code, received)
        plant(received, place)
    else:
        plant(code, place)
    shutil.rmtree(checkout.root / "results" / "toy")
    status, output = checkout.run(SEEDS="1")
    assert status == 0, output
    ran = place / "ran"
    assert not ran.exists(), ran.read_text()
    files = codehash.hash_rooms(checkout.root, codehash.SNAPSHOT_ROOMS)[1]
    found = {p for p in snapshot_of(checkout).rglob("*") if not p.is_dir()}
    assert {p.relative_to(code).as_posix() for p in found} == set(files)


def test_two_ranks_run_none_of_it_either(checkout, own, tmp_path_factory):
    """Nor does the launcher that starts them."""
    shutil.copyfile(
        Path(__file__).with_name("stub_torchrun.py"),
        checkout.root / "gpt2" / "distributed" / "torchrun.py",
    )
    place = tmp_path_factory.mktemp("place")
    checkout.configure("CONFIG_GPUS_PER_RUN=2", "CONFIG_EFFECTIVE_BATCH=64")
    assert checkout.run(SEEDS="1", STEPS="0")[0] == 0
    plant(snapshot_of(checkout), place)
    status, output = checkout.run(
        "rerun", SEEDS="1", STEPS="0", **{COMMAND_LINE: "SEEDS"}
    )
    assert status == 0, output
    assert not (place / "ran").exists(), (place / "ran").read_text()


def test_what_runs_from_a_snapshot_is_told_so(checkout, own, monkeypatch):
    """With what its children inherit: -P and -B, in facts and in cells."""
    stub = checkout.root / "gpt2" / "train_ra_mla.py"
    text = (
        "\nprint(sys.flags.safe_path, sys.flags.dont_write_bytecode, file=sys.stderr)"
    )
    text += "\nwith open('flags', 'a') as said: print("
    text += (
        "sys.flags.safe_path, sys.flags.dont_write_bytecode, *sys.argv, file=said)\n"
    )
    stub.write_text(stub.read_text().replace("\nSTOP = []", text + "\nSTOP = []"))
    for name in codehash.FROM_SNAPSHOT:
        monkeypatch.delenv(name, raising=False)
    assert checkout.run(SEEDS="1", STEPS="0")[0] == 0
    said = (checkout.root / "flags").read_text().splitlines()
    assert [line.split()[:2] for line in said] == [["True", "1"]] * 2
    assert "--facts" in said[0] and "--run-dir" in said[1]


LINKS = ["train.log", ".submit", "stacks.txt", "checkpoint"]
LINKS += ["checkpoint/step-000000001.pt", "diverged/weights.pt"]


@pytest.mark.parametrize("slurm", [False, True])
@pytest.mark.parametrize("name", LINKS)
def test_no_run_writes_through_a_link(checkout, own, tmp_path_factory, name, slurm):
    """A run that its sender did not finish: going on would append to any file."""
    outside = tmp_path_factory.mktemp("outside") / "mine"
    outside.mkdir() if name == "checkpoint" else outside.write_text("mine\n")
    plan = checkout.plan(STEPS="0", SEEDS="1")
    (cell,) = plan.pending
    (cell.dir.path / name).parent.mkdir(parents=True)
    (cell.dir.path / name).symlink_to(outside)
    if slurm:
        with pytest.raises(OSError, match=f"{name} is a link"):
            Slurm(plan, sys.executable, {"time": 0.0}, print).start(cell, Slot())
        assert [path.name for path in cell.dir.path.iterdir()] == [Path(name).parts[0]]
    else:
        status, output = checkout.run(SEEDS="1")
        assert (
            status == 1
            and f"cannot be started: {cell.dir.path / name} is a link" in (output)
        )
        assert [c.state for c in checkout.cells.values()].count("done") == 2
    if name == "checkpoint":
        assert not any(outside.iterdir())
    else:
        assert outside.read_text() == "mine\n"


def test_the_cell_of_a_received_study_runs_on(checkout, own):
    """Older records, with their own .code and .cache, are read as before."""
    assert checkout.run(SEEDS="1")[0] == 0
    shutil.copytree(snapshot_of(checkout), checkout.root / "results" / ".code" / "0")
    (checkout.root / "results" / ".cache" / "inductor").mkdir(parents=True)
    shutil.rmtree(own)
    status, output = checkout.run()
    assert status == 0 and "3 done, 3 new" in output, output
    assert private.cache_home() == own and (own / "code").is_dir()


def test_what_lies_where_the_terminal_is_is_not_run(tmp_path, monkeypatch):
    """Reading received results from inside their folder; a mirror's is called wandb."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text(harm("json", tmp_path))
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__main__.py").write_text(harm("wandb", tmp_path))
    answer, said = device._run_python(
        sys.executable, "import json; print(json.__name__)"
    )
    assert (answer, (tmp_path / "ran").exists()) == ("json", False), said
    monkeypatch.setattr(wandb_files, "require_extra", lambda name: None)
    with pytest.raises(TrackerError):
        list(wandb_files.records(tmp_path / "none.wandb"))
    assert not (tmp_path / "ran").exists()


def test_the_process_beside_a_run_searches_its_own_code_alone():
    """It is started as python -c, which searches where the run was started."""
    flags = "import sys; print(sys.flags.safe_path, sys.flags.dont_write_bytecode, "
    child = (
        on_the_fly.CHILD.partition("from ")[0].format("/code") + flags + "sys.path[0])"
    )
    argv = [*on_the_fly.PYTHON, "-c", child]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "1", "/code"]
