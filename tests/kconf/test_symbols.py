"""Kconfig symbols and settings fields: one to one, each with a class and a help."""

import os
import re
from collections import Counter

import pytest

from gpt2.settings.model import ModelSettings
from gpt2.settings.run import RunSettings, run_settings
from kconf.bind import symbols_of
from kconf.strict import ConfigError, Tree
from matrix.plan.cells import NETWORK
from matrix.settings import StudySettings, study_settings

FIELDS = {"run": symbols_of(RunSettings), "study": symbols_of(StudySettings)}


def test_every_symbol_is_read_by_exactly_one_field(real):
    read = Counter(FIELDS["run"] + FIELDS["study"])
    assert {name for name, times in read.items() if times > 1} == set()
    assert set(real.symbols) - set(read) == set(), "no field reads it"
    assert set(read) - set(real.symbols) == set(), "no Kconfig defines it"


def test_the_symbols_of_a_room_are_read_in_that_room(real):
    matrix = {s for s in real.symbols if real.place(s)[0] == "matrix/Kconfig"}
    assert matrix == set(FIELDS["study"])
    others = {real.place(s)[0] for s in real.symbols if s not in matrix}
    assert all(name.startswith("gpt2/") for name in others)


def test_the_network_is_one_menu(real):
    """The planner asks once for the facts of cells that agree in this menu."""
    menu = {s for s in real.symbols if real.menus(s)[:1] == (NETWORK,)}
    assert menu == set(symbols_of(ModelSettings))


def test_every_symbol_has_one_class_and_every_int_a_range(real):
    for symbol in real.symbols:
        tags = re.findall(r"^\[\w+\]$", real.help(symbol), re.M)
        assert tags in (["[identity]"], ["[operational]"]), symbol
        assert (symbol in real.operational) == (tags == ["[operational]"])
        if real.kind(symbol) == "int":
            assert real.kconfig.syms[symbol].ranges, symbol


def test_what_has_no_title_in_the_menu_has_a_help(real):
    """A member of a choice may be said by its prompt; any other needs words."""
    for symbol in real.symbols:
        words = real.help(symbol).replace("[identity]", "").replace("[operational]", "")
        short = (
            bool(real.siblings(symbol)) or len((real.prompt(symbol) or "").split()) > 1
        )
        assert words.strip() or short, symbol


def test_the_defaults_are_valid_settings(real):
    values = real.resolve([]).values
    assert run_settings(values).model.width == 768
    assert study_settings(values).mode == "single"


@pytest.mark.parametrize(
    "text, cause",
    [
        ('config A\n\tbool "a"\n\thelp\n\t  x\n', "one of [identity]"),
        ('config A\n\tbool "a"\n', "one of [identity]"),
        ('config A\n\tbool "a"\n\thelp\n\t  [identity]\n\t  x\n', "must end"),
        ('config A\n\tbool "a"\n\thelp\n\t  [identical]\n', "must end"),
        ('config A\n\thex "a"\n\thelp\n\t  [identity]\n', "hex is unsupported"),
        ('config A\n\ttristate "a"\n\thelp\n\t  [identity]\n', "unsupported"),
        ('config A\n\tbool "a" if B\n\thelp\n\t  [identity]\n', "undefined symbol B"),
        ('config A\n\tboole "a"\n', "parse"),
        ('source "none"\n', "none"),
    ],
)
def test_a_kconfig_that_is_refused(tmp_path, text, cause):
    (tmp_path / "Kconfig").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Tree(tmp_path)
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    "default, cause", [("default 9", "clamped to 5"), ("", "has no default here")]
)
def test_a_default_that_cannot_stand(tmp_path, default, cause):
    limits = "\trange 1 5\n" if default else ""
    text = f'config A\n\tint "a"\n{limits}\t{default}\n\thelp\n\t  [identity]\n'
    (tmp_path / "Kconfig").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Tree(tmp_path).resolve([])
    assert cause in str(caught.value)


def test_the_environment_does_not_move_the_tree(monkeypatch, real):
    """kconfiglib listens to srctree, and to CONFIG_ as the prefix it writes."""
    monkeypatch.setenv("srctree", "/nowhere")
    monkeypatch.setenv("CONFIG_", "OTHER_")
    tree = Tree(real.root)
    assert tree.symbols == real.symbols and tree.kconfig.config_prefix == "CONFIG_"
    assert os.environ["srctree"] == "/nowhere"
