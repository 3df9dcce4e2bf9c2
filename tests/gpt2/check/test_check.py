"""make check fails, naming the step, when the code is sabotaged as no mutant does."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2.check.proofs import distinct
from gpt2.check.prove import PROOFS
from gpt2.check.run import check, check_study
from gpt2.check.studies import from_defconfig
from gpt2.model.block import Block
from gpt2.model.gpt import GPT
from gpt2.model.mixers.attention.latent import Latent
from gpt2.model.mlp.mlp import Mlp
from kconf.overrides import Overrides
from kconf.study import list_steps
from tests.conftest import ROOT
from tests.gpt2.sabotage import broken, copy_of_the_study


def test_the_code_as_it_is_keeps_every_promise(verdicts):
    found = verdicts("0", "1", "9")
    assert broken(found) == {}
    assert all(len(v.proofs) == len(PROOFS) + 2 for v in found)
    assert found[0].parameters == 124_475_904


def test_a_future_leak_in_training_only(verdicts, monkeypatch):
    plain = Mlp._activation

    def leaky(self, x):
        return plain(self, x + 1e-3 * x.mean(1, keepdim=True) if self.training else x)

    monkeypatch.setattr(Mlp, "_activation", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_a_slice_of_a_fused_matrix_without_gradient(verdicts, monkeypatch):
    from gpt2.model.mixers.attention.multi_head import MultiHead

    plain = MultiHead.forward

    def forward(self, x, latent, start):
        q, (k, v) = plain(self, x, latent, start)
        return q, (k.detach(), v)

    monkeypatch.setattr(MultiHead, "forward", forward)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "gradients"}
    assert "h.0.attn.k " in found[0].found


def test_an_ignored_mlp_dim(verdicts, monkeypatch):
    plain = Mlp.__init__

    def ignoring(self, settings, last):
        plain(self, settings, last)
        self.inner = nn.Linear(settings.embed, 4 * settings.embed)
        self.outer = nn.Linear(4 * settings.embed, settings.embed)

    monkeypatch.setattr(Mlp, "__init__", ignoring)
    found = verdicts("0", "2")
    assert broken(found) == {"02-golden-ratio": "built as configured"}
    assert (
        "CONFIG_MLP_DIM / divisor asks for 3840, the model has 3072" in found[1].found
    )


@pytest.mark.parametrize("where", ["module", "global"])
def test_a_tensor_kept_between_forwards(verdicts, monkeypatch, where):
    plain, hoard = Block.forward, []

    def keeping(self, *arguments, **named):
        result = plain(self, *arguments, **named)
        if where == "module":
            self.last = result[0]
        else:
            hoard.append(result[0])
        return result

    monkeypatch.setattr(Block, "forward", keeping)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "no state"}
    assert "outlive the forward pass" in found[0].found


def test_state_that_leaks_into_the_next_batch(verdicts, monkeypatch):
    plain = GPT.forward

    def counting(self, tokens, targets=None, starts=None):
        self.calls = getattr(self, "calls", 0) + 1
        out = plain(self, tokens, targets, starts)
        return out if targets is not None else out + 1e-6 * self.calls

    monkeypatch.setattr(GPT, "forward", counting)
    assert broken(verdicts("0")) in (
        {"00-baseline": "no state"},
        {"00-baseline": "causality"},
    )


def test_an_exception_in_the_model_is_a_broken_promise(verdicts, monkeypatch):
    def fail(self, *arguments):
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
    size = "(at full size, 12 layers of width 768)"
    assert f"parameters=138640897, the model has 138640896 {size}" in found[0].found


def test_an_unknown_expectation(tree, tmp_path):
    study = copy_of_the_study(tmp_path)
    path = study / "gpt2-ratio-ablation.d" / "02-golden-ratio.config"
    path.write_text(path.read_text().replace("mlp_dim=", "mlp_width="))
    found = check_study(
        tree, from_defconfig(tmp_path, "gpt2-ratio-ablation").only("2"), Overrides({})
    )
    assert "mlp_width is none of" in found[0].found


def test_the_command_fails_naming_the_step(monkeypatch, capsys):
    monkeypatch.setenv("KCONFIG_CONFIG", str(ROOT / "no such file"))
    plain = Latent.__init__

    def frozen(self, settings):
        plain(self, settings)
        self.v_up.weight.requires_grad_(False)

    monkeypatch.setattr(Latent, "__init__", frozen)
    assert check(ROOT, "08", every=False, as_json=False, began=0.0) == 1
    out = capsys.readouterr().out
    assert "✗ gpt2-ratio-ablation 08-mla: gradients" in out
    assert "rerun only this: make check STEP=8" in out
    assert "0 of 1 step " in out
    assert check(ROOT, "08", every=False, as_json=True, began=0.0) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["promise"] == "gradients"
    assert "v_up.weight is frozen" in said.err and "0 of 1 step " in said.err
    assert check(ROOT, "0", every=False, as_json=True, began=0.0) == 0
    record = json.loads(capsys.readouterr().out)
    assert record[0]["step"] == "00-baseline" and record[0]["promise"] is None


def test_an_unknown_step_is_an_error(monkeypatch, capsys):
    monkeypatch.setenv("KCONFIG_CONFIG", str(ROOT / "no such file"))
    assert check(ROOT, "77", every=False, as_json=False, began=0.0) == 1
    listed = ", ".join(str(s.number) for s in list_steps(ROOT, "gpt2-ratio-ablation"))
    assert f"has no step 77; its steps: {listed}\n" in capsys.readouterr().err


def test_identical_functions_are_named(verdicts, monkeypatch):
    monkeypatch.setattr(distinct, "fingerprint", lambda subject: "the same")
    found = verdicts("0,2")
    assert broken(found) == {"02-golden-ratio": "a function of its own"}
    assert "same logits as 00-baseline" in found[1].found


def test_a_graph_break(verdicts, monkeypatch):
    plain = Mlp._activation

    def printing(self, x):
        torch._dynamo.graph_break()
        return plain(self, x)

    monkeypatch.setattr(Mlp, "_activation", printing)
    assert broken(verdicts("0")) == {"00-baseline": "one graph"}


def test_a_mask_that_is_dropped_in_real_training(verdicts, monkeypatch):
    """Under no_grad it is causal, with gradients it is not."""
    plain = F.scaled_dot_product_attention

    def leaky(*arguments, is_causal, **options):
        is_causal = is_causal and not torch.is_grad_enabled()
        return plain(*arguments, is_causal=is_causal, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_a_mask_that_ends_at_48_tokens(verdicts, monkeypatch):
    plain = F.scaled_dot_product_attention

    def leaky(q, *arguments, is_causal, **options):
        return plain(q, *arguments, is_causal=q.shape[2] <= 48, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "longer context"}


def test_a_tensor_kept_with_gradients_only(verdicts, monkeypatch):
    plain = Mlp._activation

    def keeping(self, x):
        if x.requires_grad:
            self.kept = x.detach()
        return plain(self, x)

    monkeypatch.setattr(Mlp, "_activation", keeping)
    assert broken(verdicts("0")) == {"00-baseline": "no state"}


def test_sequences_that_hear_each_other(verdicts, monkeypatch):
    plain = Mlp._activation
    monkeypatch.setattr(
        Mlp, "_activation", lambda s, x: plain(s, x + 0.1 * x.roll(1, 0))
    )
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_an_ignored_bias_switch(tree, monkeypatch):
    study = from_defconfig(ROOT, "gpt2-ratio-ablation").only("0")
    plain = nn.Linear.__init__

    def biased(self, *arguments, bias=True, **options):
        plain(self, *arguments, bias=True, **options)

    monkeypatch.setattr(nn.Linear, "__init__", biased)
    found = check_study(tree, study, Overrides({"GPT2_BIAS": "n"}))
    assert broken(found) == {"00-baseline": "built as configured"}
