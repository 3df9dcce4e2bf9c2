"""Every mistake in a config file is refused, with its place and its cause."""

import re

import pytest

from kconf.strict import ConfigError, DotConfig, Overrides

# id, content, line, symbol, part of the cause, raw value of the same mistake
# as an override (None: it cannot be made there)
BAD = [
    ("undefined", "CONFIG_WIDHT=3", 1, "WIDHT", "did you mean CONFIG_WIDTH?", "3"),
    ("undefined, no hint", "CONFIG_ZZZZ=3", 1, "ZZZZ", "is not defined", "3"),
    ("undefined unset", "# CONFIG_FLAGG is not set", 1, "FLAGG", "CONFIG_FLAG?", None),
    ("no prefix", "WIDTH=3", 1, "WIDTH", "prefix CONFIG_", None),
    ("small prefix", "config_WIDTH=3", 1, "WIDTH", "write CONFIG_WIDTH=", None),
    ("blank before =", "CONFIG_WIDTH =3", 1, "WIDTH", "spaces around", None),
    ("blank after =", "CONFIG_WIDTH= 3", 1, "WIDTH", "spaces around", None),
    ("inline comment", "CONFIG_WIDTH=3 # w", 1, "WIDTH", "inline comment", None),
    ("comment, string", 'CONFIG_RATE="1" # r', 1, "RATE", "inline comment", None),
    ("comment, no blank", "CONFIG_FLAG=y#on", 1, "FLAG", "inline comment", None),
    ("leading blank", " CONFIG_WIDTH=3", 1, "WIDTH", "leading blank", None),
    ("leading tab", "\tCONFIG_WIDTH=3", 1, "WIDTH", "leading blank", None),
    ("indented unset", " # CONFIG_FLAG is not set", 1, "FLAG", "leading blank", None),
    ("BOM", b"\xef\xbb\xbfCONFIG_WIDTH=3", 1, "WIDTH", "BOM", None),
    ("CR", b"CONFIG_WIDTH=3\r\n", 1, "WIDTH", "carriage return", None),
    ("CR comment", b"# hello\r\nCONFIG_WIDTH=3\n", 1, None, "carriage return", None),
    ("NUL", b"CONFIG_WIDTH=3\0", 1, "WIDTH", "NUL", None),
    ("latin-1", b'#\nCONFIG_RATE="\xe9"', 2, "RATE", "not UTF-8 (byte 0xe9)", None),
    ("form feed", b"CONFIG_WIDTH=3\x0c", 1, "WIDTH", "control character", None),
    ("no =", "CONFIG_WIDTH", 1, "WIDTH", "neither an assignment", None),
    ("export", "export CONFIG_WIDTH=3", 1, "WIDTH", "not the name", None),
    ("unset, no blank", "#CONFIG_FLAG is not set", 1, "FLAG", "exactly", None),
    ("unset, two blanks", "#  CONFIG_FLAG is not set", 1, "FLAG", "exactly", None),
    ("unset, two #", "## CONFIG_FLAG is not set", 1, "FLAG", "exactly", None),
    ("unset, trailing", "# CONFIG_FLAG is not set ", 1, "FLAG", "exactly", None),
    ("unset, dot", "# CONFIG_FLAG is not set.", 1, "FLAG", "exactly", None),
    ("unset, text", "# CONFIG_FLAG is not set: slow", 1, "FLAG", "exactly", None),
    ("unset, case", "# CONFIG_FLAG is Not Set", 1, "FLAG", "exactly", None),
    ("unset, no is", "# CONFIG_FLAG not set", 1, "FLAG", "exactly", None),
    ("unset, isn't", "# CONFIG_FLAG isn't set", 1, "FLAG", "exactly", None),
    ("unset, one word", "# CONFIG_FLAG is unset", 1, "FLAG", "exactly", None),
    ("unset, no prefix", "# FLAG is not set", 1, "FLAG", "exactly", None),
    ("unset, value", "# CONFIG_FLAG=y is not set", 1, "FLAG", "exactly", None),
    ("unset of an int", "# CONFIG_WIDTH is not set", 1, "WIDTH", "for bools", None),
    ("unset of a string", "# CONFIG_RATE is not set", 1, "RATE", "for bools", None),
    *[
        (f"bool {raw}", f"CONFIG_FLAG={raw}", 1, "FLAG", "is not a bool", raw)
        for raw in ("true", "1", "Y", "yes", "m", '"y"', "yy", "0", "N")
    ],
    ("bool, nothing", "CONFIG_FLAG=", 1, "FLAG", "is not a bool", ""),
    *[
        (f"int {raw}", f"CONFIG_WIDTH={raw}", 1, "WIDTH", "is not an int", raw)
        for raw in ("+5", "007", "0x10", "5.0", "5k", "1e1", "-0", "1_0", "٣", "y")
    ],
    ("int, quoted", 'CONFIG_WIDTH="5"', 1, "WIDTH", "is quoted", '"5"'),
    ("int, nothing", "CONFIG_WIDTH=", 1, "WIDTH", "no value", ""),
    ("int, two words", "CONFIG_WIDTH=5 6", 1, "WIDTH", "is not an int", "5 6"),
    ("int, endless", "CONFIG_OFFSET=" + "9" * 5000, 1, "OFFSET", "long", "9" * 19),
    ("int, above", "CONFIG_WIDTH=101", 1, "WIDTH", "range (1 to 100)", "101"),
    ("int, below", "CONFIG_WIDTH=0", 1, "WIDTH", "range (1 to 100)", "0"),
    (
        "int, range of now",
        "CONFIG_NARROW=y\nCONFIG_DEPTH=6",
        2,
        "DEPTH",
        "6 is out of range (1 to 5)",
        None,
    ),
    ("string, bare", "CONFIG_RATE=0.5", 1, "RATE", "is not quoted", None),
    ("string, '", "CONFIG_RATE='0.5'", 1, "RATE", "is not quoted", None),
    ("string, nothing", "CONFIG_RATE=", 1, "RATE", "is not quoted", None),
    ("string, open", 'CONFIG_RATE="0.5', 1, "RATE", "closing quote", None),
    ("string, escaped end", 'CONFIG_RATE="a\\"', 1, "RATE", "closing quote", None),
    ("string, text", 'CONFIG_RATE="a"b', 1, "RATE", "after the closing", None),
    ("string, bare quote", 'CONFIG_RATE="a"b"', 1, "RATE", "after the closing", None),
    ("string, escape", 'CONFIG_RATE="a\\n"', 1, "RATE", "no escape", None),
    ("string, quoted outside", None, 0, "RATE", "outside a file", '"0.5"'),
    ("trailing blank", 'CONFIG_RATE="a" ', 1, "RATE", "trailing blanks", None),
    ("trailing tab", "CONFIG_FLAG=y\t", 1, "FLAG", "trailing blanks", None),
    ("unmet", "CONFIG_LATENT=5", 1, "LATENT", "needs FLAG (now FLAG=n) (", "5"),
    (
        "unmet, half",
        "CONFIG_FLAG=y\nCONFIG_NARROW=y\nCONFIG_LATENT=5",
        3,
        "LATENT",
        "needs !NARROW (now NARROW=y) (",
        None,
    ),
    ("unmet prompt", "CONFIG_HIDDEN=8", 1, "HIDDEN", "needs FLAG", "8"),
    ("unmet member", "CONFIG_GREEN=y", 1, "GREEN", "needs FLAG", "y"),
    ("no prompt", "CONFIG_AREA=51", 1, "AREA", "no prompt", "51"),
    (
        "selected",
        "CONFIG_FORCER=y\n# CONFIG_FORCED is not set",
        2,
        "FORCED",
        "selected by FORCER",
        None,
    ),
    ("two members", "CONFIG_RED=y\nCONFIG_BLUE=y", 2, "BLUE", "line 1 already", None),
    ("member off", "# CONFIG_RED is not set", 1, "RED", "set another member", "n"),
    (
        "twice",
        "CONFIG_WIDTH=3\nCONFIG_WIDTH=4",
        2,
        "WIDTH",
        "first time in line 1",
        None,
    ),
    ("twice, same", "CONFIG_FLAG=y\n\nCONFIG_FLAG=y", 3, "FLAG", "line 1", None),
]
IN_FILES = [row[:5] for row in BAD if row[1] is not None]
IN_OVERRIDES = [(row[0], row[3], row[5], row[4]) for row in BAD if row[5] is not None]
IDS = [row[0] for row in IN_FILES]


def refused(tree, stages):
    with pytest.raises(ConfigError) as caught:
        tree.resolve(stages)
    return caught.value.findings


def expect_one(findings, path, line, symbol, cause):
    assert len(findings) == 1, findings
    found = findings[0]
    assert (found.line, found.symbol) == (line, symbol)
    assert found.path.endswith(path.name) and cause in found.cause
    assert re.match(rf".*{path.name}:{line}: ", str(found))


@pytest.mark.parametrize("name, content, line, symbol, cause", IN_FILES, ids=IDS)
def test_defconfig(toy, write, name, content, line, symbol, cause):
    path = write("toy_defconfig", content)
    expect_one(refused(toy, [path]), path, line, symbol, cause)


@pytest.mark.parametrize("name, content, line, symbol, cause", IN_FILES, ids=IDS)
def test_fragment(toy, write, name, content, line, symbol, cause):
    base = write("base", 'CONFIG_RATE="3"\nCONFIG_OFFSET=-5\n')
    path = write("x.config", content)
    expect_one(refused(toy, [base, path]), path, line, symbol, cause)


@pytest.mark.parametrize("name, content, line, symbol, cause", IN_FILES, ids=IDS)
def test_full_config(toy, write, full, name, content, line, symbol, cause):
    """The bad lines first, then the rest of a .config that is otherwise whole."""
    data = content if isinstance(content, bytes) else content.encode()
    named = re.findall(r"CONFIG_(\w+)", data.decode("latin-1"), re.I)
    colours = {"RED", "BLUE", "GREEN"}
    gone = {*named, symbol} | (colours if colours & set(named) else set())
    rows = full.splitlines()
    rest = [row for row in rows if not set(re.findall(r"CONFIG_(\w+)", row)) & gone]
    path = write(".config", data.rstrip(b"\n") + b"\n" + "\n".join(rest).encode())
    findings = refused(toy, [DotConfig(path)])
    mine = [found for found in findings if found.line == line]
    expect_one(mine, path, line, symbol, cause)
    others = {found.symbol for found in findings if found.line != line}
    assert others <= {"AREA", "HIDDEN"}, findings  # computed from what is bad here


@pytest.mark.parametrize(
    "name, symbol, raw, cause", IN_OVERRIDES, ids=[row[0] for row in IN_OVERRIDES]
)
def test_override(toy, name, symbol, raw, cause):
    findings = refused(toy, [Overrides({symbol: raw}, "environment")])
    assert len(findings) == 1
    assert findings[0].symbol == symbol and cause in findings[0].cause
    label = f"CONFIG_{symbol}={raw} (environment): CONFIG_{symbol}: "
    assert str(findings[0]).startswith(label)


def test_all_findings_together(toy, write):
    path = write("x", "CONFIG_FLAG=yes\nCONFIG_WIDTH=3\nCONFIG_DEPTH=99\nWIDTH=4\n")
    assert [f.line for f in refused(toy, [path])] == [1, 3, 4]


def test_no_blame_for_a_line_whose_dependency_is_malformed(toy, write):
    path = write("x", "CONFIG_FLAG =y\nCONFIG_LATENT=5\n")
    assert [f.line for f in refused(toy, [path])] == [1]


def test_good_lines(toy, write):
    text = (
        "# Help: prose, with CONFIG_FLAG in it; CONFIG_WIDTH=3 too\n"
        "#\n# CONFIG_OFFSET is useful, CONFIG_WIDTH is set below\n#CONFIG_DEPTH=9\n\n"
        "CONFIG_FLAG=y\n# CONFIG_NARROW is not set\nCONFIG_FORCED=n\n"
        'CONFIG_OFFSET=-12\nCONFIG_GREEN=y\nCONFIG_RATE="a \\"b\\" \\\\ # é"\n'
        "CONFIG_LATENT=6"
    )
    resolved = toy.resolve([write("x", text)])
    values = resolved.values
    assert values["FLAG"] is True and values["NARROW"] is False
    assert values["OFFSET"] == -12 and values["RATE"] == 'a "b" \\ # é'
    assert (values["RED"], values["GREEN"]) == (False, True)
    assert values["LATENT"] == 6 and values["AREA"] == 100
    assert "LATENT" in resolved.visible and "AREA" not in resolved.visible
    assert resolved.origin["LATENT"][1] == 12 and "AREA" not in resolved.origin
    assert resolved.assigned == set(resolved.origin)


def test_inactive_symbols_have_no_value(toy):
    values = toy.resolve([]).values
    assert values["LATENT"] is None and values["GREEN"] is False
    assert values["HIDDEN"] == 7  # no prompt now, but active


def test_a_missing_file_is_named(toy, tmp_path):
    findings = refused(toy, [tmp_path / "none.config"])
    assert str(findings[0]).endswith("none.config: No such file or directory")


@pytest.mark.parametrize(
    "line", ["CONFIG_AREA=50", "CONFIG_HIDDEN=7", "# CONFIG_GREEN is not set"]
)
def test_a_line_that_nobody_can_set_is_fatal_even_if_it_agrees(toy, write, line):
    path = write("x", line)
    assert re.search("nobody can set it|cannot be set", str(refused(toy, [path])[0]))


class TestFullConfig:
    def test_its_own_output_is_accepted(self, toy, write, full):
        assert "CONFIG_AREA=50\n" in full  # a computed line, equal to the value
        resolved = toy.resolve([DotConfig(write(".config", full))])
        assert resolved.values == toy.resolve([]).values

    def test_an_unknown_visible_symbol_is_not_defaulted(self, toy, write, full):
        path = write(".config", full.replace("CONFIG_WIDTH=10\n", ""))
        (found,) = refused(toy, [DotConfig(path)])
        assert found.symbol == "WIDTH" and "is missing; run make olddef" in found.cause

    def test_a_stale_computed_line(self, toy, write, full):
        path = write(".config", full.replace("CONFIG_AREA=50", "CONFIG_AREA=49"))
        (found,) = refused(toy, [DotConfig(path)])
        assert found.symbol == "AREA" and "run make olddefconfig" in found.cause

    def test_settle_drops_and_adds(self, toy, write, full):
        text = full.replace("CONFIG_AREA=50", "CONFIG_AREA=49\nCONFIG_GONE=y")
        path = write(".config", text.replace("CONFIG_WIDTH=10\n", ""))
        resolved, dropped, added = toy.settle(DotConfig(path))
        assert {finding.symbol for finding in dropped} == {"AREA", "GONE"}
        assert added == ["WIDTH"] and resolved.values["WIDTH"] == 10

    def test_settle_does_not_repair_a_malformed_line(self, toy, write, full):
        path = write(".config", full.replace("CONFIG_WIDTH=10", "CONFIG_WIDTH=1o"))
        with pytest.raises(ConfigError, match="is not an int"):
            toy.settle(DotConfig(path))
