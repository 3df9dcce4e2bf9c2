"""make check fails when optimizers, checkpoints or pruning are sabotaged."""

import pytest
import torch

from gpt2 import optim
from gpt2.check.proofs import learning, moments
from gpt2.check.proofs.pruning import reaches_its_sparsity
from gpt2.check.proofs.saving import save_and_resume
from gpt2.check.run import check_study
from gpt2.check.studies import from_defconfig
from gpt2.check.subject import Broken, Subject
from gpt2.optim import spam
from gpt2.optim.muon import MuonAdamW
from gpt2.pruning import layers, schedule
from gpt2.pruning.pruner import Pruner
from gpt2.training import checkpoint
from kconf.overrides import Overrides
from kernels.adamw import reference as spam_kernel
from kernels.pruning import reference
from tests.gpt2.sabotage import broken, copy_of_the_study


def test_a_parameter_that_the_optimizer_forgets(verdicts, monkeypatch):
    plain = optim.build

    def forgetful(model, settings):
        optimizer = plain(model, settings)
        optimizer.param_groups[1]["params"].pop()
        return optimizer

    monkeypatch.setattr(optim, "build", forgetful)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "update and decay"}


def test_decay_on_norms(verdicts, monkeypatch):
    plain = optim.build

    def everywhere(model, settings):
        optimizer = plain(model, settings)
        decayed, rest = optimizer.param_groups
        decayed["params"].append(rest["params"].pop(2))
        return optimizer

    monkeypatch.setattr(optim, "build", everywhere)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "update and decay"}


def test_decay_switched_off(verdicts, monkeypatch):
    plain = optim.build

    def without(model, settings):
        optimizer = plain(model, settings)
        optimizer.param_groups[0]["weight_decay"] = 0.0
        return optimizer

    monkeypatch.setattr(optim, "build", without)
    assert broken(verdicts("0")) == {"00-baseline": "optimizer as configured"}


def test_a_checkpoint_without_the_optimizer(verdicts, monkeypatch):
    plain = checkpoint.resume

    def forgetting(directory, identity, model, optimizer, pruner):
        fresh = torch.optim.AdamW(model.parameters())
        del fresh
        state = optimizer.state_dict()
        progress = plain(directory, identity, model, optimizer, pruner)
        optimizer.load_state_dict(state)
        return progress

    monkeypatch.setattr(checkpoint, "resume", forgetting)
    assert broken(verdicts("0")) == {"00-baseline": "save and resume"}


SPARSE = "01-spam-magnitude-50"


def test_masks_that_are_not_restored(verdicts, monkeypatch):
    monkeypatch.setattr(Pruner, "load", lambda self, masks: None)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "save and resume"}
    assert "the masks of h.0.attn" in found[0].found


def test_a_spam_counter_that_is_not_saved(verdicts, monkeypatch):
    plain = spam.AdamWSPAM.load_state_dict

    def forgetting(self, state):
        plain(self, state)
        for group in self.param_groups:
            group["step"] = 0

    monkeypatch.setattr(spam.AdamWSPAM, "load_state_dict", forgetting)
    assert broken(verdicts("1")) == {SPARSE: "save and resume"}


def test_pruned_weights_that_grow_back(verdicts, monkeypatch):
    monkeypatch.setattr(Pruner, "before_step", lambda self: None)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert "a pruned weight is not zero" in found[0].found


def test_state_of_pruned_weights_that_is_kept(verdicts, monkeypatch):
    monkeypatch.setattr(Pruner, "_zeroed", lambda self: [self._values()])
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert "exp_avg of a pruned weight is not zero" in found[0].found


def test_a_schedule_that_falls_short(verdicts, monkeypatch):
    monkeypatch.setattr(schedule, "cubic", lambda final, p: 0.99 * final)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert "the schedule to 0.5 asks for" in found[0].found


def test_an_optimizer_that_stops_with_pruning(verdicts, monkeypatch):
    plain = Pruner.update

    def freezing(self, count):
        plain(self, count)
        if self.sparsity() > 0.4:
            self.optimizer.param_groups[0]["lr"] = 0.0

    monkeypatch.setattr(Pruner, "update", freezing)
    found = verdicts("1")
    assert "its live weights do not train" in found[0].found


def test_a_pruner_without_an_expectation(tree, tmp_path, monkeypatch):
    """The proof of its own, where no `# Expect:` asks first."""
    study = copy_of_the_study(tmp_path)
    path = study / "gpt2-ratio-ablation.d" / f"{SPARSE}.config"
    path.write_text(path.read_text().replace(" sparsity=0.50", ""))
    monkeypatch.setattr(schedule, "cubic", lambda final, p: 0.99 * final)
    chosen = from_defconfig(tmp_path, "gpt2-ratio-ablation").only("1")
    found = check_study(tree, chosen, Overrides({}))
    assert broken(found) == {SPARSE: "reaches its sparsity"}


@pytest.mark.parametrize("line", ['SPARSITY="0.6"', "NONE=y"])
def test_a_sparsity_that_is_not_what_is_expected(tree, tmp_path, line):
    study = copy_of_the_study(tmp_path)
    path = study / "gpt2-ratio-ablation.d" / f"{SPARSE}.config"
    kept = path.read_text()
    if line == "NONE=y":
        kept = kept.replace("CONFIG_PRUNING_MAGNITUDE=y\n", "")
    else:
        kept += f"CONFIG_PRUNING_{line}\n"
    path.write_text(kept)
    found = check_study(
        tree, from_defconfig(tmp_path, "gpt2-ratio-ablation").only("1"), Overrides({})
    )
    assert broken(found) == {SPARSE: "expectations"}
    told = "sparsity=0.50, the model has 0.60" if "0.6" in line else "sparsity is none"
    assert told in found[0].found


def test_moments_that_are_not_those_configured(verdicts, monkeypatch):
    plain = optim.build

    def other(model, settings):
        optimizer = plain(model, settings)
        optimizer.param_groups[0]["betas"] = (0.9, 0.999)
        return optimizer

    monkeypatch.setattr(optim, "build", other)
    assert broken(verdicts("0")) == {"00-baseline": "optimizer as configured"}


# -- optimizers and methods beyond the study's own -----------------------------


def broken_by(proof, settings):
    """What a proof finds for these settings."""
    with pytest.raises(Broken) as caught:
        proof(Subject("sabotaged", settings, settings, {}))
    return str(caught.value)


STATE = {"PRUNING_STATE": "y", "PRUNING_SPARSITY": "0.6"}
MOVING = STATE | {"CRITERION_MOVEMENT": "y"}


def test_movement_with_the_historic_sign(small, monkeypatch):
    def inverted(w, m, v):
        return w.sign() * m / (v.sqrt() + 1e-8)

    monkeypatch.setitem(reference.SCORES, "movement", inverted)
    found = broken_by(reaches_its_sparsity, small(**MOVING))
    assert "by the criterion went, one worth" in found


def test_external_movement_with_the_other_sign(small, monkeypatch):
    plain = torch._foreach_addcmul_
    monkeypatch.setattr(
        torch, "_foreach_addcmul_", lambda s, w, g, value: plain(s, w, g, value=-value)
    )
    found = broken_by(reaches_its_sparsity, small(PRUNING_MOVEMENT="y"))
    assert "by the criterion went, one worth" in found


def test_pruned_weights_that_are_ranked(small, monkeypatch):
    """They score 0 and come before every live weight that scores below 0."""
    monkeypatch.setattr(reference, "ranked", lambda key, mask, pattern: key)
    found = broken_by(reaches_its_sparsity, small(PRUNING_MAGNITUDE="y"))
    assert "weights are zero after step" in found


def test_a_cubic_the_wrong_way_round(small, monkeypatch):
    monkeypatch.setattr(schedule, "cubic", lambda final, p: final * p**3)
    found = broken_by(reaches_its_sparsity, small(PRUNING_MAGNITUDE="y"))
    assert "the schedule to 0.5 asks for" in found


@pytest.mark.parametrize("kind", ["ADAMWADV", "MUON", "SGD"])
def test_state_that_is_not_masked(small, monkeypatch, kind):
    monkeypatch.setattr(Pruner, "_zeroed", lambda self: [self._values()])
    settings = small(PRUNING_MAGNITUDE="y", **{f"OPTIMIZER_{kind}": "y"})
    found = broken_by(reaches_its_sparsity, settings)
    assert "of a pruned weight is not zero" in found or "weight is not zero" in found


def test_a_pattern_that_takes_three_of_four(small, monkeypatch):
    plain = reference.ranked
    monkeypatch.setattr(
        reference, "ranked", lambda key, mask, p: plain(key, mask, "unstructured")
    )
    settings = small(PRUNING_MAGNITUDE="y", PATTERN_2_4="y")
    assert "of four consecutive inputs went" in broken_by(
        reaches_its_sparsity, settings
    )


ADAPTIVE = STATE | {"CRITERION_LAYER_ADAPTIVE": "y", "PRUNING_SPARSITY": "0.9"}


def test_blocks_that_lose_alike(small, monkeypatch):
    monkeypatch.setattr(layers, "FIRST", 1.0)
    monkeypatch.setattr(layers, "LAST", 1.0)
    found = broken_by(reaches_its_sparsity, small(**ADAPTIVE))
    assert "where rising from block to block makes it" in found


def test_a_full_block_whose_rest_goes_elsewhere(small, monkeypatch):
    """What it cannot take falls to the blocks with room, by their factors."""

    def cut_off(sizes, sparsity):
        return [min(1.0, f * sparsity) for f in (0.7, 1.0, 1.3)]

    monkeypatch.setattr(layers, "sparsities", cut_off)
    found = broken_by(reaches_its_sparsity, small(**ADAPTIVE))
    assert "where rising from block to block makes it" in found


SPAM = {"OPTIMIZER_ADAMWSPAM": "y", "ADAM_BETA2": "0.999"}


def test_spam_that_takes_decay_for_off(small, monkeypatch):
    plain = spam.AdamWSPAM._update

    def without(self, group):
        plain(self, {**group, "weight_decay": 0.0})
        group["step"] += 1

    monkeypatch.setattr(spam.AdamWSPAM, "_update", without)
    assert "decay alone" in broken_by(learning.update, small(**SPAM))


def test_spam_that_clips_where_v_is_zero(small, monkeypatch):
    def everywhere(grads, v, theta):
        bounds = [(theta * x).sqrt() for x in v]
        return [g.clamp(-b, b) for g, b in zip(grads, bounds)]

    monkeypatch.setattr(spam_kernel, "clipped", everywhere)
    assert "what SPAM makes of a spike" in broken_by(moments.moments, small(**SPAM))


def test_spam_that_counts_a_step_twice(small, monkeypatch):
    plain = spam.AdamWSPAM._update

    def twice(self, group):
        plain(self, group)
        group["step"] += 1

    monkeypatch.setattr(spam.AdamWSPAM, "_update", twice)
    assert "step 2 under a constant" in broken_by(moments.moments, small(**SPAM))


def test_spam_that_keeps_its_moments(small, monkeypatch):
    monkeypatch.setattr(torch, "_foreach_zero_", lambda tensors: None)
    assert "v after a reset" in broken_by(moments.moments, small(**SPAM))


def test_a_muon_that_adamw_steps_as_well(small, monkeypatch):
    plain = MuonAdamW.step

    def twice(self):
        plain(self)
        self.parts[1].step()

    monkeypatch.setattr(MuonAdamW, "step", twice)
    found = broken_by(moments.moments, small(OPTIMIZER_MUON="y"))
    assert "step 1 under a constant" in found


def test_muon_that_forgets_what_it_loaded(small, monkeypatch):
    """Parts that go on with groups and state of their own."""
    monkeypatch.delattr(MuonAdamW, "load_state_dict")
    found = broken_by(save_and_resume, small(OPTIMIZER_MUON="y"))
    assert "differs after a checkpoint" in found
