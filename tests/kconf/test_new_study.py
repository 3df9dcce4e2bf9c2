"""make new-study: what it writes loads and checks as it is."""

import shutil
from pathlib import Path

import pytest

from kconf import cli
from kconf.presets import presets, said_in
from kconf.strict import Tree
from kconf.study import list_steps, prove
from tests.conftest import ROOT

STEPS = "RA_MLA_ABLATION_STEPS"


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The Kconfig files of the project, and a copy of its defconfigs."""
    for kconfig in ROOT.rglob("Kconfig"):
        target = tmp_path / kconfig.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kconfig, target)
    shutil.copytree(ROOT / "defconfigs", tmp_path / "defconfigs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KCONFIG_CONFIG", str(tmp_path / ".config"))
    return tmp_path


@pytest.fixture
def new_study(copy, capsys):
    """new_study(name, source) -> (status, what was printed)."""

    def call(*words: str) -> tuple[int, str]:
        status = cli.main(["new-study", *words], copy, [], None)
        return status, "".join(capsys.readouterr())

    return call


def files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix() for path in (root / "defconfigs").rglob("*")
    }


def test_what_is_written(copy, new_study):
    before = files(copy)
    status, page = new_study("mine", "gpt2-ratio-ablation+tiny")
    assert status == 0
    folder = "defconfigs/mine.d"
    steps = [f"{folder}/00-baseline.config", f"{folder}/01-without-biases.config"]
    assert files(copy) - before == {"defconfigs/mine", folder, *steps}
    assert all(path in page for path in ("defconfigs/mine\n", *steps))
    for command in ("make defconfig-mine", "make check", "make plan", "make prereg"):
        assert f" {command} " in page
    assert page.count("\n") <= 22 and "+tiny " not in page  # it is
    assert max(map(len, page.splitlines())) <= 100
    base = copy / "defconfigs" / "mine"
    assert list(said_in(base)) == ["Help", "Takes", "Reaches"]
    assert "CONFIG_RA_MLA_ABLATION_MODE=y" in base.read_text()
    for path in steps:
        lines = Path(path).read_text().splitlines()
        assert lines[0].startswith("# Help: ") and len(lines) > 2
    tree = Tree(copy)
    overlays = copy / "defconfigs/fragments/tiny.config"
    source = tree.resolve([copy / "defconfigs/gpt2-ratio-ablation", overlays]).values
    values = tree.resolve([base]).values
    differing = {name for name in values if values[name] != source[name]}
    assert differing == {"STUDY"} and values["STUDY"] == "mine"


def test_of_every_base(copy, new_study):
    """A single run, a test matrix, another ablation: each becomes an ablation."""
    tree = Tree(copy)
    for number, (name, path) in enumerate(presets(ROOT)[0].items()):
        status, page = new_study(f"mine-{number}", name)
        assert status == 0, page
        assert f"make defconfig-mine-{number}+tiny" in page or name in (
            "anchor-cpu",
            "mqar",
        )
        base = copy / "defconfigs" / f"mine-{number}"
        steps = list_steps(copy, base.name)
        (control, _, none), (example, _, change) = prove(tree, [base], steps)
        assert (control.number, example.number) == (0, 1) and not none.lines
        assert [symbol for symbol, _, _ in change.lines] == ["GPT2_BIAS"]
        source, values = tree.resolve([path]).values, tree.resolve([base]).values
        for symbol, value in values.items():
            if symbol not in ("STUDY", "CONTROL_STEP") and "_MODE" not in symbol:
                same = source[symbol] == value or symbol.startswith("MATRIX_")
                assert same or "STEPS" in symbol, f"{name}: {symbol}"


@pytest.mark.parametrize(
    "name, source, cause",
    [
        ("gpt2-124m", "gpt2-124m", "defconfigs/gpt2-124m is there already"),
        ("taken", "gpt2-124m", "NAME=taken: defconfigs/taken.d is there already"),
        ("a+b", "gpt2-124m", "NAME=a+b: is no name for a study"),
        ("../a", "gpt2-124m", "NAME=../a: is no name for a study"),
        ("Mine", "gpt2-124m", "is no name for a study"),
        ("fragments", "gpt2-124m", "is no name for a study"),
        ("", "gpt2-124m", "NAME=: is no name for a study"),
        ("mine", "gpt2-124", "no defconfig 'gpt2-124'; did you mean gpt2-124m?"),
        ("mine", "gpt2-124m+tin", "no fragment 'tin'"),
    ],
)
def test_what_is_refused(copy, new_study, name, source, cause):
    (copy / "defconfigs" / "taken.d").mkdir()
    before = files(copy)
    status, said = new_study(name, source)
    assert status == 1 and cause in said
    assert files(copy) == before


def test_what_does_not_hold_leaves_nothing_behind(copy, new_study, monkeypatch):
    monkeypatch.setattr("kconf.new_study.EXAMPLE", "# Help: idle\nCONFIG_GPT2_BIAS=y\n")
    before = files(copy)
    status, said = new_study("mine", "gpt2-124m")
    assert status == 1 and "does not matter" in said
    assert files(copy) == before


def test_on_a_text(copy, new_study):
    Path("novel.txt").write_bytes(b"x" * 82_000)
    text = ["--text", "novel.txt"]
    status, said = new_study("mine", "gpt2-ratio-ablation+tiny+text", *text)
    assert status == 0, said
    assert 'CONFIG_LOCAL_PATH="novel.txt"\n' in Path("defconfigs/mine").read_text()


def test_what_does_not_come_along(copy, new_study):
    """The other study's steps are no steps of the new one."""
    status, said = new_study("mine", "gpt2-ratio-ablation+tiny+quick")
    assert status == 0, said
    assert Tree(copy).resolve([Path("defconfigs/mine")]).values[STEPS] == "all"
