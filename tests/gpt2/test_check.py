"""make check fails, naming the step, when the code is sabotaged."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2 import checkpoint, optim
from gpt2.attention.attention import Attention
from gpt2.attention.mla import Latent
from gpt2.block import Block
from gpt2.check.run import PROOFS, check, check_study
from gpt2.check.studies import from_defconfig
from gpt2.mlp.mlp import Mlp
from gpt2.model import GPT
from gpt2.optim import spam
from gpt2.pruning import schedule
from gpt2.pruning.pruner import Pruner
from kconf.overrides import Overrides
from kconf.study import list_steps
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
    found = verdicts("0", "1", "9")
    assert broken(found) == {}
    assert all(len(v.proofs) == len(PROOFS) + 2 for v in found)
    assert found[0].parameters == 124_475_904


def test_a_dropped_causal_mask(verdicts, monkeypatch):
    def leaky(self, q, k, v):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    monkeypatch.setattr(Attention, "_sdpa", leaky)
    assert broken(verdicts("0")) == {"00-baseline": "causality"}


def test_a_future_leak_in_training_only(verdicts, monkeypatch):
    plain = Mlp._activation

    def leaky(self, x):
        return plain(self, x + 1e-3 * x.mean(1, keepdim=True) if self.training else x)

    monkeypatch.setattr(Mlp, "_activation", leaky)
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
    def detached(self, x):
        return F.gelu(F.linear(x, self.inner.weight.detach(), self.inner.bias))

    monkeypatch.setattr(Mlp, "_activation", detached)
    found = verdicts("0")
    assert broken(found) == {"00-baseline": "gradients"}
    assert "mlp.inner.weight takes no part" in found[0].found


def test_a_slice_of_a_fused_matrix_without_gradient(verdicts, monkeypatch):
    from gpt2.attention.mha import MultiHead

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

    def keeping(self, *arguments):
        result = plain(self, *arguments)
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


def test_a_deaf_attention(verdicts, monkeypatch):
    """Only the last half of the context is heard."""

    def deaf(self, q, k, v):
        T = q.shape[1]
        mask = torch.ones(T, T, dtype=torch.bool).tril().triu(-(T // 8))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2)

    monkeypatch.setattr(Attention, "_sdpa", deaf)
    assert broken(verdicts("0")) == {"00-baseline": "reach"}


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
    assert check(ROOT, "77", every=False, as_json=False) == 1
    listed = ", ".join(str(s.number) for s in list_steps(ROOT, "gpt2-ratio-ablation"))
    assert f"has no step 77; its steps: {listed}\n" in capsys.readouterr().err


def test_a_flag_that_never_reaches_the_model(verdicts, monkeypatch):
    """RA switched on, but the band term is not added: step 05 is the baseline."""
    plain = Attention.__init__

    def deaf(self, settings):
        plain(self, settings)
        if self.ra is not None:
            self.impl, self.ra.alpha_H = "sdpa", self.ra.alpha_H * 0

    monkeypatch.setattr(Attention, "__init__", deaf)
    found = broken(verdicts("0,5"))
    assert found["05-ra"] in ("a function of its own", "decoding", "expectations")


def test_identical_functions_are_named(verdicts, monkeypatch):
    from gpt2.check import distinct

    monkeypatch.setattr(distinct.torch.Tensor, "numpy", lambda self: constant)
    found = verdicts("0,2")
    assert broken(found) == {"02-golden-ratio": "a function of its own"}
    assert "same logits as 00-baseline" in found[1].found


class _Constant:
    def tobytes(self):
        return b"the same"


constant = _Constant()


def test_a_cache_that_is_one_query_short(verdicts, monkeypatch):
    from gpt2.context import AttentionCache

    plain = Attention._decode

    def short(self, q, new, cache):
        looked, grown = plain(self, q, new, cache)
        queries = grown.queries_BwHD
        if queries is not None:
            queries = queries[:, 1:] if queries.shape[1] == self.ra.band else queries
        return looked, AttentionCache(grown.memory, queries)

    monkeypatch.setattr(Attention, "_decode", short)
    assert broken(verdicts("0,5")) == {"05-ra": "decoding"}


def test_probabilities_that_do_not_sum_to_one(verdicts, monkeypatch):
    from gpt2.attention import attention

    plain = attention.normalise
    monkeypatch.setattr(attention, "normalise", lambda *a: 0.9 * plain(*a))
    assert broken(verdicts("0")) == {"00-baseline": "probabilities"}


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


def test_dropout_in_evaluation(verdicts, monkeypatch):
    plain = F.dropout

    def always(x, p, training=True):
        return plain(x, p, True) if p else x

    monkeypatch.setattr(F, "dropout", always)
    assert broken(verdicts("0")) == {"00-baseline": "dropout rests"}


def test_moments_that_are_not_those_configured(verdicts, monkeypatch):
    plain = optim.build

    def other(model, settings):
        optimizer = plain(model, settings)
        optimizer.param_groups[0]["betas"] = (0.9, 0.999)
        return optimizer

    monkeypatch.setattr(optim, "build", other)
    assert broken(verdicts("0")) == {"00-baseline": "optimizer as configured"}


def test_an_ignored_bias_switch(tree, monkeypatch):
    study = from_defconfig(ROOT, "gpt2-ratio-ablation").only("0")
    plain = nn.Linear.__init__

    def biased(self, *arguments, bias=True, **options):
        plain(self, *arguments, bias=True, **options)

    monkeypatch.setattr(nn.Linear, "__init__", biased)
    found = check_study(tree, study, Overrides({"GPT2_BIAS": "n"}))
    assert broken(found) == {"00-baseline": "built as configured"}
