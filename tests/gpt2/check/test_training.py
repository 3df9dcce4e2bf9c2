"""make check fails when what trains is sabotaged, beyond what the mutants do."""

import pytest

from gpt2 import optim
from gpt2.check.run import check_study
from gpt2.check.studies import from_defconfig
from gpt2.optim.adamwspam import AdamWSPAM
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


SPARSE = "01-spam-magnitude-50"


def test_a_spam_counter_that_is_not_saved(verdicts, monkeypatch):
    plain = AdamWSPAM.load_state_dict

    def forgetting(self, state):
        plain(self, state)
        for group in self.param_groups:
            group["step"] = 0

    monkeypatch.setattr(AdamWSPAM, "load_state_dict", forgetting)
    assert broken(verdicts("1")) == {SPARSE: "save and resume"}


def test_an_optimizer_that_stops_with_pruning(verdicts, monkeypatch):
    plain = Pruner.update

    def freezing(self, count):
        plain(self, count)
        if self.sparsity() > 0.4:
            self.optimizer.param_groups[0]["lr"] = 0.0

    monkeypatch.setattr(Pruner, "update", freezing)
    found = verdicts("1")
    assert "its live weights do not train" in found[0].found


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
    told = "0.50, the model has 0.60 (in the check's small model, 3 layers of width 96)"
    told = f"sparsity={told}" if "0.6" in line else "sparsity is none"
    assert told in found[0].found
