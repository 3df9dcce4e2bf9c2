"""What counts for a cell of this project: what it trains with, and nothing else."""

import ast
import shutil
from pathlib import Path

import pytest

from records import imports
from records.codehash import IDENTITY_ROOMS, Code, source_files
from tests.conftest import ROOT

# Of the rooms whose code counts, what trains nothing.
ROOMS = tuple(f"gpt2/{room}" for room in ("check", "evaluation", "export"))
ROOMS += ("gpt2/generation", "gpt2/measure")
LIVE = {"DATASET_FINEWEBEDU": "y", "DATA_ON_THE_FLY": "y"}
CELLS = {
    "packed": {},
    "on the fly": LIVE,
    "two ranks": {"GPUS_PER_RUN": "2", "EFFECTIVE_BATCH": "64"},
    "pruned": {"PRUNING_MAGNITUDE": "y", "MLA": "y", "MLP_LATENT_RECIP": "y"},
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The code in a folder of its own, to be edited."""
    root = tmp_path_factory.mktemp("code")
    for room in ("gpt2", "kernels"):
        shutil.copytree(
            ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root


@pytest.fixture(scope="module")
def cells(resolve) -> dict[str, dict]:
    """The values of the cells."""
    return {name: resolve(symbols) for name, symbols in CELLS.items()}


@pytest.fixture(scope="module")
def files(copy, cells) -> dict[str, dict[str, str]]:
    """What counts for each, nothing edited."""
    return {name: Code(copy).of(values) for name, values in cells.items()}


def changed(copy, cells, files, name: str) -> set[str]:
    """The cells whose code another line in a file changes."""
    path = copy / name
    text = path.read_text()
    path.write_text(text + "\n# a remark\n")
    try:
        return {cell for cell in cells if Code(copy).of(cells[cell]) != files[cell]}
    finally:
        path.write_text(text)


def files_of(room: str) -> list[str]:
    """All files of a folder but what python leaves there."""
    paths = (ROOT / room).rglob("*")
    kept = (p for p in paths if p.is_file() and p.parent.name != "__pycache__")
    return sorted(path.relative_to(ROOT).as_posix() for path in kept)


INSIDE = [name for room in ROOMS for name in files_of(room)]


@pytest.mark.parametrize("name", INSIDE)
def test_a_remark_in_what_trains_nothing_changes_no_cell(copy, cells, files, name):
    assert not changed(copy, cells, files, name)


def test_no_file_of_other_rooms_counts(files):
    """So that nothing in matrix/, records/, kconf/, scripts/ or docs/ does."""
    for found in files.values():
        assert {name.split("/")[0] for name in found} == set(IDENTITY_ROOMS)
        assert not set(found) & set(INSIDE)


EDITED = {
    "gpt2/train_ra_mla.py": set(CELLS),
    "gpt2/training/process.py": set(CELLS),
    "gpt2/training/trainer.py": set(CELLS),
    "gpt2/model/norm.py": set(CELLS),
    "gpt2/optim/schedule.py": set(CELLS),
    "kernels/norm/kernel.py": set(CELLS),
    "gpt2/data/loading/on_the_fly.py": set(CELLS),
    "gpt2/data/loading/feeder.py": {"on the fly"},
    "gpt2/data/tokenization/bpe.py": {"on the fly"},
    "gpt2/data/sources/hub.py": {"on the fly"},
    "gpt2/distributed/torchrun.py": {"two ranks"},
    "gpt2/model/mlp/latent.py": {"pruned"},
    "gpt2/model/mixers/attention/attention.py": set(CELLS),
    "gpt2/model/mixers/linear.py": set(),
    "gpt2/model/mixers/mamba2.py": set(),
    "gpt2/model/mixers/recurrent.py": set(),
    "gpt2/model/quantiles.py": set(),
    "gpt2/settings/mixers/linear.py": set(),
    "gpt2/settings/mixers/mamba2.py": set(),
    "gpt2/model/mixers/nsa/nsa.py": set(),
    "gpt2/model/mixers/nsa/phi.py": set(),
    "gpt2/settings/mixers/nsa.py": set(),
    "kernels/nsa/reference.py": set(),
    "gpt2/model/mixers/recurrence_impl.py": set(CELLS),
    "kernels/recurrence/chunked.py": set(),
    "kernels/recurrence/configs.py": set(),
    "kernels/recurrence/kernel.py": set(),
    "kernels/recurrence/reference.py": set(),
    "gpt2/model/mlp/attn_gate.py": set(),
    "gpt2/data/packing/prepare.py": set(),
    "gpt2/settings/pruning_names.py": set(),
    "kernels/aot.py": set(),
    "kernels/attention/check.py": set(),
}


@pytest.mark.parametrize("name", EDITED)
def test_a_remark_in_what_trains(copy, cells, files, name):
    """Packed text was encoded before; the dataset's hash is that of its tokens."""
    assert changed(copy, cells, files, name) == EDITED[name]


# -- what no walk sees is declared


def test_what_is_declared_is_there_and_counts_where_it_is_chosen(copy, cells, files):
    told = 0
    for path in source_files(copy, IDENTITY_ROOMS):
        for module, conditions in imports.read(path.read_bytes()).chosen.items():
            file = copy / (module.replace(".", "/") + ".py")
            assert file.is_file(), f"{path}: {module}"
            for cell, values in cells.items():
                chosen = any([imports.holds(each, values) for each in conditions])
                counts = file.relative_to(copy).as_posix() in files[cell]
                assert counts or not chosen, f"{module} in {cell}"
            told += 1
    assert told >= 3


def sources() -> dict[str, ast.Module]:
    """The files that any cell may run, whatever it chooses."""
    found, ahead = {}, ["gpt2.train_ra_mla"]
    while ahead:
        path = ROOT / (ahead.pop().replace(".", "/") + ".py")
        path = path if path.is_file() else path.with_suffix("") / "__init__.py"
        name = path.relative_to(ROOT).as_posix()
        if (
            name in found
            or not path.is_file()
            or name.split("/")[0] not in IDENTITY_ROOMS
        ):
            continue
        source = imports.read(path.read_bytes())
        found[name] = ast.parse(path.read_bytes())
        chosen = [module for module, conditions in source.chosen.items() if conditions]
        ahead += [
            *source.imports,
            *(p for each in chosen for p in imports.prefixes(each)),
        ]
    return found


COMPUTED = {"import_module", "__import__", "spec_from_file_location", "runpy", "exec"}
STARTS = {"subprocess", "multiprocessing", "executable", "ProcessPoolExecutor"}
STARTS |= {"fork", "forkpty", "posix_spawn", "posix_spawnp", "popen", "os.system"}
STARTS |= {f"{how}{end}" for how in ("exec", "spawn") for end in ("v", "ve", "vp", "l")}


def words(tree: ast.Module) -> set[str]:
    """Every name and attribute in a file, A.B for a name's own, and its imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found |= {node.attr, f"{getattr(node.value, 'id', '')}.{node.attr}"}
        elif isinstance(node, ast.alias):
            found |= set(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            found |= set(node.module.split("."))
    return found


def test_nothing_is_imported_by_a_computed_name_but_as_declared():
    for name, tree in sources().items():
        found = words(tree) & COMPUTED
        declared = imports.read((ROOT / name).read_bytes()).chosen
        assert not found or (found == {"import_module"} and declared), name


def test_every_process_that_a_run_starts_is_declared():
    """Beside what starts it: the module whose name stands in a text there."""
    starting = {n: tree for n, tree in sources().items() if words(tree) & STARTS}
    assert set(starting) == {
        "gpt2/data/loading/on_the_fly.py",  # the feeder
        "gpt2/distributed/torchrun.py",  # the ranks, by torch, with the entry
    }
    named = {name: named_in_texts(tree) for name, tree in starting.items()}
    assert named["gpt2/data/loading/on_the_fly.py"] == {"gpt2.data.loading.feeder"}
    for name, modules in named.items():
        source = imports.read((ROOT / name).read_bytes())
        assert modules <= {*source.imports, *source.chosen}, name


def named_in_texts(tree: ast.Module) -> set[str]:
    """Modules of ours whose dotted name or path stands in a text that is no docstring."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docs
    ]
    ours = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in source_files(ROOT, IDENTITY_ROOMS)
    }
    return {
        module.replace("/", ".")
        for module in ours
        for text in texts
        if module.replace("/", ".") in text or f"{module}.py" in text
    }
