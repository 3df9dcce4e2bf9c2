"""Native sparse attention that reads everything is dense attention."""

from dataclasses import replace

import torch

from gpt2.check.proofs.sparse.part import model_of, options_of, undivided
from gpt2.check.subject import CONTEXT, SEED, Subject, require, spread
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.settings.mixers.attention import AttentionSettings
from gpt2.settings.mixers.nsa import NsaSettings
from gpt2.settings.model import ModelSettings

TOLERANCE = 1e-9
GROUPED = AttentionSettings(
    projection="gqa",
    mla_latent=None,
    mla_shared_latent=False,
    mla_shared_up=False,
    ra=False,
    ra_alpha=None,
    ra_learned=False,
    ra_band=None,
    normaliser="softmax",
    softpick_unsafe=False,
    pattern="dense",
    window=None,
    ra_ct=False,
    ra_ct_statistic=None,
    ra_ct_k=None,
    ra_ct_apply=None,
    ra_ct_alpha=None,
    ra_ct_head_average=False,
    ra_ct_detach=False,
    impl="reference",
)


def dense(subject: Subject) -> None:
    """With shared keys and values these have the logits and the gradient of grouped
    attention with the same weights: sel with as many blocks as there are, win with a
    window over all, cmp with blocks of one token and their mean, and all three under a
    gate whose shares sum to 1. In float64, away from the initial values.
    """
    options = options_of(subject)
    if options is None:
        return
    for name, each in _reading_all(subject, options).items():
        sparse = _random(GPT(model_of(subject, each, CONTEXT)))
        attention = _attention(subject.small.model, sparse)
        rows_BT = subject.tokens()
        found, wanted = (_computed(model, rows_BT) for model in (sparse, attention))
        for kind, a, b in zip(("logits", "gradient of the embedding"), found, wanted):
            error, largest = (a - b).abs().max().item(), b.abs().max().item()
            require(
                error <= TOLERANCE * largest,
                f"{name}, which reads everything, and dense attention have other "
                f"{kind}, by {error:.2e} where the largest is {largest:.2e}",
            )


def _reading_all(subject: Subject, options: NsaSettings) -> dict[str, NsaSettings]:
    """Name -> options under which every token is read by itself."""
    blocks = -(-CONTEXT // options.sizes(subject.small.model)[2])
    plain = {"shared_kv": True, "phi": "mean", "phi_rank": None, "force": "none"}
    plain |= {"gate": "softmax", "phi_rope": None}
    token, all_blocks = {"length": 1, "stride": 1}, {"top": max(blocks, options.top)}
    window = {"window": CONTEXT}
    cases = {
        "sel": all_blocks | {"per_head": options.per_head},
        "win": window | {"per_head": False},
        "cmp": token | {"per_head": False},
        "cmp_sel_win": token | all_blocks | window | {"per_head": options.per_head},
    }
    return {
        name: undivided(subject, options, subset=name, **plain, **changes)
        for name, changes in cases.items()
    }


@torch.no_grad()
def _random(model: GPT) -> GPT:
    initialise(model, SEED)
    stream = torch.Generator().manual_seed(4)
    for parameter in model.double().parameters():
        noise = torch.randn(parameter.shape, generator=stream)
        parameter.add_(spread(parameter) * noise)
    return model


@torch.no_grad()
def _attention(small: ModelSettings, sparse: GPT) -> GPT:
    """Grouped attention with the weights of `sparse`; keys have no bias there."""
    shape = sparse.settings
    options = {"mixer": "attention", "others": (), "attention": GROUPED}
    model = GPT(replace(shape, **options)).double()
    source = {matrix.name: matrix.data for matrix in sparse.matrices()}
    for matrix in model.matrices():
        matrix.data.copy_(source[matrix.name])
    alike = dict(sparse.named_parameters())
    covered = {id(matrix.parameter) for matrix in model.matrices()}
    for name, parameter in model.named_parameters():
        if name.endswith("projection.qkv.bias"):
            made = f"{name.removesuffix('qkv.bias')}"
            q, v = alike[f"{made}q.bias"], alike[f"{made}v.shared.bias"]
            parameter.copy_(torch.cat([q, torch.zeros_like(v), v]))
        elif id(parameter) not in covered:
            parameter.copy_(alike[name])
    return model


def _computed(model: GPT, rows_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the gradient of the loss in the embedding."""
    logits_BTV = model(rows_BT[:, :-1]).detach()
    model(rows_BT[:, :-1], rows_BT[:, 1:]).backward()
    return logits_BTV, model.wte.weight.grad
