"""Expect: what a fragment says of its step, recomputed from the built model."""

from dataclasses import replace
from typing import Any

from gpt2.check.proofs import pruning
from gpt2.check.subject import Broken, Subject, require
from gpt2.model.costs import Facts, count, meta_model, of_layer
from gpt2.model.gpt import GPT
from gpt2.settings.run import ModelSettings


def built_as_configured(subject: Subject) -> None:
    """Every shape the settings ask for is the shape that was built, layer by layer."""
    shape = subject.settings.model
    model = meta_model(shape)
    _compare(count(model), shape)
    for i, layer in enumerate(shape.layers):
        built = of_layer(model, i)
        for fact, (symbol, asked) in layer.asked(shape).items():
            found = built[fact]
            why = f"{symbol} asks for {asked}, h.{i} of the model has {found}"
            require(asked == found, why)


def _compare(facts: Facts, model: ModelSettings) -> None:
    pairs = {
        "CONFIG_GPT2_LAYERS": (model.depth, facts.layers),
        "CONFIG_GPT2_WIDTH / divisor": (model.embed, facts.width),
        "CONFIG_MLP_DIM / divisor": (model.mlp_dim, facts.mlp_dim),
        "CONFIG_GPT2_VOCAB_SIZE, padded": (model.vocab_rows, facts.vocab_rows),
        "CONFIG_GPT2_BLOCK_SIZE": (
            model.block_size if model.position == "learned" else None,
            facts.positions,
        ),
        "biases (CONFIG_GPT2_BIAS, none under RMSNorm's norms)": (
            model.bias,
            facts.biases,
        ),
        "CONFIG_MLP_ATTN_GATE_RANK / divisor": (model.gate_rank, facts.gate_rank),
        "CONFIG_MLP_CROSS_TOKEN_RANK / divisor": (model.cross_rank, facts.cross_rank),
    }
    for name, (asked, built) in pairs.items():
        require(asked == built, f"{name} asks for {asked}, the model has {built}")


def expectations(subject: Subject) -> None:
    """Every `# Expect:` value, to the digits it is written with.

    KEY@LAYER is of one layer. Counts are those of the full-size model, the sparsity is measured on a small
    one that is pruned as the study's own defconfig states it.
    """
    if not subject.expect:
        return
    model = meta_model(subject.claims.model)
    facts = count(model).as_dict()
    pruned = replace(subject, settings=subject.claims)
    if "sparsity" in subject.expect and subject.claims.pruning.kind != "none":
        facts["sparsity"] = pruning.sparsity(pruned)
    for key, claimed in subject.expect.items():
        found = _fact(model, facts, key)
        if isinstance(found, float):
            digits = len(claimed.partition(".")[2])
            found = f"{found:.{digits}f}"
        where = f"at full size, {_size(subject.claims.model)}"
        if key == "sparsity":
            where = f"in the check's small model, {_size(pruned.small.model)}"
        why = f"Expect: {key}={claimed}, the model has {found} ({where})"
        require(str(found) == claimed, why)


def _size(model: ModelSettings) -> str:
    return f"{model.depth} layers of width {model.embed}"


def _fact(model: GPT, facts: dict[str, Any], key: str) -> Any:
    """The fact KEY of the model, or KEY@LAYER of one layer, counted from 0."""
    name, at, layer = key.partition("@")
    if at:
        depth = len(model.h)
        if not layer.isdecimal() or int(layer) >= depth:
            raise Broken(f"Expect: {key}: layers are 0 to {depth - 1}")
        facts = of_layer(model, int(layer))
    if name not in facts:
        raise Broken(f"Expect: {key} is none of {', '.join(facts)}")
    if facts[name] is None and name in of_layer(model, 0) and not at:
        raise Broken(
            f"Expect: {key} is not the same in all layers, or nowhere; "
            f"{name}@LAYER is that of one"
        )
    return facts[name]
