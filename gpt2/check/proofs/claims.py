"""Expect: what a fragment says of its step, recomputed from the built model."""

from dataclasses import replace

from gpt2.check.proofs import pruning
from gpt2.check.subject import Broken, Subject, require
from gpt2.model.costs import Facts, count, meta_model
from gpt2.settings.run import ModelSettings


def built_as_configured(subject: Subject) -> None:
    """Every shape the settings ask for is the shape that was built."""
    shape = subject.settings.model
    model = meta_model(shape)
    _compare(count(model), shape)
    learned = any(name.endswith("ra.alpha_H") for name, _ in model.named_parameters())
    asked = shape.attention.ra_learned
    require(asked == learned, f"CONFIG_RA_LEARNED asks for {asked}, built: {learned}")


def _compare(facts: Facts, model: ModelSettings) -> None:
    pairs = {
        "CONFIG_GPT2_LAYERS": (model.layers, facts.layers),
        "CONFIG_GPT2_WIDTH / divisor": (model.embed, facts.width),
        "CONFIG_GPT2_HEADS": (model.heads, facts.heads),
        "CONFIG_MLP_DIM / divisor": (model.mlp_dim, facts.mlp_dim),
        "CONFIG_MLA_LATENT / divisor": (model.latent, facts.latent),
        "CONFIG_KV_HEADS": (model.kv_heads, facts.kv_heads),
        "CONFIG_GPT2_VOCAB_SIZE, padded": (model.vocab_rows, facts.vocab_rows),
        "CONFIG_GPT2_BLOCK_SIZE": (
            model.block_size if model.position == "learned" else None,
            facts.positions,
        ),
        "biases (CONFIG_GPT2_BIAS, none under RMSNorm's norms)": (
            model.bias,
            facts.biases,
        ),
        "CONFIG_RA_BAND": (model.attention.ra_band, facts.ra_band),
        "CONFIG_RA_ALPHA": (model.attention.ra_alpha, facts.ra_alpha),
        "CONFIG_WINDOW": (model.attention.window, facts.window),
        "CONFIG_MLP_ATTN_GATE_RANK / divisor": (model.gate_rank, facts.gate_rank),
        "CONFIG_MLP_CROSS_TOKEN_RANK / divisor": (model.cross_rank, facts.cross_rank),
    }
    for name, (asked, built) in pairs.items():
        require(asked == built, f"{name} asks for {asked}, the model has {built}")


def expectations(subject: Subject) -> None:
    """Every `# Expect:` value, to the digits it is written with.

    Counts are those of the full-size model, the sparsity is measured on a small
    one that is pruned as the study's own defconfig states it.
    """
    if not subject.expect:
        return
    facts = count(meta_model(subject.claims.model)).as_dict()
    if "sparsity" in subject.expect and subject.claims.pruning.kind != "none":
        facts["sparsity"] = pruning.sparsity(replace(subject, settings=subject.claims))
    for key, claimed in subject.expect.items():
        if key not in facts:
            raise Broken(f"Expect: {key} is none of {', '.join(facts)}")
        found = facts[key]
        if isinstance(found, float):
            digits = len(claimed.partition(".")[2])
            found = f"{found:.{digits}f}"
        require(
            str(found) == claimed, f"Expect: {key}={claimed}, the model has {found}"
        )
