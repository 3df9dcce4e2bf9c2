"""Which blocks native sparse attention chooses.

Legend: B batch, T tokens, H query heads, G key/value heads, g = H / G, C compression
blocks, X heads or groups that choose, N chosen blocks.
"""

import torch

from gpt2.check.proofs.sparse.part import drawn, mixers, options_of, read_by
from gpt2.check.subject import CONTEXT, Subject, require
from gpt2.model.mixers.nsa.nsa import Nsa
from gpt2.model.mixers.nsa.choices import choice_of
from gpt2.model.values import Positions
from kernels.nsa import NsaSpec, attend
from kernels.nsa.reference import Queries, importance

EQUATION = NsaSpec(length=32, stride=16, block=64, top=4, window=1)


def choice(subject: Subject) -> None:
    """The blocks of a query depend on no later token, bit for bit; they are those of the
    largest Σ_i p^c_i |block i ∩ block j| behind the forced ones, ties by the lower index,
    one choice for all heads of a group; 16-bit queries and keys are scored in fp32.
    """
    options = options_of(subject)
    if options is None or "sel" not in options.branches:
        return
    model = subject.randomised()
    for i, mixer in enumerate(mixers(model)):
        spec, H, G = mixer.spec, mixer.projection.heads, mixer.projection.kv_heads
        for seed in range(3):
            _of_the_past(mixer, i, seed, subject.small.model.embed)
        _largest(spec, H, G)
        _ties(spec, H, G)
        _narrow(spec, H, G)
    _equation_9()


def _of_the_past(mixer: Nsa, i: int, seed: int, width: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    x_BTE = torch.randn(2, CONTEXT, width, generator=stream, dtype=torch.float64)
    before = choice_of(mixer.projection, x_BTE, Positions())
    X = mixer.projection.heads if mixer.spec.per_head else mixer.projection.kv_heads
    found = before.blocks_BTXN.shape[2]
    require(found == X, f"h.{i} chooses {found} times a query, not {X}")
    for t in (CONTEXT // 4, CONTEXT // 2, CONTEXT - 2):
        other_BTE = x_BTE.clone()
        other_BTE[:, t + 1 :] = other_BTE[:, t + 1 :].flip(2) * 3
        after = choice_of(mixer.projection, other_BTE, Positions())
        for name in ("blocks_BTXN", "scores_BTXJ"):
            a, b = (getattr(each, name)[:, : t + 1] for each in (before, after))
            require(
                torch.equal(a, b),
                f"the choice of h.{i} up to position {t} depends on tokens after it",
            )


def _chosen(spec: NsaSpec, score_J: list[float], t: int) -> list[int]:
    own = t // spec.block
    forced = sorted({0, own, max(own - 1, 0)}) if spec.forced else []
    free = sorted(set(range(own + 1)) - set(forced), key=lambda j: (-score_J[j], j))
    return sorted((forced + free)[: spec.top])


def _shared(spec: NsaSpec, p_C: list[float], t: int) -> list[float]:
    """What every block up to t's own gets of p^c, token by token."""
    score_J = [0.0] * (t // spec.block + 1)
    for i, p in enumerate(p_C):
        for token in range(i * spec.stride, i * spec.stride + spec.length):
            if token <= t:
                score_J[token // spec.block] += p
    return score_J


def _largest(spec: NsaSpec, H: int, G: int) -> None:
    """Of random queries and keys, from the weights that meet the compressed values."""
    q_1THD, memory = drawn(CONTEXT, H, G, 8, spec.compressed(CONTEXT), seed=5)
    asked = spec._replace(branches=("cmp", "sel"))
    found = attend(q_1THD, read_by(asked, memory), asked, CONTEXT)
    p_THC = found.o[0][0]
    X = found.choice.shape[2]
    for t in range(CONTEXT):
        for x in range(X):
            p_C = p_THC[t, x * H // X : (x + 1) * H // X].sum(dim=0).tolist()
            wanted = _chosen(spec, _shared(spec, p_C, t), t)
            chosen = sorted(j for j in found.choice[0, t, x].tolist() if j >= 0)
            require(
                chosen == wanted,
                f"query {t} chooses blocks {chosen}; by the overlap of blocks and the "
                f"weights of its {H // X} heads they are {wanted}",
            )


def _ties(spec: NsaSpec, H: int, G: int) -> None:
    """Queries of zeros weigh all blocks alike: those of equal score by their index."""
    q_1THD, memory = drawn(CONTEXT, H, G, 8, spec.compressed(CONTEXT))
    found = attend(0 * q_1THD, read_by(spec, memory), spec, CONTEXT).choice
    for t in range(CONTEXT):
        blocks = spec.compressed(t + 1)
        wanted = _chosen(spec, _shared(spec, [1] * blocks, t), t)
        chosen = sorted(j for j in found[0, t, 0].tolist() if j >= 0)
        require(
            chosen == wanted,
            f"query {t}, to which all tokens are alike, chooses blocks {chosen}, not "
            f"the first of equal ones, {wanted}",
        )


def _narrow(spec: NsaSpec, H: int, G: int) -> None:
    """In bf16 the scores of a softmax over many blocks would tie."""
    q_1THD, memory = drawn(CONTEXT, H, G, 8, spec.compressed(CONTEXT), seed=6)
    q, keys = q_1THD.bfloat16(), [x.bfloat16() for x in memory]
    narrow = attend(q, read_by(spec, type(memory)(*keys)), spec, CONTEXT)
    wide = [x.float() for x in keys]
    wanted = attend(q.float(), read_by(spec, type(memory)(*wide)), spec, CONTEXT)
    require(
        torch.equal(narrow.choice, wanted.choice),
        "bf16 queries and keys choose other blocks than the same numbers in fp32",
    )


def _equation_9() -> None:
    """All weight on compression block 3, tokens 48 … 79: half of it to each of the
    selection blocks 0 and 1.
    """
    t, spec = 127, EQUATION
    p_BGmgC = torch.zeros(1, 1, 1, 1, spec.compressed(t + 1), dtype=torch.float64)
    p_BGmgC[..., 3] = 1
    at = Queries.at(t, 1, p_BGmgC.device, None)
    found = importance(p_BGmgC, at, spec)[0, 0, 0].tolist()
    require(
        found == [0.5, 0.5],
        f"compression block 3 of 32 every 16 gives blocks of 64 {found}, not halves",
    )
