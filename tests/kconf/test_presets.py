"""The list of the defconfigs, with some of them broken."""

from pathlib import Path

import pytest

from kconf.presets import list_defconfigs
from kconf.syntax import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """defconfigs/ with two sound studies, a base alone and a fragment."""
    made = tmp_path / "defconfigs"
    for study in ("alpha", "omega"):
        (made / f"{study}.d").mkdir(parents=True)
        (made / study).write_text(f"# Help: the study {study}\n")
        (made / f"{study}.d" / "00-base.config").write_text("# Help: the base\n")
    (made / "single").write_text("# Help: one run\n")
    (made / "fragments").mkdir()
    (made / "fragments" / "tiny.config").write_text("# Help: small\n")
    return made


def no_help(folder: Path) -> str:
    (folder / "alpha.d" / "01-x.config").write_text("CONFIG_MLA=y\n")
    return "alpha.d/01-x.config:1: the first line must be '# Help: '"


def no_file(folder: Path) -> str:
    (folder / "alpha.d" / "01-x.config").symlink_to("nowhere")
    return "alpha.d/01-x.config: No such file or directory"


def no_folder(folder: Path) -> str:
    (folder / "alpha.d" / "00-base.config").unlink()
    (folder / "alpha.d").rmdir()
    (folder / "alpha.d").write_text("")
    return "alpha.d: no such study"


def no_step(folder: Path) -> str:
    (folder / "alpha.d" / "00-base.config").unlink()
    return "alpha.d: holds no step"


@pytest.mark.parametrize("broken", [no_help, no_file, no_folder, no_step])
def test_a_broken_study_does_not_hide_the_others(folder, broken, capsys):
    cause = broken(folder)
    with pytest.raises(ConfigError) as refused:
        list_defconfigs(folder.parent)
    assert cause in str(refused.value) and len(refused.value.findings) == 1
    assert capsys.readouterr().out.splitlines() == [
        "  alpha   the study alpha (steps: refused)",
        "  omega   the study omega (1 step)",
        "  single  one run",
        "fragments, as in make defconfig-NAME+FRAGMENT:",
        "  tiny    small",
    ]


def test_a_folder_that_may_not_be_read(folder, monkeypatch, capsys):
    """The superuser, who may run the tests, reads everything: so it is refused here."""

    def iterdir(path: Path):
        if path.name == "alpha.d":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(ConfigError, match="alpha.d: Permission denied"):
        list_defconfigs(folder.parent)
    assert "  omega   the study omega (1 step)" in capsys.readouterr().out
