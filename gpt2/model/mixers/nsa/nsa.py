"""Native sparse attention: compressed, selected and near tokens, and a gate over them.

Legend: B batch, n new tokens, S tokens so far, T tokens of a sequence, C compression
blocks, E width, H query heads, G key/value heads, D = E / H, m branches.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gpt2.model.cache import GrowingCache
from gpt2.model.initial import STD, Constant, Matrix, residual_std
from gpt2.model.mixers.head_gates import gate_statistics, output_gate, scaled
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mixers.nsa import costs, gate, phi
from gpt2.model.mixers.nsa.cache import NsaCache, appended, held, last
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.rope import rotate_at
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    Positions,
    Products,
)
from gpt2.settings.run import ModelSettings
from kernels.nsa import BRANCHES, Grid, Memory, NsaSpec, attend, grid, windows

Pair = tuple[torch.Tensor, ...]


class Nsa(Mixer):
    """o_t = Σ_c γ^c_t o^c_t over compressed, selected and window branch (2502.11089), by
    `kernels.nsa`. Every branch has its own keys and values, or all share one pair.

    Keys have no bias: a softmax does not see it. The mlp of φ reads keys before their
    rotation, and what it makes of them is rotated as its first token is.
    """

    kind = "nsa"

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        options, E = settings.of("nsa"), settings.embed
        self.heads, self.kv_heads = settings.heads, options.kv_heads(settings)
        self.head_width, self.rope_base = settings.head_width, settings.rope_base
        self.spec = NsaSpec(
            *options.sizes(settings),
            branches=options.branches,
            forced=options.forced,
            per_head=options.per_head,
        )
        wide = self.kv_heads * self.head_width
        self.pairs = ("shared",) if options.shared_kv else options.branches
        self.q = nn.Linear(E, self.heads * self.head_width, bias=settings.bias)
        self.k = nn.ModuleDict({name: nn.Linear(E, wide, False) for name in self.pairs})
        self.v = nn.ModuleDict(
            {name: nn.Linear(E, wide, settings.bias) for name in self.pairs}
        )
        self.o = nn.Linear(self.heads * self.head_width, E, bias=settings.bias)
        self._build_parts(settings)
        self.out_gate = output_gate(settings)
        self.gate_alpha = settings.mlp.attn_gate_alpha
        self.longest, self.out_std = settings.block_size, residual_std(settings.depth)

    def _build_parts(self, settings: ModelSettings) -> None:
        """φ of keys and of values where they are read, and the gate of several."""
        options, branches = settings.of("nsa"), self.spec.branches
        read = ("k", "v") if "cmp" in branches else ("k",) if self.spec.scores else ()
        sizes = self.spec.length, self.head_width, options.rank(settings)
        make = phi.KINDS[options.phi or "mean"]
        self.phi = nn.ModuleDict({name: make(*sizes) for name in read})
        several = len(branches) > 1
        self.gate = (
            gate.KINDS[options.gate](settings, self.kv_heads, len(branches))
            if several
            else None
        )
        self.only = None
        if options.force_branch is not None:
            self.only = branches.index(options.force_branch)
        self.rotates_blocks = self.rope_base is not None and options.phi == "mlp"

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: NsaCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, NsaCache | None]:
        """See Mixer."""
        total, starts_BT = positions.start + x_BnE.shape[1], positions.starts_BT
        q_BnHD, pairs = self._projected(x_BnE, positions)
        rows = None if starts_BT is None else grid(starts_BT, self.spec)
        if cache is None:
            blocks = self._compressed(pairs["phi"], 0, rows)
            memory = _memory(blocks, pairs["sel"], pairs["win"])
        else:
            memory, cache = self._remembered(pairs, cache, positions.start, total)
        with torch.autocast(x_BnE.device.type, enabled=False):
            mixed = attend(q_BnHD, memory, self.spec, total, rows)
        o_BnHD = self._gated(x_BnE, q_BnHD, mixed.o)
        if cache is not None:
            reads_B3 = cache.reads_B3 + mixed.reads_Bn3.double().sum(dim=1)
            cache = cache._replace(reads_B3=reads_B3)
        o_BnHD = scaled(o_BnHD, x_BnE, context, self.out_gate)
        return self.o(o_BnHD.flatten(2)), MixerToMlp(), cache

    def _projected(
        self, x_BnE: torch.Tensor, positions: Positions
    ) -> tuple[torch.Tensor, dict[str, Pair]]:
        """q_BnHD and the keys and values (B, n, G, D) of the branches, () where there is
        none; `phi`: as φ reads them.
        """
        start, starts_BT = positions
        place = torch.arange(start, start + x_BnE.shape[1], device=x_BnE.device)
        place = place if starts_BT is None else place - starts_BT

        def rotated(x_BnHD: torch.Tensor) -> torch.Tensor:
            return (
                x_BnHD
                if self.rope_base is None
                else rotate_at(x_BnHD, place, self.rope_base)
            )

        shape = (-1, self.head_width)
        k = {name: self.k[name](x_BnE).unflatten(2, shape) for name in self.pairs}
        v = {name: self.v[name](x_BnE).unflatten(2, shape) for name in self.pairs}
        turned = {name: rotated(x_BnGD) for name, x_BnGD in k.items()}
        found: dict[str, Pair] = dict.fromkeys(("phi", "sel", "win"), ())
        for branch in ("cmp", "sel", "win"):
            name = branch if branch in k else "shared"
            if branch == "cmp" and self.spec.scores:
                keys = k[name] if self.rotates_blocks else turned[name]
                found["phi"] = (keys, v[name]) if "v" in self.phi else (keys,)
            elif branch != "cmp" and branch in self.spec.branches:
                found[branch] = (turned[name], v[name])
        return rotated(self.q(x_BnE).unflatten(2, shape)), found

    def _compressed(self, pair: Pair, first: int, rows: Grid | None) -> Pair:
        """φ of every whole block in the tokens of `pair`, which begin at block `first`;
        (B, C, G, D) each.
        """
        made = [
            self.phi[name](windows(x_BnGD, self.spec, rows))
            for name, x_BnGD in zip("kv", pair)
        ]
        if made and self.rotates_blocks:
            i_C = torch.arange(made[0].shape[1], device=made[0].device)
            place = (first + i_C) * self.spec.stride
            if rows is not None:
                last_T = rows.starts_BT.shape[1] - 1
                token_BC = rows.first_BC.clamp(max=last_T)
                place = token_BC - rows.starts_BT.gather(1, token_BC)
            made[0] = rotate_at(made[0], place, self.rope_base)
        return tuple(made)

    def _gated(
        self, x_BnE: torch.Tensor, q_BnHD: torch.Tensor, o: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Σ γ o in the type of o; with CONFIG_NSA_FORCE_BRANCH that branch alone."""
        if self.gate is None:
            return o[0]
        gate_BnHm = self.gate(x_BnE, q_BnHD)
        if self.only is not None:
            one_m = torch.arange(len(o), device=gate_BnHm.device) == self.only
            gate_BnHm = 0 * gate_BnHm + one_m
        shares = gate_BnHm.unbind(dim=3)
        o_BnHD = sum(
            share[..., None] * each for share, each in zip(shares, o, strict=True)
        )
        return o_BnHD.to(o[0].dtype)

    def _remembered(
        self, pairs: dict[str, Pair], cache: NsaCache, start: int, total: int
    ) -> tuple[Memory, NsaCache]:
        """What queries from `start` on meet, and the grown cache.

        A compression block is made when its last token comes; the window is read before
        it is cut to its length.
        """
        spec, done = self.spec, self.spec.compressed(start)
        tokens = appended(cache.tokens, pairs["sel"])
        pending = appended(cache.pending, pairs["phi"][: len(cache.pending)])
        window = appended(cache.window, pairs["win"] if cache.window else ())
        waiting = held(pending) + held(tokens, done * spec.stride)[len(pending) :]
        waiting = waiting[: len(pairs["phi"])]
        blocks = appended(cache.blocks, self._compressed(waiting, done, None))
        near = held(window)
        if "win" in spec.branches and not window:
            near = held(tokens, max(start - spec.window + 1, 0))
        memory = _memory(held(blocks), held(tokens), near)
        waits = total - spec.compressed(total) * spec.stride
        kept = last(window, spec.window), last(pending, waits)
        return memory, NsaCache(tokens, blocks, *kept, cache.reads_B3)

    def empty_cache(self, x_BnE: torch.Tensor) -> NsaCache:
        """See Mixer."""
        _, pairs = self._projected(x_BnE[:, :0], Positions())
        window, pending = pairs["win"], pairs["phi"]
        if self._held_once:
            window, pending = (), pending[: 1 if self.rotates_blocks else 0]
        kept = (pairs["sel"], self._compressed(pairs["phi"], 0, None), window, pending)
        stores = (
            tuple(GrowingCache.of(x_B0GD, self.longest) for x_B0GD in pair)
            for pair in kept
        )
        reads_B3 = x_BnE.new_zeros(x_BnE.shape[0], len(BRANCHES), dtype=torch.float64)
        return NsaCache(*stores, reads_B3)

    @property
    def _held_once(self) -> bool:
        """Whether keys and values of all tokens serve every branch."""
        return "shared" in self.pairs and "sel" in self.spec.branches

    def reads(self, cache: NsaCache, tokens: int) -> dict[str, float]:
        """See Mixer."""
        mean_3 = (cache.reads_B3[0] / tokens).tolist()
        return {n: each for n, each in zip(BRANCHES, mean_3) if each}

    def cache_size(self, tokens: int) -> CacheSize:
        """Of the selected branch every token, of the compressed one every block and what
        the next one begins with, of the window its tokens.
        """
        found = costs.cached_tokens(self.spec, tokens, self._held_once)
        waits = self.rotates_blocks if self._held_once else len(self.phi)
        pairs = 2 * found["sel"] + 2 * found["win"]
        compressed = len(self.phi) * found["blocks"] + waits * found["pending"]
        return CacheSize((pairs + compressed) * self.kv_heads * self.head_width)

    def products(self, T: int) -> Products:
        """See costs."""
        per_block = self.kv_heads * sum(each.products for each in self.phi.values())
        per_token = -sum(each.products for each in self.phi.values())
        if self.gate is not None:
            per_token += (self.gate.times - 1) * self.gate.products
        E = self.heads * self.head_width
        return costs.products(self.spec, T, E, per_block, per_token)

    def keys(self, T: int) -> int:
        """See costs."""
        return costs.keys(self.spec, T)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """q, keys and values of every branch, o, and those of φ and the gates."""
        yield Matrix(f"{prefix}.q", self.q.weight, STD, side="attn")
        for pair in self.pairs:
            name = "" if pair == "shared" else f"_{pair}"
            yield Matrix(f"{prefix}.k{name}", self.k[pair].weight, STD, side="attn")
            yield Matrix(f"{prefix}.v{name}", self.v[pair].weight, STD, side="attn")
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        for name, part in self._parts():
            yield from part.matrices(f"{prefix}.{name}")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Of φ and the gate."""
        for name, part in self._parts():
            yield from part.initial_laws(f"{prefix}.{name}")

    def late(self, prefix: str) -> Iterator[str]:
        """Of φ and the gate."""
        for name, part in self._parts():
            yield from (f"{prefix}.{name}.{each}" for each in part.late)

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        yield from ((f"phi.{name}", part) for name, part in self.phi.items())
        if self.gate is not None:
            yield "gate", self.gate

    def facts(self) -> dict[str, Any]:
        """See Mixer; and the sizes of the spec."""
        sizes = self.spec._asdict()
        return {
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "biases": self.o.bias is not None,
            **{f"nsa_{name}": value for name, value in sizes.items()},
        }

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """Of what scales its heads."""
        heads_BnHD = x_BTE.unflatten(2, (self.heads, self.head_width))
        gates = context, self.out_gate, self.gate_alpha
        return gate_statistics(heads_BnHD, x_BTE, *gates)


def _memory(blocks: Pair, sel: Pair, win: Pair) -> Memory:
    """Pairs as the op takes them, None in the place of what is not there."""
    k_cmp, v_cmp = (*blocks, None, None)[:2]
    return Memory(k_cmp, v_cmp, *(sel or (None, None)), *(win or (None, None)))


MIXER = Nsa
