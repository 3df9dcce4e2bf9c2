"""The house rules that a machine can check: imports, file lengths, excepts."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("kconf", "records", "gpt2", "kernels", "matrix", "scripts")

# Room -> what it may import beside the standard library and itself.
MAY_IMPORT = {
    "kconf": {"records"},
    "records": set(),
    "kernels": {"torch", "triton"},
    "gpt2": {"kernels", "kconf", "records", "torch", "numpy"},
    "matrix": {"kconf", "records", "numpy", "scipy", "matplotlib", "rich"},
    "scripts": {*ROOMS, "torch"},
}

# File (or folder, ending in /) -> modules it may import as well, and why.
EXCEPTIONS = {
    # the one place that parses Kconfig and computes values, visibility, choices
    "kconf/tree.py": {"kconfiglib"},
    # takes back the values that one merge set in that tree
    "kconf/scratch.py": {"kconfiglib"},
    # menuconfig is kconfiglib's own
    "scripts/kconfig.py": {"menuconfig"},
    # the one place that trains and encodes BPE; runs read shards, not text
    # corpora: streams, and files in compressed or columnar form
    "gpt2/data/sources/hub.py": {"datasets"},
    "gpt2/data/sources/columns.py": {"datasets", "pandas", "pyarrow"},
    "gpt2/data/sources/rows.py": {"pyarrow"},
    "gpt2/data/sources/expand.py": {"zstandard"},
    # the drivers' libraries, both optional
    "records/gpu_readers.py": {"pynvml", "amdsmi"},
    "gpt2/data/tokenization/bpe.py": {"tiktoken", "tiktoken_ext", "tokenizers"},
    "gpt2/data/tokenization/merges.py": {"tokenizers"},
    # a tracker is imported where its sink is made, in the mirror's own process
    "matrix/trackers/trackio_sink.py": {"trackio"},
    "matrix/trackers/wandb_sink.py": {"wandb"},
    # imported where W&B's server is asked
    "matrix/published/cloud.py": {"wandb"},
    # exports: the formats' own libraries, imported when asked for
    "gpt2/export/tokenizer.py": {"tokenizers"},
    "gpt2/export/safetensors_file.py": {"safetensors"},
    "gpt2/export/huggingface.py": {"transformers"},
    # neither is imported: one is copied into exports, one a process of its own
    "gpt2/export/modeling_kablate.py": {"transformers"},
    "gpt2/export/loaded_alone.py": {"transformers"},
    "gpt2/export/gguf.py": {"gguf"},
    "gpt2/export/onnx.py": {"onnx", "onnx_ir", "onnxruntime", "onnxscript"},
    # the extra `eval`: models as lm-evaluation-harness sees them, and its tasks
    "gpt2/evaluation/harness.py": {"lm_eval"},
    "gpt2/evaluation/tasks.py": {"lm_eval"},
    # what a task's YAML would run, read before lm-eval loads it
    "gpt2/evaluation/taskcode.py": {"yaml"},
}

# What other processes read settings through must work without torch.
TORCHLESS = ("kconf/", "records/", "gpt2/settings/", "matrix/")

# The floors of the two big rooms, from the ground up: what stands on one imports only
# what stands on it or below.
FLOORS = {
    "gpt2": (
        *("settings", "data", "model", "optim", "pruning", "distributed", "training"),
        *("generation", "evaluation", "export", "check", "measure", "train_ra_mla"),
    ),
    "matrix": (
        *("units", "results", "settings", "plan", "fleet", "launch", "evidence"),
        *("report", "trackers", "published", "watch", "evidence_commands", "run"),
    ),
    "gpt2.data": ("shards", "permutation", "documents", *("sources", "tokenization"))
    + ("packing", "loading"),
}
MOST_IN_A_ROOT = 6

LONGEST = 600
LONGEST_KERNEL = 900
LONGEST_FUNCTION = 80
LONGEST_SCRIPT = 80


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports(path):
    room = name_of(path).split("/")[0]
    allowed = {room} | MAY_IMPORT[room] | EXCEPTIONS.get(name_of(path), set())
    forbidden = imported(path) - allowed
    assert not forbidden, f"{name_of(path)} may not import {sorted(forbidden)}"


def test_exceptions_are_needed():
    for name, modules in EXCEPTIONS.items():
        room = name.split("/")[0]
        used = imported(ROOT / name) - MAY_IMPORT[room]
        assert modules <= used, f"{name} does not need {sorted(modules - used)}"


@pytest.mark.parametrize("room", TORCHLESS)
def test_settings_need_no_torch(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files and not [name_of(f) for f in files if "torch" in imported(f)]


def own_imports() -> dict[str, set[str]]:
    """module -> the modules of ours that it imports, wherever in it."""
    names = [name_of(p)[:-3].replace("/", ".") for p in sources()]
    modules = {n.removesuffix(".__init__"): p for n, p in zip(names, sources())}
    found = {}
    for module, path in modules.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= inner & set(modules) or {node.module}
        found[module] = named & set(modules)
    return found


@pytest.mark.parametrize("house", FLOORS)
def test_no_import_runs_up(house):
    floors, inside = FLOORS[house], house + "."
    up = [
        f"{module} imports {other}"
        for module, others in own_imports().items()
        for other in others
        if module.startswith(inside) and other.startswith(inside)
        if floors.index(part(module, house)) < floors.index(part(other, house))
    ]
    assert not up


def part(module: str, house: str) -> str:
    """The room or file right below the house in which a module lies."""
    return module.removeprefix(house + ".").split(".")[0]


def test_no_import_is_a_circle():
    graph = own_imports()
    gone: set[str] = set()
    while ready := {m for m in graph if m not in gone and graph[m] <= gone}:
        gone |= ready
    assert not set(graph) - gone, "these import each other, or what does"


@pytest.mark.parametrize("room", ["gpt2", "matrix"])
def test_a_root_hides_no_house(room):
    files = [path.name for path in (ROOT / room).glob("*.py")]
    assert len(files) <= MOST_IN_A_ROOT, f"{room}/ has {sorted(files)}"


def test_mechanisms_do_not_import_each_other():
    """Slots are composed in attention.py, with its cores, and mlp.py, nowhere else;
    mixers know what all share, and none another.
    """
    composers = {
        "mixers/attention": {"attention.py", "cores.py", "heads.py"},
        "mlp": {"mlp.py"},
    }
    for folder, composing in composers.items():
        inside = folder.replace("/", ".")
        for path in sorted((ROOT / "gpt2/model" / folder).glob("*.py")):
            if path.name in composing:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                module = getattr(node, "module", None) or ""
                assert not module.startswith(
                    (f"gpt2.model.{inside}.", "gpt2.model.block")
                ), f"{name_of(path)} imports {module}"


def test_mixers_do_not_import_each_other():
    room = "gpt2.model.mixers."
    names = ("mixer", "head_gates", "statistic", "recurrence_impl")
    names += ("recurrent", "convolution", "decays")
    shared = {f"{room}{name}" for name in names}
    for module, others in own_imports().items():
        if module.startswith(room):
            own = module.removeprefix(room).split(".")[0]
            inside = {o for o in others if o.startswith(room)}
            foreign = {o for o in inside - shared if part(o, room[:-1]) != own}
            assert not foreign, f"{module} imports {sorted(foreign)}"


def test_kernels_do_not_import_their_reference():
    for path in (ROOT / "kernels").rglob("kernel*.py"):
        assert ".reference" not in path.read_text(), name_of(path)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_lengths(path):
    lines = path.read_text().count("\n")
    limit = LONGEST_KERNEL if name_of(path).startswith("kernels/") else LONGEST
    if name_of(path).startswith("scripts/"):
        limit = LONGEST_SCRIPT
    assert lines <= limit, f"{name_of(path)} has {lines} lines, at most {limit}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            where = f"{name_of(path)}:{node.lineno} {node.name}"
            assert length <= LONGEST_FUNCTION, f"{where} has {length} lines"


def test_lengths_of_tests():
    files = sorted((ROOT / "tests").rglob("*.py"))
    lines = {name_of(path): path.read_text().count("\n") for path in files}
    assert lines and not {name: n for name, n in lines.items() if n > LONGEST}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_except_that_hides(path):
    """No bare except; a broad one re-raises."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            if (node.type)
            else {"everything"}
        )
        if names & {"everything", "Exception", "BaseException"}:
            raises = any(isinstance(n, ast.Raise) for n in ast.walk(node))
            assert raises, f"{name_of(path)}:{node.lineno} catches {sorted(names)}"


READS_OR_WRITES_TEXT = ("open", "fdopen", "read_text", "write_text")
TEMPORARY = ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile")


def text_without_encoding(path: Path) -> list[str]:
    """Calls that take the locale's encoding for a file or for a program's output."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg for keyword in node.keywords}
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        words = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
        modes = [w.value for w in words if isinstance(w, ast.Constant)]
        modes = [m for m in modes if isinstance(m, str) and set(m) <= set("rwaxbt+")]
        binary = any("b" in mode for mode in modes)
        files = last in READS_OR_WRITES_TEXT
        foreign = name.startswith(("atomic.", "os.open", "tarfile.", "sink."))
        temporary = last in TEMPORARY and modes
        text = (files and not foreign or temporary) and not binary
        if (
            text
            and "encoding" not in given
            or (
                name.startswith("subprocess.")
                and given & {"text", "universal_newlines"}
            )
        ):
            found.append(f"{name_of(path)}:{node.lineno} {name}")
    return found


def test_text_is_utf8_whatever_the_locale():
    assert not [call for path in sources() for call in text_without_encoding(path)]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_public_things_have_docstrings(path):
    tree = ast.parse(path.read_text())
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), f"{name_of(path)} does not say what it is for"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_":
            assert ast.get_docstring(node), f"{name_of(path)}: {node.name}"


def test_settings_are_read_in_one_place():
    """Mechanisms take settings as values: no environment below what is started."""
    allowed = {f"gpt2/check/{name}.py" for name in ("command_line", "run", "studies")}
    allowed.add("gpt2/training/process.py")
    allowed.add("gpt2/export/transformers_alone.py")  # gives a process its own
    for path in sorted((ROOT / "gpt2").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        reads = any(getattr(n, "attr", "") in ("environ", "getenv") for n in nodes)
        assert not reads or name_of(path) in allowed, name_of(path)


NAMED = re.compile(
    rf"(?<![\w/.])(?:{'|'.join(ROOMS)}|tests|docs|defconfigs)/[\w./*+-]*"
)


def prose() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CLAUDE.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("path", prose(), ids=name_of)
def test_prose_names_what_is_there(path):
    """A path in prose exists, but for the NAMES that a reader puts in."""
    named = {name.rstrip(".,") for name in NAMED.findall(path.read_text())}
    there = {n for n in named if re.search("[A-Z]{2}", n) or any(ROOT.glob(n))}
    assert named - there == set()


@pytest.mark.parametrize("house", ["gpt2", "matrix"])
def test_the_readme_shows_every_room(house):
    """Below the house's line in the tree, one room or more on a line."""
    text = (ROOT / "README.md").read_text()
    lines = re.search(rf"^{house}/ .*\n((?:  .*\n)*)", text, re.M)[1].splitlines()
    heads = [re.match(r"  ((?:\w+/ )+)", line) for line in lines]
    shown = [room for head in heads if head for room in head[1].split()]
    rooms = {f"{path.parent.name}/" for path in (ROOT / house).glob("*/__init__.py")}
    assert sorted(shown) == sorted(rooms)


ALLOWED = {"torch", "numpy", "triton"}
ONLY_THOSE = """
import importlib.metadata, sys
names = importlib.metadata.packages_distributions()
bare = set(sys.argv[1].split(","))
needed = {"typing_extensions", "sympy", "mpmath", "jinja2", "markupsafe"}
needed |= {"networkx", "filelock", "fsspec", "setuptools", "torchgen", "functorch"}
import torch, numpy
class Missing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in names and top not in bare | needed:
            raise ModuleNotFoundError(f"{name} on a machine without it")
sys.meta_path.insert(0, Missing())
import gpt2.training.cell
"""


def test_a_cell_runs_with_torch_and_numpy_alone():
    """requirements.txt says so; what packs, plans and reports is not needed."""
    command = [sys.executable, "-c", ONLY_THOSE, ",".join(ALLOWED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
