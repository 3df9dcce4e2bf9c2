"""A merge over a .config that is kept gives what a merge from nothing gives."""

import random

import pytest

from kconf.strict import ConfigError, DotConfig, Overrides, Tree

LINES = [
    ("FLAG", "y"),
    ("FLAG", "n"),
    ("NARROW", "y"),
    ("FORCER", "y"),
    ("FORCED", "n"),
    ("BLUE", "y"),
    ("GREEN", "y"),
    ("RED", "y"),
    ("WIDTH", "20"),
    ("WIDTH", "2000"),
    ("DEPTH", "9"),
    ("LATENT", "8"),
    ("HIDDEN", "5"),
    ("RATE", "0.5"),
    ("RATE", "0.1"),
    ("NOTHING", "y"),
]


def outcome(tree, stages):
    try:
        found = tree.resolve(stages)
    except ConfigError as error:
        return [str(finding) for finding in error.findings]
    return found.values, found.visible, found.origin, found.assigned


def test_one_tree_and_a_fresh_one_agree(toy_root, toy, write, full):
    """300 random stages over two .config, each merged on a used and a new tree."""
    other = full.replace("CONFIG_RED=y", "# CONFIG_RED is not set").replace(
        "# CONFIG_BLUE is not set", "CONFIG_BLUE=y"
    )
    used, drawn = Tree(toy_root), random.Random(3)
    bases = [DotConfig(write("a", full)), DotConfig(write("b", other))]
    for _ in range(300):
        stages = [drawn.choice(bases)]
        for _ in range(drawn.randrange(3)):
            stages.append(Overrides(dict(drawn.choices(LINES, k=drawn.randrange(4)))))
        assert outcome(used, stages) == outcome(Tree(toy_root), stages)


def test_a_config_is_read_once_per_stage(toy, write, full):
    path = write("a", full)
    stage = DotConfig(path)
    assert toy.resolve([stage]).values["WIDTH"] == 10
    path.write_text(full.replace("WIDTH=10", "WIDTH=11"))
    assert toy.resolve([stage]).values["WIDTH"] == 10
    assert toy.resolve([DotConfig(path)]).values["WIDTH"] == 11


def test_a_merge_without_the_config_starts_from_nothing(toy, write, full):
    stage = DotConfig(write("a", full.replace("WIDTH=10", "WIDTH=11")))
    toy.resolve([stage])
    assert toy.resolve([]).values["WIDTH"] == 10


@pytest.mark.parametrize(
    "text, clash",
    [
        ("CONFIG_LATENT=8\n", True),
        ("CONFIG_GREEN=y\n", True),
        ("CONFIG_FLAG=y\nCONFIG_BLUE=y\nCONFIG_GREEN=y\n", True),
        ("# CONFIG_RED is not set\n", True),
        ("CONFIG_FORCER=y\n# CONFIG_FORCED is not set\n", True),
        ("CONFIG_WIDTH=2000\n", False),
        ("CONFIG_WIDTH=x\n", False),
        ("CONFIG_FLAG=1\n", False),
        ("CONFIG_NOTHING=y\n", False),
        ("CONFIG_AREA=5\n", False),
    ],
)
def test_a_clash_is_a_refusal_for_what_else_is_set(toy, write, text, clash):
    with pytest.raises(ConfigError) as caught:
        toy.resolve([write("x", text)])
    assert [finding.clash for finding in caught.value.findings] == [clash]
