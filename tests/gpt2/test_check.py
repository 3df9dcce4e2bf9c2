"""make check fails, naming the step, when the code is sabotaged."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2 import checkpoint, optim
from gpt2.attention import attention as attention_module
from gpt2.attention.mla import Latent
from gpt2.block import Block
from gpt2.check.run import check, check_study
from gpt2.check.studies import from_defconfig
from gpt2.mlp.mlp import Mlp
from gpt2.model import GPT
from kconf.overrides import Overrides
from tests.conftest import ROOT


@pytest.fixture
def verdicts(tree):
    """verdicts("0", "9") of those RATIO steps under whatever is patched."""

    def run(*numbers):
        study = from_defconfig(ROOT, "gpt2-ratio-ablation")
        found = []
        for number in numbers:
            found += check_study(tree, study.only(number), Overrides({}))
        return found

    return run


def broken(verdicts):
    return {v.step: v.promise for v in verdicts if v.promise is not None}


def test_the_code_as_it_is_keeps_every_promise(verdicts):
    found = verdicts("0", "9")
    assert broken(found) == {}
    assert all(len(v.proofs) == 12 for v in found)
    assert found[0].parameters == 124_475_904


def test_a_dropped_causal_mask(verdicts, monkeypatch):
    def leaky(q, k, v, impl, dropout):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    monkeypatch.setattr(attention_module, "attend", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_a_future_leak_in_training_only(verdicts, monkeypatch):
    plain = Mlp.forward

    def leaky(self, x):
        return plain(self, x + 1e-3 * x.mean(1, keepdim=True) if self.training else x)

    monkeypatch.setattr(Mlp, "forward", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_a_frozen_parameter(verdicts, monkeypatch):
    plain = Latent.__init__

    def frozen(self, settings):
        plain(self, settings)
        self.k_up.weight.requires_grad_(False)

    monkeypatch.setattr(Latent, "__init__", frozen)
    found = verdicts("0", "9")
    assert broken(found) == {"09-mla-golden-ratio": "gradients"}
    assert "k_up.weight is frozen" in found[1].found


def test_a_detached_matrix(verdicts, monkeypatch):
    def forward(self, x):
        inner = F.linear(x, self.inner.weight.detach(), self.inner.bias)
        return self.outer(F.gelu(inner))

    monkeypatch.setattr(Mlp, "forward", forward)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "gradients"}
    assert "mlp.inner.weight takes no part" in found[0].found


def test_a_slice_of_a_fused_matrix_without_gradient(verdicts, monkeypatch):
    from gpt2.attention.mha import MultiHead

    plain = MultiHead.forward

    def forward(self, x):
        q, k, v = plain(self, x)
        return q, k.detach(), v

    monkeypatch.setattr(MultiHead, "forward", forward)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "gradients"}
    assert "h.0.attn.k " in found[0].found


def test_an_ignored_mlp_dim(verdicts, monkeypatch):
    def ignoring(self, settings):
        nn.Module.__init__(self)
        self.inner = nn.Linear(settings.embed, 4 * settings.embed)
        self.outer = nn.Linear(4 * settings.embed, settings.embed)
        self.out_std = 0.01

    monkeypatch.setattr(Mlp, "__init__", ignoring)
    found = verdicts("0", "2")
    assert broken(found) == {"02-golden-ratio": "built as configured"}
    assert (
        "CONFIG_MLP_DIM / divisor asks for 3840, the model has 3072" in found[1].found
    )


@pytest.mark.parametrize("where", ["module", "global"])
def test_a_tensor_kept_between_forwards(verdicts, monkeypatch, where):
    plain, hoard = Block.forward, []

    def keeping(self, x):
        y = plain(self, x)
        if where == "module":
            self.last = y
        else:
            hoard.append(y)
        return y

    monkeypatch.setattr(Block, "forward", keeping)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "no state"}
    assert "outlive the forward pass" in found[0].found


def test_state_that_leaks_into_the_next_batch(verdicts, monkeypatch):
    plain = GPT.forward

    def counting(self, tokens, targets=None):
        self.calls = getattr(self, "calls", 0) + 1
        out = plain(self, tokens, targets)
        return out if targets is not None else out + 1e-6 * self.calls

    monkeypatch.setattr(GPT, "forward", counting)
    assert broken(verdicts("0")) in (
        {"00-baseline": "no state"},
        {"00-baseline": "causality"},
    )


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
        optimizer.param_groups[1]["weight_decay"] = settings.weight_decay
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
    assert broken(verdicts("0")) == {"00-baseline": "update and decay"}


def test_a_checkpoint_without_the_optimizer(verdicts, monkeypatch):
    plain = checkpoint.resume

    def forgetting(directory, identity, model, optimizer):
        fresh = torch.optim.AdamW(model.parameters())
        del fresh
        state = optimizer.state_dict()
        progress = plain(directory, identity, model, optimizer)
        optimizer.load_state_dict(state)
        return progress

    monkeypatch.setattr(checkpoint, "resume", forgetting)
    assert broken(verdicts("0")) == {"00-baseline": "save and resume"}


def test_a_deaf_attention(verdicts, monkeypatch):
    """Only the last half of the context is heard."""
    plain = attention_module.attend

    def deaf(q, k, v, impl, dropout):
        T = q.shape[1]
        mask = torch.ones(T, T, dtype=torch.bool).tril().triu(-(T // 8))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2)

    assert plain is not deaf
    monkeypatch.setattr(attention_module, "attend", deaf)
    assert broken(verdicts("0")) == {"00-baseline": "reach"}


def test_an_exception_in_the_model_is_a_broken_promise(verdicts, monkeypatch):
    def fail(self, x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Latent, "forward", fail)
    found = verdicts("0", "8")
    assert list(broken(found)) == ["08-mla"]
    assert "mat1 and mat2" in found[1].found and "Latent" not in broken(found)


def test_a_wrong_expectation(tree, tmp_path):
    study = copy_of_the_study(tmp_path)
    path = study / "gpt2-ratio-ablation.d" / "02-golden-ratio.config"
    path.write_text(path.read_text().replace("138640896", "138640897"))
    found = check_study(
        tree, from_defconfig(tmp_path, "gpt2-ratio-ablation").only("2"), Overrides({})
    )
    assert broken(found) == {"02-golden-ratio": "expectations"}
    assert "parameters=138640897, the model has 138640896" in found[0].found


def test_an_unknown_expectation(tree, tmp_path):
    study = copy_of_the_study(tmp_path)
    path = study / "gpt2-ratio-ablation.d" / "02-golden-ratio.config"
    path.write_text(path.read_text().replace("mlp_dim=", "mlp_width="))
    found = check_study(
        tree, from_defconfig(tmp_path, "gpt2-ratio-ablation").only("2"), Overrides({})
    )
    assert "mlp_width is none of" in found[0].found


def copy_of_the_study(tmp_path):
    import shutil

    shutil.copytree(ROOT / "defconfigs", tmp_path / "defconfigs")
    return tmp_path / "defconfigs"


def test_the_command_fails_naming_the_step(monkeypatch, capsys):
    monkeypatch.setenv("KCONFIG_CONFIG", str(ROOT / "no such file"))
    plain = Latent.__init__

    def frozen(self, settings):
        plain(self, settings)
        self.v_up.weight.requires_grad_(False)

    monkeypatch.setattr(Latent, "__init__", frozen)
    assert check(ROOT, "08", every=False, as_json=False) == 1
    out = capsys.readouterr().out
    assert "✗ gpt2-ratio-ablation 08-mla: gradients" in out
    assert "rerun only this: make check STEP=8" in out
    assert "0 of 1 steps" in out
    assert check(ROOT, "0", every=False, as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert record[0]["step"] == "00-baseline" and record[0]["promise"] is None


def test_an_unknown_step_is_an_error(monkeypatch, capsys):
    monkeypatch.setenv("KCONFIG_CONFIG", str(ROOT / "no such file"))
    assert check(ROOT, "5", every=False, as_json=False) == 1
    assert "has no step 5; its steps: 0, 2, 8, 9" in capsys.readouterr().err
