"""A throw-away checkout with the real Kconfig and a stub that trains nothing."""

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from gpt2.settings.run import run_settings
from kconf.dotconfig import write, write_python
from kconf.strict import Tree
from matrix import run
from matrix.plan.cells import Plan, make_plan
from records.cell import CellRecord, read_cell
from records.manifest import Manifest, Split, dataset_dir, streams_sha256
from records.manifest import write_manifest

ROOT = Path(__file__).resolve().parents[2]
RUN = "import os, sys; from pathlib import Path; from matrix import run; "
RUN += "from gpt2.settings.run import run_settings; "
RUN += "run._report = lambda plan: None; "
RUN += "sys.exit(run.main(sys.argv[2:], os.environ, Path(sys.argv[1]), sys.executable, "
RUN += "run_settings))"

BASE = """\
CONFIG_RA_MLA_ABLATION_MODE=y
CONFIG_STUDY="toy"
CONFIG_SEEDS="1-2"
CONFIG_GPT2_SIZE_TINY=y
CONFIG_GPT2_MAX_ITERS=3
CONFIG_DEVICE_CPU=y
"""
STEPS = {
    "00-control": "# Help: the base\n",
    "02-wide": "# Help: a wider MLP\nCONFIG_MLP_DIM=1024\n",
    "08-hot": '# Help: a higher rate\nCONFIG_LEARNING_RATE="1e-3"\n',
}


class Checkout:
    """The directory, and what a person does in it."""

    def __init__(self, root: Path):
        self.root = root
        self.base = BASE
        for kconfig in ROOT.rglob("Kconfig"):
            self._copy(kconfig)
        for room in ("kconf", "records"):
            for source in (ROOT / room).glob("*.py"):
                self._copy(source)
        for room in ("gpt2", "kernels"):
            (root / room).mkdir(exist_ok=True)
            (root / room / "__init__.py").touch()
        self._copy(ROOT / "gpt2" / "distributed" / "torchrun.py")
        stub = Path(__file__).with_name("stub_train.py")
        shutil.copyfile(stub, root / "gpt2" / "train_ra_mla.py")
        for name, text in STEPS.items():
            self.step(name, text)
        self.stub()
        self.configure()

    def _copy(self, source: Path) -> None:
        target = self.root / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def step(self, name: str, text: str) -> None:
        """Write one step of the study."""
        folder = self.root / "defconfigs" / "toy.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.config").write_text(text)

    def configure(self, *lines: str) -> None:
        """Write .config from the base and these lines, and pack its corpus."""
        defconfig = self.root / "base.config"
        defconfig.write_text(self.base)
        extra = self.root / "extra.config"
        extra.write_text("".join(f"{line}\n" for line in lines))
        tree = Tree(self.root)
        resolved = tree.resolve([defconfig, extra])
        write(self.root / ".config", tree, resolved)
        write_python(self.root / "config.py", tree, resolved)
        self.pack(resolved.values)

    def pack(self, values: dict, sha: str = "a" * 64, tokens: int = 9999) -> None:
        """A manifest where the configuration looks for its corpus."""
        place = dataset_dir(self.root / values["DATA_DIR"], values)
        place.mkdir(parents=True, exist_ok=True)
        split = Split(("x.bin",), tokens, 1, tokens, sha)
        splits = {"train": split, "val": split}
        whole = streams_sha256(splits)
        manifest = Manifest(
            "stdlib", "byte", 257, "uint16", splits, whole, sha, None, None, 0.0
        )
        write_manifest(place, manifest)

    def stub(self, **rules: object) -> None:
        """How the stub behaves; a key is a step or a rule."""
        keys = {
            name.replace("_", "-", 1) if name[0].isdigit() else name: rule
            for name, rule in rules.items()
        }
        (self.root / "stub.json").write_text(json.dumps(keys))

    def plan(self, everyone: bool = False, **environment: str) -> Plan:
        """The plan of the configuration on two cores."""
        return make_plan(
            self.root,
            environment,
            lambda: "cpu",
            run_settings,
            cores=2,
            everyone=everyone,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """The runner, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.root), *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The runner to its end, in this process: (exit status, output)."""
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            status = run.main(
                list(arguments), environment, self.root, sys.executable, run_settings
            )
        return status, output.getvalue()

    @property
    def cells(self) -> dict[str, CellRecord]:
        """{"STEP/seed-K": record} of every run directory."""
        found = {}
        for path in sorted((self.root / "results").glob("*/*/seed-*/????????")):
            found["/".join(path.parts[-3:-1])] = read_cell(path)
        return found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch) -> Checkout:
    """A fresh checkout; the report after a run has its own tests."""
    monkeypatch.setattr(run, "_report", lambda plan: None)
    return Checkout(tmp_path)
