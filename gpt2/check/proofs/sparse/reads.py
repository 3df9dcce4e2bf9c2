"""Every branch of native sparse attention reads what it says, and counts it.

Values are rows of a unit matrix: an output is the row of weights itself, so that what is
read is seen and not asked. Legend: T tokens, X heads or groups that choose.
"""

import torch

from gpt2.check.proofs.sparse.part import drawn, has, mixers, options_of, read_by
from gpt2.check.subject import CONTEXT, Subject, require
from kernels.nsa import BRANCHES, Memory, NsaSpec, attend

TOLERANCE = 1e-12
ROUNDED = 1e-4


def reads(subject: Subject) -> None:
    """A query of cmp reads every block that ends at or before it, one of sel every token
    up to it of its chosen blocks, one of win the last w: all of them, no other, with
    weights that sum to 1 (0 where there is no block yet). In one pass and query by query
    alike, and as many as the counters say, in a real decode too.
    """
    if options_of(subject) is None:
        return
    model = subject.randomised().eval()
    for mixer in mixers(model):
        _of_spec(mixer.spec, mixer.projection.heads, mixer.projection.kv_heads)
    tokens_BT = subject.tokens(batch=1)[:, :-1]
    for chunk in (1, 7, CONTEXT):
        cache = None
        for part in tokens_BT.split(chunk, dim=1):
            _, cache = model.decode(part, cache)
        for i, (block, layer) in enumerate(zip(model.h, cache.layers)):
            if block.attn in mixers(model):
                told = block.attn.reads(layer.mixer, CONTEXT)
                _counted(block.attn.spec, told, f"h.{i}, {chunk} tokens at a time")


def _counted(spec: NsaSpec, told: dict[str, float], where: str) -> None:
    """Keys that a query of a decode has read on average, counted one by one."""
    least = [_wanted(spec, t, True) for t in range(CONTEXT)]
    most = least
    if not spec.forced:  # where a block is left out it may be the query's own
        few = [t // spec.block < spec.top for t in range(CONTEXT)]
        most = [_wanted(spec, t, all_are) for t, all_are in enumerate(few)]
    for name in BRANCHES:
        low, high = (
            sum(keys.get(name, 0) for keys in each) / CONTEXT for each in (least, most)
        )
        found = told.get(name, 0.0)
        require(
            low - ROUNDED <= found <= high + ROUNDED,
            f"a decode of {where}, says that a token has read {found} keys of {name}, "
            f"not {low if low == high else f'{low} to {high}'}",
        )


def _wanted(spec: NsaSpec, t: int, own: bool) -> dict[str, int]:
    """How many keys query t reads in every branch; own: its own block among them."""
    found = {}
    if spec.scores:
        starts = range(0, CONTEXT, spec.stride)
        found["cmp"] = sum(i + spec.length <= t + 1 for i in starts)
    if has(spec, "sel"):
        others = min(spec.top - own, t // spec.block)
        found["sel"] = others * spec.block + own * (t % spec.block + 1)
    if has(spec, "win"):
        found["win"] = sum(t - s < spec.window for s in range(t + 1))
    return found


def _of_spec(spec: NsaSpec, H: int, G: int) -> None:
    """By one pass, and by as many decodes as there are tokens."""
    C = spec.compressed(CONTEXT)
    q_1THD, memory = drawn(CONTEXT, H, G, 8, C)
    whole = attend(q_1THD, read_by(spec, memory), spec, CONTEXT)
    for t in range(CONTEXT):
        now = attend(q_1THD[:, t : t + 1], _until(spec, memory, t), spec, t + 1)
        rows = {}
        for name, p, alone in zip(spec.branches, whole.o, now.o):
            width = alone.shape[3]
            first = max(0, t + 1 - spec.window) if name == "win" else 0
            rows[name] = p[0, t, :, first : first + width]
            error = (rows[name] - alone[0, 0]).abs().max().item() if width else 0
            require(
                error <= TOLERANCE,
                f"{name}: query {t} alone has other weights than in one pass, by "
                f"{error:.2e}",
            )
            beyond = p[0, t, :, :first].sum() + p[0, t, :, first + width :].sum()
            require(beyond == 0, f"{name}: query {t} reads what a decode has not")
        own = _row(spec, rows, None if now.choice is None else now.choice[0, 0], t)
        for part, place, count in ((whole, t, "one pass"), (now, 0, "a decode")):
            counted = dict(zip(BRANCHES, part.reads_Bn3[0, place].tolist()))
            wanted = dict.fromkeys(BRANCHES, 0.0) | own
            require(
                all(abs(counted[name] - wanted[name]) < ROUNDED for name in BRANCHES),
                f"query {t} is said to have read {counted} in {count}, not {wanted}",
            )


def _until(spec: NsaSpec, memory: Memory, t: int) -> Memory:
    """What a decode at t has: the blocks, tokens and window up to it."""
    blocks, first = spec.compressed(t + 1), max(0, t + 1 - spec.window)
    cut = (slice(blocks),) * 2 + (slice(t + 1),) * 2 + (slice(first, t + 1),) * 2
    found = [x[:, part] for x, part in zip(memory, cut)]
    found[1] = found[1][..., :blocks]
    found[3] = found[3][..., : t + 1]
    found[5] = found[5][..., first : t + 1]
    return read_by(spec, Memory(*found))


def _row(
    spec: NsaSpec, rows: dict[str, torch.Tensor], choice_XN: torch.Tensor | None, t: int
) -> dict[str, float]:
    """Which weights of query t are there, and what they sum to; how many keys it reads
    by branch, the mean over the heads or groups that choose.
    """
    sets = [] if choice_XN is None else [{*row.tolist()} - {-1} for row in choice_XN]
    reads = [_wanted(spec, t, t // spec.block in chosen) for chosen in sets or [{}]]
    for name, p_HS in rows.items():
        for h, p_S in enumerate(p_HS):
            keys = reads[h * len(reads) // len(p_HS)][name]
            found, total = int((p_S > 0).sum()), p_S.sum().item()
            require(
                found == keys,
                f"{name}: head {h} of query {t} reads {found} keys, not {keys}",
            )
            require(
                abs(total - min(keys, 1)) <= TOLERANCE,
                f"{name}: the weights of head {h} of query {t} sum to {total}",
            )
    for h, p_S in enumerate(rows["sel"] if sets else []):
        chosen = sets[h * len(sets) // len(rows["sel"])]
        inside = {s for s in range(t + 1) if s // spec.block in chosen}
        read = {*p_S.nonzero().flatten().tolist()}
        require(
            read == inside and len(chosen) == min(spec.top, t // spec.block + 1),
            f"sel: query {t} has chosen blocks {sorted(chosen)}, of {spec.block} tokens, "
            f"and head {h} reads tokens {sorted(read)}",
        )
    return {name: sum(each[name] for each in reads) / len(reads) for name in reads[0]}
