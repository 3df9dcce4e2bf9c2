"""The commands behind the configuration targets, run as a person runs them."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kconf import cli, config_py
from kconf.bind import SettingsError
from kconf.overrides import COMMAND_LINE
from kconf.presets import presets, said_in
from kconf.strict import DotConfig
from kconf.study import list_steps
from kconf.syntax import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "kconfig.py"


@pytest.fixture
def config(tmp_path):
    return tmp_path / "x.config"


@pytest.fixture
def kconfig(config):
    """kconfig(*arguments) runs the script on a .config of its own."""

    def call(*arguments, ok=True, text="", **environment):
        result = subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            env={**os.environ, "KCONFIG_CONFIG": str(config), **environment},
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
        )
        assert result.returncode == (0 if ok else 1), result.stderr
        assert "Traceback" not in result.stderr
        assert bool(result.stderr) != ok
        return result.stdout if ok else result.stderr

    return call


def test_quickstart(kconfig, config, real):
    wrote = kconfig("defconfig", "gpt2-ratio-ablation+tiny").splitlines()
    assert wrote[1:] == [
        "  CONFIG_MLP_DIM=0 is 3072 (4 E)",
        "  CONFIG_GPT2_VOCAB_SIZE=0 is 257 (the tokenizer's)",
    ]
    read = config_py.read(config.with_name("x.config.py"))
    assert read.values["STUDY_OVERLAYS"] == "tiny"
    assert read.values["STUDY"] == "gpt2-ratio-ablation"
    assert read.values["WIDTH_DIVISOR"] == 8 and read.values["DEVICE_CPU"] is True
    assert read.operational == real.operational
    assert real.resolve([DotConfig(config)]).values == read.values

    shown = kconfig("show", "8")
    assert "MLA n -> y" in shown and "MLA_LATENT (inactive) -> 128" in shown
    assert "parameters 115020288" in shown
    assert "sizes:\n  CONFIG_MLP_DIM=0 is 3072 (4 E)\n" in shown
    assert kconfig("show", "mla") == shown == kconfig("show", "08-mla")
    steps = ", ".join(step.id for step in list_steps(ROOT, "gpt2-ratio-ablation"))
    for slip in ("08-mal", "mlaa"):
        error = kconfig("show", slip, ok=False)
        assert f"did you mean 08-mla? known: {steps}\n" in error
    assert "did you mean" not in kconfig("show", "attention", ok=False)


def test_a_text_of_the_users(kconfig, config, tmp_path):
    """Its path, relative to where the command runs; it must be long enough."""
    text, name = tmp_path / 'a "long" text.txt', "gpt2-ratio-ablation+tiny+quick+text"
    text.write_bytes(b"x" * 81_930)  # (128 * 64 + 1) / 0.1
    given = os.path.relpath(text, ROOT)
    kconfig("defconfig", "--text", given, name)
    values = config_py.read(config.with_name("x.config.py")).values
    assert values["LOCAL_PATH"] == str(text) and values["DATASET_LOCAL"] is True
    assert values["RA_MLA_ABLATION_STEPS"] == "0,2,8-9"
    kconfig("defconfig", "--text", "LICENSE", "gpt2-124m+tiny+text", ok=False)
    config.unlink()
    text.write_bytes(b"x" * 81_929)
    error = kconfig("defconfig", "--text", given, name, ok=False)
    assert f"TEXT={given}: holds 81,929 bytes and needs 81,930: " in error
    for given, cause in (("absent", "no such file"), ("docs", "is a folder")):
        error = kconfig("defconfig", "--text", given, name, ok=False)
        assert error.startswith(f"TEXT={given}: {cause}")
    assert not config.exists()


def test_a_text_goes_with_its_overlay(kconfig, config, monkeypatch):
    """Typed without it it is refused; exported it is that of make eval."""
    name = "gpt2-ratio-ablation+tiny"
    kconfig("defconfig", "--text", "LICENSE", name)
    assert config_py.read(config.with_name("x.config.py")).values["DATASET_STDLIB"]
    config.unlink()
    monkeypatch.setenv(COMMAND_LINE, "TEXT V")
    error = kconfig("defconfig", "--text", "LICENSE", name, ok=False)
    assert f"TEXT=LICENSE: goes with the overlay text: {name}+text" in error
    assert not config.exists()


def test_the_next_defconfig_keeps_the_old(kconfig, config):
    kconfig("defconfig", "gpt2-ratio-ablation")
    kconfig("defconfig", "gpt2-ratio-ablation+h200+tiny")
    text = kconfig("diffconfig", f"{config}.old", str(config))
    assert " DEVICE_AUTO y -> n\n DEVICE_CPU n -> y\n" in text
    assert ' STUDY_OVERLAYS "" -> "h200+tiny"\n' in text


@pytest.mark.parametrize(
    "name, message",
    [
        ("gpt2-ratio-ablaton", "did you mean gpt2-ratio-ablation? known: "),
        ("gpt2-ratio-ablation+tinny", "no fragment 'tinny'; did you mean tiny? known"),
        ("gpt2-ratio-ablation+tiny+tiny", "'tiny' is named twice"),
        ("gpt2-ratio-ablation+", "no fragment ''"),
        ("../Kconfig", "no defconfig '../Kconfig'"),
    ],
)
def test_an_unknown_name(kconfig, config, name, message):
    assert message in kconfig("defconfig", name, ok=False)
    assert not config.exists()


def test_no_config_says_what_to_run(kconfig):
    for command in ("olddefconfig", "savedefconfig", "config-py", "listnewconfig"):
        assert "make defconfig-NAME" in kconfig(command, ok=False)


def test_a_hand_edited_config(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    text = config.read_text()
    config.write_text(text.replace("CONFIG_GPT2_BIAS=y", "CONFIG_GPT2_BIAS=true"))
    error = kconfig("config-py", ok=False)
    assert f"{config}:" in error and "CONFIG_GPT2_BIAS: 'true' is not a bool" in error
    config.write_text(text.replace("CONFIG_SEED=1\n", ""))
    assert "CONFIG_SEED: is missing; run make olddef" in kconfig("config-py", ok=False)
    assert kconfig("listnewconfig") == "CONFIG_SEED=1\n"
    assert "added CONFIG_SEED=1\n" in kconfig("olddefconfig")
    assert config.read_text() == text


def test_olddefconfig_says_what_it_drops(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    with config.open("a") as stream:
        stream.write("CONFIG_QQ=3\n")
    assert "CONFIG_QQ: is not defined; run make old" in kconfig("config-py", ok=False)
    assert "dropped" in (told := kconfig("olddefconfig")) and "CONFIG_QQ=3" in told
    assert "CONFIG_QQ" not in config.read_text()
    kconfig("config-py")


def test_settings_complain_at_the_line(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    lines = config.read_text().replace('OUT="0.0"', 'OUT="1.5"').splitlines()
    config.write_text("\n".join(lines) + "\n")
    line = lines.index('CONFIG_GPT2_DROPOUT="1.5"') + 1
    error = kconfig("config-py", ok=False)
    assert f'x.config:{line}: CONFIG_GPT2_DROPOUT: "1.5": is out of range' in error


def test_a_study_without_steps_is_refused(kconfig, config):
    kconfig("defconfig", "gpt2-ratio-ablation")
    text = config.read_text()
    config.write_text(text.replace('STUDY="gpt2-ratio-abl', 'STUDY="gpt2-ratio-alb'))
    error = kconfig("config-py", ok=False)
    assert "no such study; did you mean gpt2-ratio-ablation?" in error


def test_savedefconfig_gives_the_same_configuration(kconfig, config, real):
    kconfig("defconfig", "gpt2-ratio-ablation+tiny")
    kconfig("savedefconfig")
    saved = config.with_name("defconfig")
    assert saved.read_text().startswith("# Help: ")
    values = real.resolve([saved]).values
    full = real.resolve([DotConfig(config)]).values
    assert values == {**full, "STUDY_OVERLAYS": ""}


def test_oldconfig_asks(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    text = config.read_text()
    gone = ("CONFIG_SEED=", "CONFIG_INIT_SALT=", "CONFIG_MLA ", "CONFIG_GPT2_BIAS=")
    kept = [row for row in text.splitlines(True) if not any(g in row for g in gone)]
    config.write_text("".join(kept))
    answers = "maybe\nn\nMLAX\nMLA\n\n\n\n\n-5\n7\na b\n"
    told = kconfig("oldconfig", text=answers)
    assert "did you mean CONFIG_MLA?" in told and "is out of range" in told
    assert "'maybe' is not a bool" in told
    new = config.read_text()
    assert "CONFIG_MLA=y\nCONFIG_MLA_LATENT=128\n" in new
    assert 'CONFIG_SEED=7\nCONFIG_INIT_SALT="a b"\n' in new
    assert "# CONFIG_GPT2_BIAS is not set\n" in new
    config.write_text("".join(kept))
    assert "run make olddefconfig" in kconfig("oldconfig", ok=False)


def test_list_defconfigs(kconfig):
    text = kconfig("list-defconfigs")
    count = len(list_steps(ROOT, "gpt2-ratio-ablation"))
    for path in (ROOT / "defconfigs").iterdir():
        if path.is_file():
            assert f"  {path.name} " in text
    assert f"ratio study ({count} steps)\n" in text and "  tiny " in text
    indented = " " * (4 + max(len(name) for known in presets(ROOT) for name in known))
    assert f"{indented}  takes: 81 s on an H200\n" in text
    assert text.count(f"\n{indented}  reaches: ") == len(presets(ROOT)[0])


def test_menuconfig_needs_a_terminal(kconfig):
    assert "needs a terminal" in kconfig("menuconfig", ok=False)


def test_presets_begin_with_a_help_line():
    for known in presets(ROOT):
        for path in known.values():
            assert path.read_text().startswith("# Help: "), path


def test_a_base_says_what_it_takes_and_reaches():
    """Figures are of records; where there is none, the line says so."""
    for path in presets(ROOT)[0].values():
        said = said_in(path)
        assert list(said) == ["Help", "Takes", "Reaches"], path
        known = "results/" in said["Takes"] or "anchor" in path.name
        assert known or "make estimate" in said["Takes"], path


def test_every_preset_stands_alone(real):
    bases, fragments = presets(ROOT)
    assert {"gpt2-ratio-ablation", "gpt2-124m"} <= set(bases)
    for base in bases.values():
        ablation = real.resolve([base]).values["RA_MLA_ABLATION_MODE"]
        for name, fragment in fragments.items():
            if name == "quick" and not ablation:  # steps are those of a study
                with pytest.raises(ConfigError, match="RA_MLA_ABLATION_STEPS"):
                    real.resolve([base, fragment])
            else:
                real.resolve([base, fragment])


class TestInProcess:
    """Paths that need a tree or a check of their own."""

    def run(self, root, capsys, monkeypatch, *arguments, checks=()):
        monkeypatch.setenv("KCONFIG_CONFIG", str(root / ".config"))
        status = cli.main(arguments, root, checks, None)
        return status, capsys.readouterr()

    @pytest.fixture
    def toy_presets(self, tmp_path, toy_root, write):
        write("Kconfig", (toy_root / "Kconfig").read_text())
        write("defconfigs/base", "# Help: b\nCONFIG_WIDTH=11\n")
        write("defconfigs/fragments/f.config", '# Help: f\n\nCONFIG_RATE="2"\n')
        return tmp_path

    def test_default_names(self, toy_presets, capsys, monkeypatch):
        monkeypatch.delenv("KCONFIG_CONFIG", raising=False)
        assert cli.main(["defconfig", "base+f"], toy_presets, [], None) == 0
        values = config_py.read(toy_presets / "config.py").values
        assert (values["WIDTH"], values["RATE"]) == (11, "2")
        assert values["STUDY_OVERLAYS"] == "f"
        assert (toy_presets / ".config").exists()

    def test_a_refused_value_is_found_in_its_fragment(
        self, toy_presets, capsys, monkeypatch
    ):
        def check(values):
            raise SettingsError("RATE", values["RATE"], "is above 1")

        status, out = self.run(
            toy_presets, capsys, monkeypatch, "defconfig", "base+f", checks=[check]
        )
        assert status == 1
        assert out.err.endswith('fragments/f.config:3: CONFIG_RATE: "2": is above 1\n')
        assert not (toy_presets / ".config").exists()

    def test_overlays_are_not_written_by_hand(
        self, toy_presets, write, capsys, monkeypatch
    ):
        write("defconfigs/base", '# Help: b\nCONFIG_STUDY_OVERLAYS="z"\n')
        status, out = self.run(toy_presets, capsys, monkeypatch, "defconfig", "base")
        assert status == 1 and "base:2: CONFIG_STUDY_OVERLAYS: is written by" in out.err

    def test_a_config_that_cannot_be_written(self, toy_presets, capsys, monkeypatch):
        (toy_presets / ".config").mkdir()
        status, out = self.run(toy_presets, capsys, monkeypatch, "defconfig", "base")
        assert status == 1 and "Is a directory" in out.err


class TestMenuconfigInProcess:
    """What happens around the editor, with an editor that is a function."""

    @pytest.fixture
    def edited(self, toy_root, tmp_path, monkeypatch, capsys):
        """edited(function of the .config's path) -> exit status"""
        terminal = SimpleNamespace(isatty=lambda: True)
        path = tmp_path / "m.config"
        monkeypatch.setenv("KCONFIG_CONFIG", str(path))

        def call(edit):
            streams = {"stdin": terminal, "stdout": terminal, "stderr": sys.stderr}
            monkeypatch.setattr(cli, "sys", SimpleNamespace(**streams))
            return cli.main(["menuconfig"], toy_root, [], lambda kconfig: edit(path))

        return call

    def test_leaving_without_saving(self, edited, tmp_path):
        assert edited(lambda path: None) == 0
        assert not list(tmp_path.iterdir())

    def test_what_the_editor_saved_is_checked(self, edited, full, tmp_path, capsys):
        assert edited(lambda path: path.write_text(full)) == 0
        assert (tmp_path / "m.config.py").exists()
        bad = full.replace("CONFIG_WIDTH=10", "CONFIG_WIDTH=999")
        assert edited(lambda path: path.write_text(bad)) == 1
        assert "999 is out of range" in capsys.readouterr().err
        assert (tmp_path / "m.config").read_text() == bad  # the work is not lost
        assert not (tmp_path / "m.config.py").exists()  # nor is the old one used


def drive(config: Path, keys: list[str]) -> int:
    """Run menuconfig in a pseudo-terminal, one key after each redraw."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ.update(TERM="xterm", KCONFIG_CONFIG=str(config), ESCDELAY="0")
        os.environ.update(LINES="24", COLUMNS="80")
        os.execv(sys.executable, [sys.executable, str(SCRIPT), "menuconfig"])
    screen, deadline = b"", time.monotonic() + 15
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.25)[0]:
            try:
                screen += os.read(terminal, 65536)
            except OSError:
                break  # the child closed its side
        elif screen and keys:
            os.write(terminal, keys.pop(0).encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_menuconfig_edits_and_saves(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    assert drive(config, ["/", "GPT2_BIAS", "\r", "n", "q", "y"]) == 0
    assert "# CONFIG_GPT2_BIAS is not set\n" in config.read_text()
    values = config_py.read(config.with_name("x.config.py")).values
    assert values["GPT2_BIAS"] is False


def test_menuconfig_does_not_open_a_config_it_would_misread(kconfig, config):
    kconfig("defconfig", "gpt2-124m")
    config.write_text(config.read_text().replace("BIAS=y", "BIAS=true"))
    before = config.read_text()
    assert drive(config, []) == 1
    assert config.read_text() == before
