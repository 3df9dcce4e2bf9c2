"""Axes to arms: names, exclusions, duplicates, the fragment that is left."""

from pathlib import Path

import pytest

from kconf.arms import choose, generate
from kconf.axes import BITTER, read_axes
from kconf.bind import SettingsError
from kconf.dotconfig import render
from kconf.points import LONGEST_ID, Point
from kconf.strict import ConfigError, DotConfig, Overrides, Tree
from kconf.study import idle_lines, prove

BOOLS = {
    "OPTIMIZER": ["SGD", "ADAMW", "ADAMWSPAM"],
    "PRUNING": ["NONE", "MAGNITUDE", "STATE"],
    "CRITERION": ["HYBRID", "MAGNITUDE", "GRADIENT_MAGNITUDE", "LAYER_ADAPTIVE"],
}
BOOLS["CRITERION"] += ["MOVEMENT", "COHERENCE", "VARIANCE"]
DEPENDS = {
    "PRUNING_STATE": "OPTIMIZER_HAS_MOMENTS",
    "CRITERION": "PRUNING_STATE",
    "PRUNING_SPARSITY": "!PRUNING_NONE",
}
OTHERS = [
    ("MATRIX_OPTIMIZERS", "string", '""', "operational"),
    ("MATRIX_PRUNING", "string", '""', "operational"),
    ("MATRIX_SPARSITIES", "string", '""', "operational"),
    ("MATRIX_LEARNING_RATES", "string", '""', "operational"),
    ("MATRIX_AXES", "string", '""', "operational"),
    ("PRUNING_SPARSITY", "string", '"0.5"', "identity"),
    ("LEARNING_RATE", "string", '"6e-4"', "identity"),
    ("ADAM_BETA2", "string", '"0.95"', "identity"),
    ("NOTE", "string", '""', "identity"),
    ("WIDTH", "int", "8", "identity"),
    ("BATCH_SIZE", "int", "8", "identity"),
    ("EFFECTIVE_BATCH", "int", "0", "identity"),
    ("GPT2_GRADIENT_ACCUMULATION", "int", "0", "identity"),
    ("GPT2_BLOCK_SIZE", "int", "16", "identity"),
    ("GPT2_MAX_ITERS", "int", "10", "identity"),
    ("GPT2_MAX_TIME", "int", "0", "identity"),
    ("BUDGET_TIME", "bool", "n", "identity"),
]


def kconfig() -> str:
    """A tree with the symbols that the axes name, and some others."""
    text = 'mainmenu "toy"\nconfig OPTIMIZER_HAS_MOMENTS\n\tbool\n'
    text += "\tdefault y if !OPTIMIZER_SGD\n\thelp\n\t  [identity]\n"
    for choice, members in BOOLS.items():
        on = f"\tdepends on {DEPENDS[choice]}\n" if choice in DEPENDS else ""
        first = "ADAMW" if choice == "OPTIMIZER" else members[0]
        text += (
            f'choice {choice}\n\tprompt "{choice}"\n{on}\tdefault {choice}_{first}\n'
        )
        for name in members:
            name = f"{choice}_{name}"
            on = f"\tdepends on {DEPENDS[name]}\n" if name in DEPENDS else ""
            text += f'config {name}\n\tbool "{name}"\n{on}\thelp\n\t  [identity]\n'
        text += "endchoice\n"
    for name, kind, default, tag in OTHERS:
        on = f"\tdepends on {DEPENDS[name]}\n" if name in DEPENDS else ""
        limits = "\trange 0 100\n" if kind == "int" else ""
        text += f'config {name}\n\t{kind} "{name}"\n{on}{limits}\tdefault {default}\n'
        text += f"\thelp\n\t  [{tag}]\n"
    return text


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Tree:
    root = tmp_path_factory.mktemp("arms")
    (root / "Kconfig").write_text(kconfig())
    return Tree(root)


@pytest.fixture
def base(tree, tmp_path) -> list:
    path = tmp_path / ".config"
    path.write_text(render(tree, tree.resolve([])))
    return [DotConfig(path)]


@pytest.fixture
def made(tree, base):
    """matrix = made(OPTIMIZERS="adamw", …, overrides): the arms of these lists."""

    def make(overrides=Overrides({}), **lists):
        found = tree.resolve(base).values
        found = found | {f"MATRIX_{name}": raw for name, raw in lists.items()}
        return generate(tree, base, overrides, read_axes(found, overrides))

    return make


def ids(matrix) -> list[str]:
    return [arm.id for arm in matrix.arms]


def lines(matrix, id_: str) -> list[str]:
    return next([str(x) for x in arm.lines] for arm in matrix.arms if arm.id == id_)


def test_the_cross_product_without_sparsities_of_nothing(made):
    matrix = made(
        OPTIMIZERS="adamw,sgd", PRUNING="none,magnitude", SPARSITIES="0.5,0.75"
    )
    assert ids(matrix) == [
        "adamw",
        "adamw-magnitude-50",
        "adamw-magnitude-75",
        "sgd",
        "sgd-magnitude-50",
        "sgd-magnitude-75",
    ]
    assert matrix.notes == () and matrix.excluded == ()
    assert [arm.dense for arm in matrix.arms] == [
        *(None, "adamw", "adamw"),
        *(None, "sgd", "sgd"),
    ]


def test_a_fragment_holds_what_differs_from_the_base(made):
    matrix = made(
        OPTIMIZERS="adamw,sgd", PRUNING="none,state:variance", SPARSITIES="0.5"
    )
    assert lines(matrix, "adamw") == [], "the base as it is"
    assert lines(matrix, "sgd") == ["CONFIG_OPTIMIZER_SGD=y"]
    assert lines(matrix, "adamw-state-variance-50") == [
        "CONFIG_PRUNING_STATE=y",
        "CONFIG_CRITERION_VARIANCE=y",
    ], "0.5 is the default"
    arm = matrix.arms[1]
    assert arm.help == (
        "optimizer adamw, pruning state:variance, sparsity 0.5, learning_rate 6e-4"
    )
    assert arm.text == (
        f"# Help: {arm.help}\nCONFIG_PRUNING_STATE=y\nCONFIG_CRITERION_VARIANCE=y\n"
    )


def test_every_arm_passes_the_proof_of_a_step(tree, base, made):
    matrix = made(
        OPTIMIZERS="adamw,adamwspam,sgd",
        PRUNING="none,magnitude,state:variance,state:movement",
        SPARSITIES="0.5,0.9",
        LEARNING_RATES="6e-4,1e-3",
        AXES="CONFIG_WIDTH=8,9",
    )
    proven = prove(tree, base, matrix.arms)
    assert len(proven) == len(matrix.arms) == 2 * 2 * (2 * 7 + 3)
    for arm, resolved, difference in proven:
        assert difference.violations == []
        assert idle_lines(tree.resolve, resolved, arm.stage, arm.lines) == []
        chosen = {s for s, v in resolved.values.items() if v is True}
        assert f"OPTIMIZER_{arm.point['optimizer'].upper()}" in chosen
        method, _, criterion = arm.point["pruning"].partition(":")
        assert f"PRUNING_{method.upper()}" in chosen
        assert not criterion or f"CRITERION_{criterion.upper()}" in chosen
        assert resolved.values["LEARNING_RATE"] == arm.point["learning_rate"]
        assert resolved.values["PRUNING_SPARSITY"] == arm.point.get("sparsity")
        assert resolved.values["WIDTH"] == int(arm.point["WIDTH"])


def test_an_impossible_pair_is_excluded_in_the_loaders_words(made):
    matrix = made(
        OPTIMIZERS="adamw,sgd", PRUNING="none,magnitude,state:hybrid", SPARSITIES="0.7"
    )
    assert "sgd-magnitude-70" in ids(matrix)
    (excluded,) = matrix.excluded
    assert excluded.id == "sgd-state-hybrid-70"
    assert excluded.why == (
        "CONFIG_PRUNING_STATE cannot be set: needs OPTIMIZER_HAS_MOMENTS "
        "(now OPTIMIZER_HAS_MOMENTS=n) (Kconfig computes n)"
    ), "the root alone: criterion and sparsity follow from it"


def test_a_control_that_cannot_be_is_an_error(made):
    with pytest.raises(
        ConfigError, match="PRUNING_SPARSITY: cannot be set: needs !PRUN"
    ):
        made(SPARSITIES="0.5,0.7")


def test_historic_names(made):
    matrix = made(OPTIMIZERS="adamwspam,adamwprune", PRUNING="none,magnitude")
    assert ids(matrix) == [
        *("adamwspam", "adamwspam-magnitude", "adamw", "adamw-state-hybrid")
    ]
    assert matrix.notes == ("adamwprune is adamw pruned by state:hybrid",)
    assert lines(matrix, "adamwspam") == [
        "CONFIG_OPTIMIZER_ADAMWSPAM=y",
        'CONFIG_ADAM_BETA2="0.999"',
    ]
    alone = made(OPTIMIZERS="adamwprune", SPARSITIES="0.9", PRUNING="none")
    assert ids(alone) == ["adamw", "adamw-state-hybrid-90"]
    alone = made(OPTIMIZERS="adamwprune", SPARSITIES="0.9")
    assert ids(alone) == ["adamw", "adamw-state-hybrid-90"]
    assert alone.arms[1].dense == "adamw"


def test_bitter_names(made):
    for number in range(10):
        for written in (f"bitter{number}", f"state:bitter{number}"):
            matrix = made(PRUNING=f"none,{written}")
            criterion, _ = BITTER[f"bitter{number}"]
            assert ids(matrix) == ["dense", f"state-{criterion}"]
            assert matrix.notes[0].startswith(f"bitter{number} is state:{criterion}")
    assert "budget" in made(PRUNING="bitter2").notes[0]
    assert "fp16" in made(PRUNING="bitter8").notes[0]


def test_duplicates_collapse_and_are_stated(made):
    matrix = made(
        OPTIMIZERS="adamw,adamwprune", PRUNING="none,state,state:hybrid,bitter0"
    )
    assert ids(matrix) == ["adamw", "adamw-state"]
    assert matrix.notes[2:] == (
        "named twice, run once: adamw, adamw-state-hybrid",
        "adamw-state-hybrid is adamw-state: one configuration, run once",
    )


def test_the_control_is_added(made):
    matrix = made(PRUNING="magnitude", LEARNING_RATES="1e-3,6e-4")
    assert ids(matrix) == ["lr1e-3", "magnitude-lr1e-3", "magnitude-lr6e-4"]
    assert matrix.notes == ("lr1e-3 is added: the control, which no axis names",)
    assert matrix.arms[2].dense is None, "no arm without pruning at that rate"


def test_an_optimizer_with_rates_of_its_own(made):
    matrix = made(
        OPTIMIZERS="adamw,sgd,adamwspam", LEARNING_RATES="6e-4,1e-3; sgd=1e-1,0.3"
    )
    assert ids(matrix) == [
        *("adamw-lr6e-4", "adamw-lr1e-3", "sgd-lr1e-1", "sgd-lr0.3"),
        *("adamwspam-lr6e-4", "adamwspam-lr1e-3"),
    ]
    alone = made(OPTIMIZERS="adamw,sgd", LEARNING_RATES=";sgd=1e-1")
    assert ids(alone) == ["adamw", "sgd-lr1e-1"]
    shot = Overrides({"MATRIX_AXES": "CONFIG_LEARNING_RATE=1e-2"})
    lists = dict(OPTIMIZERS="adamw,sgd", LEARNING_RATES=";sgd=1e-1")
    lists["AXES"] = shot["MATRIX_AXES"]
    assert ids(made(shot, **lists)) == ["adamw-lr1e-2", "sgd-lr1e-2"]


@pytest.mark.parametrize(
    "rates, why",
    [
        ("1e-3;sgd", "'sgd' is not OPTIMIZER=rate,rate"),
        ("1e-3;sgd=", "is not OPTIMIZER=rate,rate"),
        ("1e-3;adamwspam=1", "is of none of the optimizers adamw, sgd"),
        ("1e-3;adamwprune=1", "is of none of the optimizers adamw, sgd"),
        ("1e-3;sgd=1;sgd=2", "'sgd=2' is a second one"),
        ("1e-3;sgd=x", "'x' is not a number"),
        ("1e-3;sgd=1_0", "'1_0' is not a number"),
        ("1e-3;sgd=٣", "'٣' is not a number"),
        ("1e-3,,;sgd=1", "has an empty value"),
    ],
)
def test_rates_of_its_own_that_cannot_be_read(made, rates, why):
    with pytest.raises(SettingsError, match=why):
        made(OPTIMIZERS="adamw,sgd", LEARNING_RATES=rates)


def test_companions_yield_to_an_axis(made):
    matrix = made(OPTIMIZERS="adamw,adamwspam", AXES="CONFIG_ADAM_BETA2=0.95,0.99")
    assert lines(matrix, "adamwspam-adam-beta2-0.95") == [
        "CONFIG_OPTIMIZER_ADAMWSPAM=y"
    ]
    assert 'CONFIG_ADAM_BETA2="0.99"' in lines(matrix, "adamwspam-adam-beta2-0.99")


def test_values_with_blanks_and_odd_characters(made):
    matrix = made(AXES="CONFIG_NOTE= a b , a_b,a/b,../x ; CONFIG_WIDTH= 8")
    assert [arm.point["NOTE"] for arm in matrix.arms] == ["a b", "a_b", "a/b", "../x"]
    names = ids(matrix)
    assert len(set(names)) == 4 and names[1] == "note-a_b-width-8"
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for name in names
    )
    assert names[0].startswith("note-a_b-width-8-") and len(names[0]) == 23
    assert lines(matrix, names[0]) == ['CONFIG_NOTE="a b"']


def test_a_long_value_still_names_a_directory(made, tmp_path):
    long = "x" * 300
    matrix = made(AXES=f"CONFIG_NOTE={long}1,{long}2")
    names = ids(matrix)
    assert len(set(names)) == 2 and {len(name) for name in names} == {LONGEST_ID}
    for name in names:
        (tmp_path / name).mkdir()
    assert names == ids(made(AXES=f"CONFIG_NOTE={long}1,{long}2")), "the same again"


def test_names_that_meet_are_an_error(made):
    """x and 1-adam-beta2-1 read like x-adam-beta2-1 and 1."""
    axes = "CONFIG_NOTE=x-adam-beta2-1,x;CONFIG_ADAM_BETA2=1,1-adam-beta2-1"
    with pytest.raises(ConfigError, match="two arms would have the name note-x-adam"):
        made(AXES=axes)


@pytest.mark.parametrize(
    "point, name",
    [
        (Point(), "dense"),
        (Point("adamw", "6e-4", (), "magnitude", "0.5"), "adamw-magnitude-50-lr6e-4"),
        (
            Point("adamw", None, (), "state:variance", "0.995"),
            "adamw-state-variance-99.5",
        ),
        (Point(sparsity="0.29"), "sparsity-29"),
        (Point("adamw", pruning="none", rate="1e-3"), "adamw-lr1e-3"),
        (Point(symbols=(("GPT2_BIAS", "n"),)), "gpt2-bias-n"),
    ],
)
def test_names(point, name):
    assert point.id == name


def test_choose(made):
    arms = made(OPTIMIZERS="adamw,sgd", PRUNING="none,magnitude").arms
    assert [arm.id for arm in choose(arms, "sgd-*, adamw")] == [
        "adamw",
        "sgd-magnitude",
    ]
    assert choose(arms, "all") == list(arms)
    with pytest.raises(ConfigError, match="no arm 'x'; known: adamw, adamw-magnitude,"):
        choose(arms, "adamw,x")


@pytest.mark.parametrize(
    "lists, why",
    [
        ({"OPTIMIZERS": "adamx"}, "no 'adamx'; known: sgd, adamw, adamwspam"),
        ({"PRUNING": "stat"}, "no 'stat'; known: none, magnitude, state"),
        ({"PRUNING": "state:x"}, "no 'state:x'; known: state:hybrid, state:magnitude"),
        ({"PRUNING": "magnitude:hybrid"}, "only state takes a criterion"),
        ({"AXES": "CONFIG_WIDHT=1"}, "not defined .did you mean CONFIG_WIDTH"),
        ({"AXES": "CONFIG_OPTIMIZER_HAS_MOMENTS=y"}, "has no prompt"),
        ({"AXES": "CONFIG_CRITERION_HYBRID=y"}, "set by CONFIG_MATRIX_PRUNING"),
        ({"AXES": "CONFIG_WIDTH=101,8"}, "out of range"),
        ({"AXES": "CONFIG_WIDTH=8,101"}, "CONFIG_WIDTH: 101 is out of range"),
        ({"AXES": "CONFIG_WIDTH=8,x"}, "CONFIG_WIDTH: 'x' is not an int"),
        (
            {"AXES": "CONFIG_GPT2_MAX_ITERS=10,11"},
            "trains on 1,408 tokens, .* on 1,280",
        ),
        ({"AXES": "CONFIG_GPT2_MAX_TIME=0,9"}, "1,280 tokens, at most 9.0s"),
        (
            {
                "AXES": "CONFIG_WIDTH=" + ",".join(map(str, range(101))),
                "LEARNING_RATES": ",".join(f"{n}e-4" for n in range(1, 101)),
            },
            "more than 10,000 arms",
        ),
    ],
)
def test_refusals(made, lists, why):
    with pytest.raises(ConfigError, match=why):
        made(**lists)


def test_no_axis_at_all(made):
    with pytest.raises(SettingsError, match="has no axis"):
        made()


def test_a_time_budget_is_the_seconds(made):
    timed = Overrides({"BUDGET_TIME": "y", "GPT2_MAX_TIME": "60"})
    assert len(made(timed, AXES="CONFIG_BATCH_SIZE=8,16").arms) == 2


def test_the_real_tree_has_the_choices():
    tree = Tree(Path(__file__).resolve().parents[2])
    assert {"adamw", "adamwspam"} <= set(tree.members("OPTIMIZER_"))
    assert {"none", "magnitude"} <= set(tree.members("PRUNING_"))


def test_no_override_of_what_an_axis_sets(made):
    rate = Overrides({"LEARNING_RATE": "1"})
    with pytest.raises(ConfigError, match="CONFIG_LEARNING_RATE is an axis"):
        made(rate, OPTIMIZERS="adamw,sgd", LEARNING_RATES=";sgd=1e-1")
    sparsity = Overrides({"PRUNING_SPARSITY": "0.6", "PRUNING_MAGNITUDE": "y"})
    with pytest.raises(ConfigError, match="CONFIG_PRUNING_SPARSITY is an axis"):
        made(sparsity, SPARSITIES="0.5")
