"""Steps: their files, and the proof that each is what it says."""

from pathlib import Path

import pytest

from kconf.strict import ConfigError, DotConfig, Overrides
from kconf.study import difference, duplicates, list_steps, prove, resolve_step

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, write):
    """study(name=text, …) writes steps; the file names use _ for -."""

    def make(**files):
        for name, text in files.items():
            head = "" if text.startswith("# Help") else "# Help: a step\n"
            slug = name.lstrip("_").replace("_", "-")
            write(f"defconfigs/s.d/{slug}.config", head + text)
        return list_steps(tmp_path, "s")

    return make


def only_step(toy, study, base, text):
    (step,) = study(_01_x=text)
    return difference(toy, toy.resolve(base), resolve_step(toy, base, step), step)


class TestFiles:
    def test_a_step(self, study):
        text = "# Help: wide\n# Expect: a=1 b_2=x,y\n# Expect: c=2.50\nCONFIG_WIDTH=3\n"
        narrow, wide = study(_07_wide_one=text, _00_base="")
        assert (wide.id, wide.number, wide.help) == ("07-wide-one", 7, "wide")
        assert wide.expect == {"a": "1", "b_2": "x,y", "c": "2.50"}
        assert narrow.number == 0 and narrow.expect == {}

    @pytest.mark.parametrize(
        "name", ["1-x", "001-x", "01_x", "01-X", "01-x-", "01", "x", "01-x.config~"]
    )
    def test_a_bad_file_name(self, tmp_path, write, name):
        suffix = "" if name.endswith("~") else ".config"
        write(f"defconfigs/s.d/{name}{suffix}", "# Help: x\n")
        with pytest.raises(ConfigError, match="named NN-slug.config"):
            list_steps(tmp_path, "s")

    @pytest.mark.parametrize(
        "text, line",
        [
            ("", 1),
            ("CONFIG_WIDTH=3\n", 1),
            ("#Help: x\n", 1),
            ("# Help:\n", 1),
            ("# Help:  x\n", 1),
            ("# Help: x \n", 1),
            ("# help: x\n", 1),
            ("\n# Help: x\n", 1),
            ("# Help: x\n# Help: y\n", 2),
            ("# Help: x\n# Expect: a\n", 2),
            ("# Help: x\n# Expect: a =1\n", 2),
            ("# Help: x\n# Expect: a=1  b=2\n", 2),
            ("# Help: x\n# Expect: A=1\n", 2),
            ("# Help: x\n# Expect:\n", 2),
            ("# Help: x\n#Expect: a=1\n", 2),
            ("# Help: x\n# expect: a=1\n", 2),
            ("# Help: x\n# Expects: a=1\n", 2),
            ("# Help: x\n# Expect: a=1\n# Expect: a=1\n", 3),
        ],
    )
    def test_a_malformed_head(self, tmp_path, write, text, line):
        write("defconfigs/s.d/01-x.config", text)
        with pytest.raises(ConfigError) as caught:
            list_steps(tmp_path, "s")
        assert [found.line for found in caught.value.findings][0] == line

    def test_a_number_twice(self, study):
        with pytest.raises(ConfigError, match="01-b.config: step number 01 .* 01-a"):
            study(_01_a="", _01_b="")

    def test_an_unknown_study(self, tmp_path, study):
        study(_01_a="")
        with pytest.raises(ConfigError, match="no such study; .*known: s"):
            list_steps(tmp_path, "ss")

    def test_an_empty_study(self, tmp_path):
        (tmp_path / "defconfigs/s.d").mkdir(parents=True)
        with pytest.raises(ConfigError, match="holds no step"):
            list_steps(tmp_path, "s")


class TestDifference:
    def test_lines_and_what_they_imply(self, toy, study, write, full):
        base = [DotConfig(write(".config", full))]
        found = only_step(toy, study, base, "CONFIG_FLAG=y\nCONFIG_GREEN=y\n")
        assert found.violations == []
        assert found.lines == [("FLAG", False, True), ("GREEN", False, True)]
        assert found.implied == [
            ("LATENT", None, 4, "applies now, at its default"),
            ("AREA", 50, 100, "computed by Kconfig"),
            ("RED", True, False, 'the choice "Colour" is GREEN'),
        ]

    def test_what_no_longer_applies(self, toy, study, write):
        base = [write("base", "CONFIG_FLAG=y\nCONFIG_LATENT=9\n")]
        found = only_step(toy, study, base, "CONFIG_NARROW=y\n")
        assert found.implied == [("LATENT", 9, None, "no longer applies")]
        assert found.violations == []

    def test_a_prompt_hidden_in_both_is_computed(self, toy, study):
        found = only_step(toy, study, [], "CONFIG_BLUE=y\n")
        assert ("HIDDEN", 7, 8, "computed by Kconfig") in found.implied
        assert found.violations == []

    def test_a_moved_default_needs_a_line(self, toy, study, write):
        """HIDDEN is visible in both; its default follows the colour."""
        base = [write("base", "CONFIG_FLAG=y\n")]
        found = only_step(toy, study, base, "CONFIG_BLUE=y\n")
        (violation,) = found.violations
        assert violation.symbol == "HIDDEN" and "(7 -> 8)" in violation.cause
        fixed = [write("fixed", "CONFIG_FLAG=y\nCONFIG_HIDDEN=7\n")]
        assert only_step(toy, study, fixed, "CONFIG_BLUE=y\n").violations == []

    def test_a_selected_symbol_needs_a_line(self, toy, study):
        found = only_step(toy, study, [], "CONFIG_FORCER=y\n")
        assert [violation.symbol for violation in found.violations] == ["FORCED"]

    def test_a_forgotten_value_does_not_come_back(self, toy, study, write):
        """LATENT=9 of the first stage returns when the step shows LATENT again."""
        first = write("first", "CONFIG_FLAG=y\nCONFIG_LATENT=9\n")
        second = write("second", "CONFIG_NARROW=y\n")
        found = only_step(toy, study, [first, second], "# CONFIG_NARROW is not set\n")
        assert [violation.symbol for violation in found.violations] == ["LATENT"]

    @pytest.mark.parametrize(
        "text, idle",
        [
            ("CONFIG_WIDTH=10\n", [2]),  # the base's value
            ("CONFIG_WIDTH=11\n# CONFIG_FLAG is not set\n", [3]),
            ("CONFIG_FLAG=y\nCONFIG_LATENT=4\n", [3]),  # its default
            ("CONFIG_BLUE=y\n# CONFIG_RED is not set\n", [3]),
            ("CONFIG_FLAG=y\nCONFIG_LATENT=5\n", []),
        ],
    )
    def test_every_line_must_matter(self, toy, study, text, idle):
        found = only_step(toy, study, [], text)
        assert [violation.line for violation in found.violations] == idle
        assert all("does not matter" in v.cause for v in found.violations)

    def test_a_line_masked_by_an_override_does_not_matter(self, toy, study):
        (step,) = study(_01_x="CONFIG_WIDTH=11\n")
        masks = Overrides({"WIDTH": "12"}, "environment")
        resolved = resolve_step(toy, [], step, masks)
        found = difference(toy, toy.resolve([masks]), resolved, step)
        assert [violation.symbol for violation in found.violations] == ["WIDTH"]

    def test_the_base_itself(self, toy, study):
        found = only_step(toy, study, [], "")
        assert (found.lines, found.implied, found.violations) == ([], [], [])


class TestStudy:
    def test_duplicates(self, toy, study):
        steps = study(_00_a="", _01_b="CONFIG_WIDTH=11\n", _02_c="CONFIG_JOBS=2\n")
        found = duplicates(toy, [(s, resolve_step(toy, [], s)) for s in steps])
        (only,) = found  # JOBS cannot change a result
        assert "02-c" in only.path and only.cause.endswith("as 00-a")

    def test_all_findings_of_all_steps(self, toy, study):
        steps = study(
            _00_a="",
            _01_b="CONFIG_WIDHT=11\n",
            _02_c="CONFIG_WIDTH=10\n",
            _03_d="CONFIG_WIDTH=11\n",
        )
        with pytest.raises(ConfigError) as caught:
            prove(toy, [], steps)
        files = [found.path[-11:-7] for found in caught.value.findings]
        assert files == ["01-b", "02-c", "02-c"]  # undefined, idle, duplicate of 00

    def test_good_steps_come_back_in_order(self, toy, study):
        steps = study(_00_a="", _03_d="CONFIG_WIDTH=11\n")
        proven = prove(toy, [], steps, Overrides({"JOBS": "3"}))
        assert [step.id for step, _, _ in proven] == ["00-a", "03-d"]
        assert proven[1][1].values["JOBS"] == 3
        assert proven[1][2].lines == [("WIDTH", 10, 11)]


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "defconfigs").glob("*.d")), ids=lambda path: path.name
)
@pytest.mark.parametrize("scale", [None, "tiny"])
def test_the_studies_of_this_repository(real, folder, scale):
    stages = [folder.with_suffix("")]
    if scale:
        stages.append(ROOT / f"defconfigs/fragments/{scale}.config")
    steps = list_steps(ROOT, folder.name.removesuffix(".d"))
    assert len(prove(real, stages, steps)) == len(steps)
