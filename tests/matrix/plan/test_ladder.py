"""The sizes of a ladder: what is divided, what is refused, and what proves a ratio."""

import pytest

from gpt2.model.costs import count, meta_model
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from kconf.dotconfig import render
from kconf.presets import preset_files
from kconf.strict import ConfigError, DotConfig
from kconf.study import list_steps
from matrix.plan import ladder
from matrix.plan.cells import NETWORK, PlanError
from matrix.plan.ladder import COUNTS, DIVIDED, KEPT, require_ratios
from matrix.settings import study_settings
from tests.conftest import ROOT

QUARTER = {"CONFIG_LADDER": "4 2 1"}


@pytest.fixture
def divisible(checkout):
    """A study of 8 heads of 32, which a half and a quarter divide."""
    custom = "CONFIG_GPT2_SIZE_CUSTOM=y\nCONFIG_GPT2_WIDTH=256\nCONFIG_GPT2_HEADS=8\n"
    checkout.base = checkout.base.replace("CONFIG_GPT2_SIZE_TINY=y\n", custom)
    checkout.step("02-wide", "# Help: a wider MLP\nCONFIG_MLP_DIM=2048\n")
    checkout.configure()
    return checkout


def sizes(checkout, **environment):
    """{size: plan} of a ladder."""
    found = ladder.rungs(checkout.root, environment)
    return {rung.name: checkout.plan(**rung.environment(environment)) for rung in found}


def test_every_width_is_divided_and_heads_keep_theirs(divisible):
    plans = sizes(divisible, **QUARTER)
    assert list(plans) == ["4", "2", "1"]
    for name, heads in (("4", 2), ("2", 4), ("1", 8)):
        for cell in plans[name].cells:
            model = run_settings(cell.values).model
            assert (model.heads, model.embed, model.head_width) == (
                heads,
                32 * heads,
                32,
            )
            wide = 2048 if cell.step == "02-wide" else 4 * 256
            assert model.mlp_dim == wide // int(name)
    assert plans["4"].study_dir.name == "toy.ladder-4"
    assert plans["1"].study_dir.name == "toy"


def test_a_size_is_a_configuration_of_its_own(divisible):
    """What make ladder ran can be planned, judged and reported without it."""
    rung, *_ = ladder.rungs(divisible.root, QUARTER)
    plan = divisible.plan(KCONFIG_CONFIG=str(rung.config))
    assert plan.settings.label == "toy.ladder-4"
    assert plan.study_dir == rung.study_dir
    assert {c.hash for c in plan.cells} == {
        c.hash for c in sizes(divisible, **QUARTER)["4"].cells
    }


def test_heads_that_no_divisor_divides_are_refused(divisible):
    with pytest.raises(SettingsError, match="GPT2_HEADS=8 is no multiple of 3"):
        ladder.rungs(divisible.root, {"CONFIG_LADDER": "3 1"})
    with pytest.raises(SettingsError, match="GPT2_HEADS=8 is no multiple of 0"):
        ladder.rungs(divisible.root, {"CONFIG_LADDER": "0 1"})


def test_a_divisor_is_in_ascii(divisible):
    with pytest.raises(SettingsError, match="other characters than those of numbers"):
        ladder.rungs(divisible.root, {"CONFIG_LADDER": "٤ 1"})


@pytest.mark.parametrize("text", ["", "4", "1 .", "2 2", "4 04", "1 01"])
def test_one_size_is_no_ladder(divisible, text):
    with pytest.raises(SettingsError, match="names no two different sizes"):
        ladder.rungs(divisible.root, {"CONFIG_LADDER": text})


def test_a_width_that_a_fragment_fixes_must_divide(divisible):
    """By name: which symbol of which step cannot follow."""
    divisible.step("02-wide", "# Help: odd\nCONFIG_MLP_DIM=1026\n")
    rung, *_ = ladder.rungs(divisible.root, QUARTER)
    with pytest.raises(ConfigError, match=r"02-wide.config:2.*MLP_DIM: 1026.*DIVISOR"):
        divisible.plan(**rung.environment(QUARTER))


def test_heads_of_a_fragment_are_refused(divisible):
    divisible.step("03-gqa", "# Help: GQA\nCONFIG_GQA=y\nCONFIG_KV_HEADS=2\n")
    plans = sizes(divisible, CONFIG_LADDER="2 1")
    with pytest.raises(PlanError, match="03-gqa has its own CONFIG_KV_HEADS"):
        ladder.refuse_heads(plans["2"])
    ladder.refuse_heads(plans["1"])


def test_heads_of_the_base_are_divided(divisible):
    divisible.base += "CONFIG_GQA=y\nCONFIG_KV_HEADS=4\n"
    divisible.step("03-mha", "# Help: MHA\nCONFIG_MHA=y\n")
    divisible.configure()
    plans = sizes(divisible, **QUARTER)
    found = {cell.step: cell.values["KV_HEADS"] for cell in plans["4"].cells}
    assert found["00-control"] == 1 and found["03-mha"] is None
    ladder.refuse_heads(plans["4"])


def test_what_makes_a_size_is_not_overridden(divisible):
    with pytest.raises(PlanError, match="CONFIG_WIDTH_DIVISOR makes the size 4"):
        ladder.rungs(divisible.root, {**QUARTER, "CONFIG_WIDTH_DIVISOR": "8"})
    assert len(sizes(divisible, **QUARTER, MAX_ITERS="5")) == 3


def test_a_ladder_starts_at_a_study(divisible):
    rung, *_ = ladder.rungs(divisible.root, QUARTER)
    with pytest.raises(PlanError, match="is a part of a study"):
        ladder.rungs(divisible.root, rung.environment(QUARTER))


def test_a_size_by_a_fragment(divisible):
    fragments = divisible.root / "defconfigs" / "fragments"
    fragments.mkdir()
    (fragments / "small.config").write_text("# Help: small\nCONFIG_WIDTH_DIVISOR=2\n")
    plans = sizes(divisible, CONFIG_LADDER="small .")
    assert plans["small"].settings.label == "toy.ladder-small"
    assert {c.values["WIDTH_DIVISOR"] for c in plans["small"].cells} == {2}
    with pytest.raises(
        SettingsError, match="'large' is neither a number nor one of sm"
    ):
        ladder.rungs(divisible.root, {"CONFIG_LADDER": "large ."})


# -- ratios -------------------------------------------------------------------


def facts_of(tree, stages) -> dict[str, dict]:
    """{step: ratios} of a study's steps over a base."""
    found = {}
    for step in list_steps(ROOT, tree.resolve(stages).values["STUDY"]):
        values = tree.resolve([*stages, step.stage]).values
        facts = count(meta_model(run_settings(values).model))
        found[step.id] = {name: getattr(facts, name) for name in ladder.RATIOS}
    return found


def base_of(tree, name, path) -> DotConfig:
    path.write_text(render(tree, tree.resolve(preset_files(ROOT, name, []))))
    return DotConfig(path)


STUDIES = ("gpt2-ratio-ablation", "gpt2-attention-ablation", "llama-85m-ablation")
STUDIES += ("gpt2-hybrid-ablation",)


@pytest.mark.parametrize("study", STUDIES)
def test_the_studies_keep_their_ratios(tree, tmp_path, study):
    """12 × 192, 384 and 768 with heads of 64: every step of every study."""
    base = base_of(tree, study, tmp_path / ".config")
    plain = tree.resolve([base])
    whole = facts_of(tree, [base])
    for divisor in (4, 2):
        settings = study_settings(plain.values)
        lines = ladder._divided(divisor, plain.values, settings)
        model = run_settings(tree.resolve([base, tuple(lines)]).values).model
        assert (model.embed, model.head_width, model.depth) == (768 // divisor, 64, 12)
        require_ratios(whole, str(divisor), facts_of(tree, [base, tuple(lines)]))


def test_a_width_alone_is_another_study(tree, tmp_path):
    """768 to 192 where fragments fix their MLP: 1:2.5 would be 1:10 in silence."""
    base = base_of(tree, "gpt2-ratio-ablation", tmp_path / ".config")
    narrow = tmp_path / "narrow.config"
    shape = "CONFIG_GPT2_SIZE_CUSTOM=y\nCONFIG_GPT2_WIDTH=192\nCONFIG_GPT2_HEADS=3\n"
    narrow.write_text(shape)
    whole, there = facts_of(tree, [base]), facts_of(tree, [base, narrow])
    with pytest.raises(PlanError) as caught:
        require_ratios(whole, "narrow", there)
    said = str(caught.value)
    assert "the size narrow is another study" in said
    assert "02-golden-ratio: attn_mlp_ratio is 1:10.000, in the study 1:2.500" in said
    assert "00-baseline" not in said  # its MLP follows the width


@pytest.mark.parametrize("share, refused", [(0.009, False), (0.011, True)])
def test_how_far_a_ratio_may_be(share, refused):
    whole = {"a": {"attn_mlp_ratio": None, "network_ratio": 2.0}}
    there = {"a": {"attn_mlp_ratio": None, "network_ratio": 2.0 * (1 - share)}}
    if refused:
        with pytest.raises(PlanError, match="a: network_ratio is 1:1.978"):
            require_ratios(whole, "4", there)
    else:
        require_ratios(whole, "4", there)


def test_a_ratio_that_is_there_at_one_size_alone(tree):
    whole = {"a": {"attn_mlp_ratio": 2.0, "network_ratio": 2.0}}
    there = {"a": {"attn_mlp_ratio": None, "network_ratio": 2.0}}
    with pytest.raises(PlanError, match="attn_mlp_ratio is None, in the study 2.0"):
        require_ratios(whole, "4", there)


# -- the list of what scales ----------------------------------------------------


def test_every_number_of_the_network_is_placed(tree):
    """A new width must be divided; whoever adds a number says where it belongs."""
    numbers = {
        symbol
        for symbol in tree.symbols
        if tree.menus(symbol)[:1] == (NETWORK,) and tree.kind(symbol) == "int"
    }
    placed = [*DIVIDED, *COUNTS, *KEPT]
    assert len(placed) == len(set(placed)) and set(placed) == numbers


WIDE = {"MLP_ATTN_GATE": "y", "GPT2_SIZE_CUSTOM": "y"}
LATENT = {"MLA": "y", "MLP_CROSS_TOKEN": "y"}
SPARSE = {"MIXER_NSA": "y", "NSA_PHI_MLP": "y"}


@pytest.mark.parametrize("symbol", DIVIDED)
def test_what_is_said_to_be_divided_is(tree, resolve, symbol):
    """Twice the number under twice the divisor is the same matrix."""
    plain = {**WIDE, "GPT2_WIDTH": "128", "GPT2_HEADS": "4", "MLP_DIM": "256"}
    plain |= {"MLP_ATTN_GATE_RANK": "32"}
    others = {
        "NSA_PHI_RANK": {**SPARSE, "NSA_PHI_RANK": "8"},
        "GLA_RANK": {"MIXER_GLA": "y", "GLA_RANK": "8"},
        "MAMBA2_STATE": {"MIXER_MAMBA2": "y", "MAMBA2_STATE": "8"},
    }
    if symbol in others:
        plain |= others[symbol]
    else:
        plain |= {**LATENT, "MLA_LATENT": "32", "MLP_CROSS_TOKEN_RANK": "16"}
    doubled = {s: str(2 * int(plain[s])) for s in DIVIDED if s in plain}
    built = {
        "GPT2_WIDTH": lambda model: model.embed,
        "MLP_DIM": lambda model: model.mlp_dim,
        "MLA_LATENT": lambda model: model.latent,
        "MLP_ATTN_GATE_RANK": lambda model: model.gate_rank,
        "MLP_CROSS_TOKEN_RANK": lambda model: model.cross_rank,
        "NSA_PHI_RANK": lambda model: model.of("nsa").rank(model),
        "GLA_RANK": lambda model: model.of("gla").rank(model),
        "MAMBA2_STATE": lambda model: model.of("mamba2").state_width(model),
    }[symbol]
    one = run_settings(resolve({}, **plain)).model
    two = run_settings(resolve({}, **{**plain, **doubled, "WIDTH_DIVISOR": "2"})).model
    assert built(one) == built(two) is not None
