"""Every script begins and ends through records/entry.py, and imports late.

torch is a stand-in here, which says that it is being imported and never gets done.
"""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
LIGHT = {"records", "records.arguments", "records.doing"}
"""What a script may import of ours before it knows what it is to do."""
ANSWERS = [path for path in SCRIPTS if path.name not in ("doctor.py", "with_args.py")]
"""Those that know --help: doctor has no arguments, with_args.py passes its on."""
STAND_IN = """
import os, time
open(os.environ["MARK"], "w").close()
time.sleep(60)
raise ImportError("nobody interrupted")
"""
RUN = "results/study/step/seed-1/01234567"


def named(path: Path) -> str:
    return path.name


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME")}
    return {**kept, "KCONFIG_CONFIG": "/nonexistent/.config", **more}


@pytest.fixture
def stand_in(tmp_path) -> dict[str, str]:
    """An environment with the stand-in, which writes the file MARK."""
    package = tmp_path / "path" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    mark = str(tmp_path / "mark")
    return environment(PYTHONPATH=str(package.parent), MARK=mark)


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_a_script_ends_in_entry_run(path):
    *body, last = ast.parse(path.read_text(encoding="utf-8")).body
    ending = r"if __name__ == '__main__':\n    entry\.run\(main(, '[\w ]+')?\)"
    assert re.fullmatch(ending, ast.unparse(last))
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {a.name for n in imports if isinstance(n, ast.Import) for a in n.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    ours = {n for n in names if n.split(".")[0] not in sys.stdlib_module_names}
    assert ours <= LIGHT and "records" in ours
    assert "sys.exit(main" not in ast.unparse(body)


def test_what_scripts_import_first_is_light():
    """Nothing but the standard library stands behind it."""
    names = ", ".join(sorted({*LIGHT, "records.entry"} - {"records"}))
    show = f"import {names}, sys; print(*(m.split('.')[0] for m in sys.modules))"
    words = [sys.executable, "-S", "-c", show]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert foreign <= {"records", "__main__", "sitecustomize", "usercustomize"}


@pytest.mark.parametrize("path", ANSWERS, ids=named)
def test_help_in_ascii_and_to_nobody(path, stand_in):
    """Before torch is imported; 141 where the reader has left."""
    words = [sys.executable, str(path), "--help"]
    stand_in["MARK"] = "/nonexistent/mark"  # torch is an error
    narrow = {**stand_in, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=narrow, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and b"usage: " in done.stdout and not done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        words, env=stand_in, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (141, b"")


SLOW = {
    "aot": ["scripts/aot.py"],
    "bench": ["scripts/bench.py"],
    "bench_decode": ["scripts/bench_decode.py", "--out=x"],
    "bench_optimizers": ["scripts/bench_optimizers.py"],
    "check": ["gpt2/train_ra_mla.py", "--dry-run"],
    "check_kernels": ["scripts/check_kernels.py"],
    "doctor": ["scripts/doctor.py"],
    "eval": ["scripts/eval.py", "--run=docs", "--text=x"],
    "export": ["scripts/export.py", "docs"],
    "facts": ["gpt2/train_ra_mla.py", "--facts", "x"],
    "generate": ["scripts/generate.py", "docs"],
}
"""What imports torch, by what it is called with."""


@pytest.mark.parametrize("name", SLOW)
def test_an_interrupt_while_torch_is_imported(stand_in, name):
    process = subprocess.Popen(
        [sys.executable, *SLOW[name]],
        cwd=ROOT,
        env=stand_in,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not os.path.exists(stand_in["MARK"]) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 130, said
    assert said.endswith("interrupted\n") and "Traceback" not in said


def make(*words: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", "-C", str(ROOT), f"PYTHON={sys.executable}", *words],
        env=environment(**variables),
        capture_output=True,
        encoding="utf-8",
    )


REFUSED = {
    f"generate RUN={RUN} TEMPERATURE=hot": "TEMPERATURE=hot: must be a number at le",
    f"generate RUN={RUN} TOKENS=0": "TOKENS=0: must be a whole number, at least 1",
    f"generate RUN={RUN} TOP_P=2": "TOP_P=2: must be a number above 0, at most 1",
    f"generate RUN={RUN} STOP=a||b": "STOP=a||b: holds an empty string between |",
    f"export RUN={RUN} FORMAT=xyz": "FORMAT=xyz: must be one of hf, gguf, native",
    f"export RUN={RUN} DTYPE=int8": "DTYPE=int8: must be one of fp32, bf16, f16",
    "eval": "one of RUN=… and STUDY=… is needed",
    f"eval RUN={RUN}": "nothing to evaluate on: TEXT=file, TASKS=a,b or both",
    f"eval RUN={RUN} TEXT=a SHOTS=2": "LIMIT and SHOTS belong to TASKS=a,b",
    f"eval RUN={RUN} TEXT=a BATCH=0": "BATCH=0: must be a whole number, at least 1",
    "bench PART=x": "PART=x: must be some of attention,recurrence,training, separated by commas",
    "bench STEPS=a": "STEPS=a: 'a' is not a number or a range",
    "bench RESUME=x": "RESUME=x: must be a file that is there",
    "aot JOBS=0": "JOBS=0: must be a whole number, at least 1",
    "anchor TEXT=x": "TEXT=x: must be a file that is there",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_in_makes_words_before_torch(stand_in, words):
    done = make(*words.split(), PYTHONPATH=stand_in["PYTHONPATH"], MARK="/nonexistent")
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"error: {REFUSED[words]}")
    assert len(rest) == 1 and rest[0].startswith("make: *** ")


def test_a_pipe_that_closes_behind_make():
    reader, writer = os.pipe()
    os.close(reader)
    words = ["make", "-C", str(ROOT), f"PYTHON={sys.executable}", "list-defconfigs"]
    streams = {"stdout": writer, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    done = subprocess.run([*words, "-s"], env=environment(), **streams)
    os.close(writer)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Error 141" in done.stderr


def test_gpu_test_without_a_gpu(stand_in):
    """An error, where every test would be skipped."""
    torch = "class cuda:\n    is_available = staticmethod(lambda: False)\n"
    Path(stand_in["PYTHONPATH"], "torch", "__init__.py").write_text(torch)
    done = make("gpu-test", PYTHONPATH=stand_in["PYTHONPATH"])
    assert done.returncode == 2 and "skipped" not in done.stdout
    assert "error: torch finds no GPU here (`make doctor` says" in done.stderr
