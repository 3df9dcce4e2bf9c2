"""Expect: what a fragment says of its step, recomputed from the built model."""

from gpt2.accounting import Facts, count, meta_model
from gpt2.check.subject import Broken, Subject, require
from gpt2.settings import ModelSettings


def built_as_configured(subject: Subject) -> None:
    """Every shape the settings ask for is the shape that was built."""
    _compare(count(meta_model(subject.settings.model)), subject.settings.model)


def _compare(facts: Facts, model: ModelSettings) -> None:
    pairs = {
        "CONFIG_GPT2_LAYERS": (model.layers, facts.layers),
        "CONFIG_GPT2_WIDTH / divisor": (model.embed, facts.width),
        "CONFIG_GPT2_HEADS": (model.heads, facts.heads),
        "CONFIG_MLP_DIM / divisor": (model.mlp_dim, facts.mlp_dim),
        "CONFIG_MLA_LATENT / divisor": (model.latent, facts.latent),
    }
    for name, (asked, built) in pairs.items():
        require(asked == built, f"{name} asks for {asked}, the model has {built}")


def expectations(subject: Subject) -> None:
    """Every `# Expect:` value, at full size, to the digits it is written with."""
    facts = count(meta_model(subject.claims.model)).as_dict()
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
