"""Stages: what a later one may override, and what it may not break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconf import dotconfig
from kconf.strict import ConfigError, DotConfig, Overrides
from kconf.syntax import Line, quote, value_of


def test_a_later_stage_overrides(toy, write):
    base = write("base", 'CONFIG_FLAG=y\nCONFIG_RED=y\nCONFIG_RATE="1"\n')
    late = write("late", 'CONFIG_RATE="2"\nCONFIG_GREEN=y\n')
    resolved = toy.resolve([base, late, Overrides({"WIDTH": "5"}, "environment")])
    values = resolved.values
    assert (values["RATE"], values["WIDTH"]) == ("2", 5)
    assert (values["RED"], values["GREEN"]) == (False, True)
    assert resolved.origin["RATE"] == (str(late), 1)
    assert resolved.origin["FLAG"] == (str(base), 1)
    assert resolved.origin["WIDTH"] == ("CONFIG_WIDTH=5 (environment)", 0)
    assert resolved.assigned == {"WIDTH"}


def test_a_later_stage_may_hide(toy, write):
    base = write("base", "CONFIG_FLAG=y\nCONFIG_LATENT=9\n")
    late = write("late", "CONFIG_NARROW=y\n")
    assert toy.resolve([base, late]).values["LATENT"] is None


def test_a_choice_survives_losing_its_selection(toy, write):
    base = write("base", "CONFIG_FLAG=y\nCONFIG_GREEN=y\n")
    late = write("late", "# CONFIG_FLAG is not set\n")
    assert toy.resolve([base, late]).values["RED"] is True


def test_is_not_set_does_not_deselect(toy, write):
    base, late = write("base", "CONFIG_BLUE=y\n"), write("late", "CONFIG_BLUE=n\n")
    with pytest.raises(ConfigError, match="late:1: CONFIG_BLUE: is the selection"):
        toy.resolve([base, late])


def test_each_stage_is_checked_on_its_own(toy, write):
    base = write("base", "CONFIG_LATENT=9\n")
    late = write("late", "CONFIG_FLAG=y\n")
    with pytest.raises(ConfigError, match="base:1: CONFIG_LATENT: cannot be set"):
        toy.resolve([base, late])


def test_a_later_stage_may_not_push_a_value_out_of_range(toy, write):
    """kconfiglib would fall back on the default of DEPTH and say nothing."""
    base, late = write("base", "CONFIG_DEPTH=9\n"), write("late", "CONFIG_NARROW=y\n")
    with pytest.raises(ConfigError) as caught:
        toy.resolve([base, late])
    (found,) = caught.value.findings
    assert (found.path, found.line, found.symbol) == (str(base), 1, "DEPTH")
    assert "out of range (1 to 5), after a later stage" in found.cause
    both = write("both", "CONFIG_NARROW=y\nCONFIG_DEPTH=4\n")
    assert toy.resolve([base, both]).values["DEPTH"] == 4


def test_a_later_stage_may_not_select_over_a_line(toy, write):
    base, late = write("base", "CONFIG_FORCED=n\n"), write("late", "CONFIG_FORCER=y\n")
    with pytest.raises(ConfigError, match="base:1: CONFIG_FORCED: .* FORCER, after"):
        toy.resolve([base, late])


def test_nothing_leaks_from_one_merge_to_the_next(toy, write):
    before = toy.resolve([])
    with pytest.raises(ConfigError):
        toy.resolve([write("x", "CONFIG_FLAG=y\nCONFIG_GREEN=y\nCONFIG_WIDTH=0\n")])
    assert toy.resolve([]) == before


def test_a_step_over_a_full_config(toy, write, full):
    base = DotConfig(write(".config", full))
    step = write("step.config", "CONFIG_FLAG=y\nCONFIG_LATENT=5\n")
    values = toy.resolve([base, step]).values
    assert values["LATENT"] == 5 and values["AREA"] == 100


STAGES = [
    "",
    'CONFIG_FLAG=y\nCONFIG_GREEN=y\nCONFIG_RATE="a\\"\\\\ #"\n',
    "CONFIG_NARROW=y\nCONFIG_FORCED=y\nCONFIG_DEPTH=5\nCONFIG_BLUE=y\n",
    "CONFIG_FLAG=y\nCONFIG_HIDDEN=1\nCONFIG_OFFSET=-3\nCONFIG_FORCER=y\n",
]


@pytest.mark.parametrize("text", STAGES)
def test_written_config_reads_back(toy, write, text):
    resolved = toy.resolve([write("x", text)])
    path = write(".config", dotconfig.render(toy, resolved))
    again = toy.resolve([DotConfig(path)])
    assert (again.values, again.visible) == (resolved.values, resolved.visible)


@pytest.mark.parametrize("text", STAGES)
def test_minimal_reads_back_and_every_line_matters(toy, write, text):
    resolved = toy.resolve([write("x", text)])
    lines = dotconfig.minimal(toy, resolved)
    assert toy.resolve([lines]).written == resolved.written
    for line in lines:
        fewer = [other for other in lines if other is not line]
        merged = dotconfig.merged_or_none(toy.resolve, [fewer])
        assert not merged or merged.written != resolved.written
    assert len(lines) == text.count("\n")  # nothing in STAGES is a default


def test_menus_are_comments(full):
    assert full.count("\n#\n# Shape\n#\n") == 1
    assert full.index("# end of Shape\n\n#\n# Running\n#\n") < full.index("CONFIG_JOBS")
    assert full.endswith("# end of Running\n")


def test_the_old_config_is_kept(toy, tmp_path):
    path = tmp_path / ".config"
    dotconfig.write(path, toy, toy.resolve([]))
    old = path.read_bytes()
    dotconfig.write(path, toy, toy.resolve([Overrides({"WIDTH": "5"})]))
    assert (tmp_path / ".config.old").read_bytes() == old != path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {".config", ".config.old"}


@given(st.text(st.characters(exclude_categories=["C"])))
def test_any_string_survives_its_line(text):
    assert value_of(Line("x", 1, "RATE", quote(text)), "string") == text
