"""The test matrices of defconfigs/: their arms, and that each can train."""

import pytest

from gpt2.data.loading import batch
from gpt2.settings.run import run_settings
from gpt2.training.memory import memory_estimate
from kconf.arms import generate
from kconf.axes import read_axes
from kconf.bind import SettingsError
from kconf.dotconfig import render
from kconf.overrides import Overrides
from kconf.presets import preset_files, presets
from kconf.strict import DotConfig
from matrix.settings import study_settings
from tests.conftest import ROOT

ARMS = {
    "gpt2-optimizer-matrix": 5 * 4 + 3,
    "gpt2-pruning-matrix": 7 + 7 + 5,
    "gpt2-adamwspam-vs-adamwprune-50": 4,
    "gpt2-state-criteria": 1 + 7 * 3,
}
EXCLUDED = {"muon-state-variance-50", "muon-state-variance-80"}
CRITERIA = {"hybrid", "magnitude", "gradient_magnitude", "layer_adaptive"}
CRITERIA |= {"movement", "coherence", "variance"}


@pytest.fixture(scope="module")
def matrix(tree, tmp_path_factory):
    """resolved arms = matrix(name, overlay): as loaded and planned."""

    def make(name, overlays):
        path = tmp_path_factory.mktemp("matrix") / ".config"
        resolved = tree.resolve(preset_files(ROOT, name, overlays))
        path.write_text(render(tree, resolved))
        settings = study_settings(resolved.values)
        assert (settings.mode, settings.study) == ("matrix", name)
        base, axes = [DotConfig(path)], read_axes(settings.lists)
        found = generate(tree, base, Overrides({}), axes)
        values = {a.id: tree.resolve([*base, a.stage]).values for a in found.arms}
        return found, values

    return make


@pytest.mark.parametrize("overlays", [[], ["tiny"]], ids=["full", "tiny"])
@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_train(matrix, name, overlays):
    found, values = matrix(name, overlays)
    assert len(found.arms) == ARMS[name]
    built = {id_: run_settings(each) for id_, each in values.items()}
    assert len(set(built.values())) == len(built)
    excluded = {each.id for each in found.excluded}
    assert excluded == (EXCLUDED if name == "gpt2-pruning-matrix" else set())


def test_the_criteria_are_all_there(matrix):
    found, _ = matrix("gpt2-state-criteria", ["tiny"])
    points = {(arm.point["pruning"], arm.point.get("sparsity")) for arm in found.arms}
    wanted = {(f"state:{c}", s) for c in CRITERIA for s in ("0.5", "0.7", "0.9")}
    assert points == wanted | {("none", None)}
    assert {arm.dense for arm in found.arms[1:]} == {"dense"}


def test_adamwspam_against_adamwprune(matrix):
    found, _ = matrix("gpt2-adamwspam-vs-adamwprune-50", [])
    assert [arm.id for arm in found.arms] == [
        *("adamwspam", "adamwspam-magnitude-50", "adamw", "adamw-state-hybrid-50")
    ]
    assert [arm.dense for arm in found.arms] == [None, "adamwspam", None, "adamw"]


@pytest.mark.parametrize("name", [*ARMS, "gpt2-ratio-ablation", "llama-85m-ablation"])
def test_a_group_of_four_shares_the_effective_batch(tree, name):
    values = tree.resolve(preset_files(ROOT, name, ["mi-8gpu", "slurm"])).values
    settings, train = study_settings(values), run_settings(values).train
    assert settings.launch.slurm and train.ranks == settings.launch.most_gpus == 4
    assert train.effective_batch % (train.micro_batch * train.ranks) == 0


BY_DESIGN = ("mqar",)
"""Studies whose number of seeds is part of their question (docs/recall.md)."""


def test_a_study_has_six_seeds_and_of_one_arm_eight(tree):
    """The seventh and eighth are its best buy: there is no family to pay for."""
    counts = set()
    for name in BASES:
        steps = sorted((ROOT / "defconfigs" / f"{name}.d").glob("[0-9]*.config"))
        arms = [step for step in steps[1:] if "INIT_SALT" not in step.read_text()]
        if arms and name not in BY_DESIGN:
            counts.add(len(arms))
            most = 8 if len(arms) == 1 else 6
            values = tree.resolve(preset_files(ROOT, name, [])).values
            assert study_settings(values).seed_list == tuple(range(1, most + 1)), name
    assert len(counts) > 1


H200_BYTES = 150 * 10**9
BASES, OVERLAYS = presets(ROOT)
# The pairs that are refused, and why they should be.
ODD_BATCH = "EFFECTIVE_BATCH=12: is not a multiple of micro-batch"
"""The published run has 12 sequences a step; these overlays cut steps into eights."""
LONG = "EFFECTIVE_BATCH=16: is not a multiple of micro-batch"
"""16 sequences of 4096 tokens; four GPUs of eight each take 32."""
REFUSED = {("anchor-cpu", name): ODD_BATCH for name in ("a10gx4", "mi-8gpu", "w7900")}
REFUSED["nsa-124m-ablation", "mi-8gpu"] = LONG
SHORT = "EFFECTIVE_BATCH=8: is not a multiple of micro-batch"
"""8 rows a step; four GPUs of eight take 32, and a micro-batch of 16 is too many."""
REFUSED |= {("mqar", name): SHORT for name in ("mi-8gpu", "w7900")}
# quick selects steps of a study; text takes a file's path (tests/kconf/test_cli.py).
HARDWARE = [o for o in OVERLAYS if o not in ("quick", "text")]
COMBINED = [[o] for o in HARDWARE] + [[o, "slurm"] for o in HARDWARE if o != "slurm"]


@pytest.mark.parametrize("overlays", COMBINED, ids="+".join)
@pytest.mark.parametrize("name", BASES)
def test_every_base_loads_with_every_overlay(tree, name, overlays):
    """And hardware changes nothing of what is trained: the step's tokens stay."""
    values = tree.resolve(preset_files(ROOT, name, overlays)).values
    assert study_settings(values).launch.slurm == ("slurm" in overlays)
    overlay = overlays[0]
    if (name, overlay) in REFUSED:
        with pytest.raises(SettingsError, match=REFUSED[name, overlay]):
            run_settings(values)
        return
    settings = run_settings(values)
    train = settings.train

    def estimate(micro):
        return memory_estimate(settings, micro)

    found = batch.resolve(train, train.ranks, H200_BYTES, estimate)
    alone = tree.resolve(preset_files(ROOT, name, [])).values
    wanted = 12 if overlay == "tiny" else alone["EFFECTIVE_BATCH"]
    assert found.effective == train.effective_batch == wanted
    if overlay == "h200":
        assert found.accumulation == 1, "the memory holds a whole step"
