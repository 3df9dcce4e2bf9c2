"""Mutants of modeling_kablate.py, and of what writes and compares it."""

from tests.mutants.mutant import ATTENTION, LLAMA, RATIO, Mutant, Test

MODELING = "tests/gpt2/export/test_modeling_kablate.py"
COMMAND = "tests/gpt2/export/test_command.py"
BASE, RA, WINDOW = f"{RATIO}/00-baseline", "RA=y RA_BAND=4", "SLIDING=y WINDOW=6"
SLIDING = f"{ATTENTION}/07-sliding {WINDOW}"


def computes(name: str) -> Test:
    """The comparison of an architecture with ours."""
    return Test(f"{MODELING}::test_it_computes_what_this_code_computes[{name}]")


def mutant(name: str, what: str, place: str, old: str, new: str, step: str) -> Mutant:
    """Of modeling_kablate.py, caught by that comparison."""
    catcher = computes(step)
    return Mutant(
        f"remote-{name}", what, f"modeling_kablate:{place}", old, new, catcher
    )


MUTANTS = [
    mutant(
        "mlp-gate",
        "the gate of the block before is not applied",
        "Mixer.finish",
        "o_BnHD * gate_BnH[..., None]",
        "o_BnHD",
        f"{RATIO}/03-mlp-attention-gate",
    ),
    mutant(
        "output-gate",
        "the output gate is not applied",
        "Mixer.finish",
        "o_BnHD * gate.unflatten(2, (o_BnHD.shape[2], -1))",
        "o_BnHD",
        f"{ATTENTION}/02-output-gate",
    ),
    mutant(
        "rope-base",
        "the usual RoPE base, not the model's",
        "rotated",
        "1.0 / base **",
        "1.0 / 1e4 **",
        f"{LLAMA}/00-llama {RA} {WINDOW} ROPE_BASE=500",
    ),
    mutant(
        "window",
        "the window is one token longer",
        "Attention._visible",
        "back_nS < (self",
        "back_nS <= (self",
        SLIDING,
    ),
    mutant(
        "window-kept",
        "a decode forgets a key that the window still sees",
        "Attention.forward",
        "kept.append(name, x, config.window)",
        "kept.append(name, x, config.window and config.window - 2)",
        SLIDING,
    ),
    mutant(
        "band",
        "the band of RA is one token shorter",
        "Attention._transposed",
        "back_nw > config.ra_band",
        "back_nw >= config.ra_band",
        f"{ATTENTION}/03-ra {RA}",
    ),
    mutant(
        "queries-kept",
        "a decode forgets a query that the band still reaches",
        "Attention.forward",
        "q_BnHD, config.ra_band)",
        "q_BnHD, config.ra_band - 1)",
        f"{ATTENTION}/03-ra {RA}",
    ),
    mutant(
        "transposed-keys",
        "the transposed score of a decode reads the first keys, not the new ones",
        "Attention._transposed",
        "k_BSHD[:, -n:]",
        "k_BSHD[:, :n]",
        f"{ATTENTION}/05-mla-ra {RA}",
    ),
    mutant(
        "positions",
        "positions of a decode count from its first new token",
        "KablateForCausalLM._tokens",
        "count_Bn - 1 if",
        "count_Bn - 1 - start if",
        f"{ATTENTION}/04-mla",
    ),
    mutant(
        "value-latent",
        "values grow from the key latent",
        "Projection.expand",
        "self.v_up(memory[-1])",
        "self.v_up(memory[0])",
        f"{ATTENTION}/04-mla",
    ),
    mutant(
        "gate-sum",
        "the mean of the MLP gate begins again at every step of a decode",
        "Mlp._gate",
        'sum_Bnr + kept.get("gate_sum", 0.0)',
        "sum_Bnr + 0.0",
        f"{RATIO}/03-mlp-attention-gate",
    ),
    mutant(
        "last-gate",
        "the first block has no gate, not the last",
        "Block.__init__",
        "last=layer == config.num_hidden_layers - 1",
        "last=layer == 0",
        f"{RATIO}/03-mlp-attention-gate",
    ),
    mutant(
        "routing",
        "the cross-token MLP keeps no top k",
        "Mlp._crossed",
        'mode == "topk" and',
        'mode == "none" and',
        f"{RATIO}/04-mlp-cross-token",
    ),
    mutant(
        "gated-weights",
        "RA-CT of weights leaves the scores as they are",
        "Attention.forward",
        "probabilities(factor * s_BHnS",
        "probabilities(s_BHnS",
        f"{RATIO}/17-ra-ct-topk-weights",
    ),
    mutant(
        "entropy",
        "the entropy statistic counts one key too many",
        "statistic",
        "entropy / seen.clamp(min=2)",
        "entropy / (1 + seen).clamp(min=2)",
        f"{RATIO}/18-ra-ct-entropy-output",
    ),
    mutant(
        "softpick-sum",
        "softpick divides by what is above 0 alone",
        "probabilities",
        "e_BHnS.abs().sum(",
        "e_BHnS.relu().sum(",
        f"{ATTENTION}/06-softpick",
    ),
    mutant(
        "linear-state",
        "linear attention forgets all but the last step of a decode",
        "LinearAttention.forward",
        'state = state + kept["state"]',
        "state = state + 0.0",
        "gpt2-mixer-ablation/01-linear",
    ),
    Mutant(
        "remote-padding",
        "padding is seen",
        "modeling_kablate:Attention._visible",
        "| (back_nS == 0)",
        "| (back_nS >= 0)",
        Test(f"{MODELING}::test_padding_changes_nothing"),
    ),
    Mutant(
        "remote-slot",
        "config.json does not say that a window slides",
        "remote_code:_attention",
        '"window": attention.window,',
        '"window": None,',
        computes(SLIDING),
    ),
    Mutant(
        "remote-not-compared",
        "a file that computes something else leaves",
        "export.write:_compare_transformers",
        "found_BTV, name = loaded.logits_BTV,",
        "found_BTV, name = wanted_BTV,",
        Test(
            f"{COMMAND}::test_a_file_that_computes_something_else_does_not_leave"
            "[the logits differ by-alpha * F.pad-1.01 * alpha * F.pad]"
        ),
    ),
    Mutant(
        "remote-unseen",
        "without transformers the file leaves as it is",
        "export.write:_compare_transformers",
        "        if remote:\n            raise",
        "        if not place.name:\n            raise",
        Test(f"{COMMAND}::test_without_transformers_it_does_not_leave"),
    ),
]

SECTIONS = {"Exports for transformers": MUTANTS}
