"""make check fails when optimizers, checkpoints or pruning are sabotaged."""

import pytest
import torch

from gpt2 import checkpoint, optim
from gpt2.check.run import check_study
from gpt2.check.studies import from_defconfig
from gpt2.optim import spam
from gpt2.pruning import schedule
from gpt2.pruning.pruner import Pruner
from kconf.overrides import Overrides
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
    assert "the mask of h.0.attn" in found[0].found


def test_a_spam_counter_that_is_not_saved(verdicts, monkeypatch):
    plain = spam.AdamWSPAM.load_state_dict

    def forgetting(self, state):
        plain(self, state)
        for group in self.param_groups:
            group["step"] = 0

    monkeypatch.setattr(spam.AdamWSPAM, "load_state_dict", forgetting)
    assert broken(verdicts("1")) == {SPARSE: "save and resume"}


def test_pruned_weights_that_grow_back(verdicts, monkeypatch):
    plain = Pruner.after_step

    def once(self, steps, spent):
        return plain(self, steps, spent) if self.pruned == 0 else None

    monkeypatch.setattr(Pruner, "after_step", once)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert "a pruned weight is not zero" in found[0].found


def test_state_of_pruned_weights_that_is_kept(verdicts, monkeypatch):
    def apply(self):
        for name, weight in self.weights.items():
            weight.data.masked_fill_(self.masks[name], 0.0)

    monkeypatch.setattr(Pruner, "apply", apply)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert "exp_avg of a pruned weight is not zero" in found[0].found


def test_a_schedule_that_falls_short(verdicts, monkeypatch):
    monkeypatch.setattr(schedule, "cubic", lambda final, p: 0.99 * final)
    found = verdicts("1")
    assert broken(found) == {SPARSE: "expectations"}
    assert 'CONFIG_PRUNING_SPARSITY="0.5" asks for' in found[0].found


def test_an_optimizer_that_stops_with_pruning(verdicts, monkeypatch):
    plain = Pruner.apply

    def freezing(self):
        plain(self)
        if self.sparsity() > 0.4:
            self.optimizer.param_groups[0]["lr"] = 0.0

    monkeypatch.setattr(Pruner, "apply", freezing)
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
