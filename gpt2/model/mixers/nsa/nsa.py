"""Native sparse attention: compressed, selected and near tokens, and a gate over them.

Legend: B batch, n new tokens, T tokens of a sequence, E width, H query heads, G
key/value heads, D = E / H, m branches.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gpt2.model.cache import GrowingCache
from gpt2.model.initial import Constant, Matrix, residual_std
from gpt2.model.live_bytes import peak_bytes
from gpt2.model.mixers.head_gates import gate_statistics, output_gate, scaled
from gpt2.model.mixers.mixer import Mixer
from gpt2.model.mixers.nsa import costs, gate
from gpt2.model.mixers.nsa.cache import NsaCache, appended, held, last
from gpt2.model.mixers.nsa.projection import Pair, Projected, Projection
from gpt2.model.mixers.nsa.choices import (
    choice_of,
    choice_statistics,
    gate_moments,
    maps_of,
    read_statistics,
)
from gpt2.model.mixers.statistic import Statistic
from gpt2.model.values import (
    BlockToBlock,
    CacheSize,
    MixerToMlp,
    Positions,
    Products,
)
from gpt2.settings.run import ModelSettings
from kernels.nsa import BRANCHES, Grid, Memory, Mixed, NsaSpec, attend, grid, last_part


class Nsa(Mixer):
    """o_t = Σ_c γ^c_t o^c_t over compressed, selected and window branch (2502.11089), by
    `kernels.nsa`.
    """

    kind = "nsa"

    def __init__(self, settings: ModelSettings, decoder: str = "reference"):
        super().__init__()
        options, E = settings.of("nsa"), settings.embed
        self.spec = NsaSpec(
            *options.sizes(settings),
            branches=options.branches,
            forced=options.forced,
            per_head=options.per_head,
        )
        self.projection = Projection(settings, self.spec)
        self.o = nn.Linear(E, E, bias=settings.bias)
        self.gate = self.only = None
        if len(options.branches) > 1:
            make, groups = gate.KINDS[options.gate], options.kv_heads(settings)
            self.gate = make(settings, groups, len(options.branches))
        if options.force_branch is not None:
            self.only = options.branches.index(options.force_branch)
        self.out_gate = output_gate(settings)
        self.gate_alpha = settings.mlp.attn_gate_alpha
        self.longest, self.out_std = settings.block_size, residual_std(settings.depth)

    def forward(
        self,
        x_BnE: torch.Tensor,
        context: BlockToBlock,
        positions: Positions,
        cache: NsaCache | None,
    ) -> tuple[torch.Tensor, MixerToMlp, NsaCache | None]:
        """See Mixer."""
        start, starts_BT = positions
        total, made = start + x_BnE.shape[1], self.projection(x_BnE, positions)
        rows = None if starts_BT is None else grid(starts_BT, self.spec)
        if cache is None:
            memory = self._whole(made, rows)
        else:
            memory, cache = self._remembered(made, cache, start, total)
        mixed = self._attended(made, memory, total, rows)
        o_BnHD = self._gated(x_BnE, made.q_BnHD, mixed.o)
        if cache is not None:
            reads_B3 = cache.reads_B3 + mixed.reads_Bn3.double().sum(dim=1)
            cache = cache._replace(reads_B3=reads_B3)
        o_BnHD = scaled(o_BnHD, x_BnE, context, self.out_gate)
        return self.o(o_BnHD.flatten(2)), MixerToMlp(), cache

    def _whole(self, made: Projected, rows: Grid | None) -> Memory:
        """What the queries of whole rows meet."""
        blocks = self.projection.compressed(made.phi, 0, rows)
        return _memory(blocks, made.sel, made.win)

    def _attended(
        self, made: Projected, memory: Memory, total: int, rows: Grid | None
    ) -> Mixed:
        q_BnHD, q_cmp_BnHD = made.q_BnHD, made.q_cmp_BnHD
        with torch.autocast(q_BnHD.device.type, enabled=False):
            return attend(q_BnHD, memory, self.spec, total, rows, q_cmp_BnHD)

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
        shares = zip(gate_BnHm.unbind(dim=3), o, strict=True)
        return sum(share[..., None] * each for share, each in shares).to(o[0].dtype)

    def _remembered(
        self, made: Projected, cache: NsaCache, start: int, total: int
    ) -> tuple[Memory, NsaCache]:
        """What queries from `start` on meet, and the grown cache.

        A compression block is made when its last token comes; the window is read before
        it is cut to its length.
        """
        spec, done = self.spec, self.spec.compressed(start)
        tokens = appended(cache.tokens, made.sel)
        pending = appended(cache.pending, made.phi[: len(cache.pending)])
        window = appended(cache.window, made.win if cache.window else ())
        waiting = held(pending)
        if self.projection.held_once:
            shared = held(tokens, done * spec.stride)
            waiting = (*waiting, *shared[len(waiting) :])[: len(made.phi)]
        new = self.projection.compressed(waiting, done, None)
        blocks = appended(cache.blocks, new)
        near = held(window)
        if "win" in spec.branches and not window:
            near = held(tokens, max(start - spec.window + 1, 0))
        memory = _memory(held(blocks), held(tokens), near)
        waits = total - spec.compressed(total) * spec.stride
        kept = last(window, spec.window), last(pending, waits)
        return memory, NsaCache(tokens, blocks, *kept, cache.reads_B3)

    def empty_cache(self, x_BnE: torch.Tensor) -> NsaCache:
        """See Mixer."""
        made = self.projection(x_BnE[:, :0], Positions())
        window, pending = made.win, made.phi
        if self.projection.held_once:
            window, pending = (), pending[: int(self.projection.own_keys)]
        blocks = self.projection.compressed(made.phi, 0, None)
        stores = (
            tuple(GrowingCache.of(x_B0GD, self.longest) for x_B0GD in pair)
            for pair in (made.sel, blocks, window, pending)
        )
        reads_B3 = x_BnE.new_zeros(x_BnE.shape[0], len(BRANCHES), dtype=torch.float64)
        return NsaCache(*stores, reads_B3)

    def reads(self, cache: NsaCache, tokens: int) -> dict[str, float]:
        """See Mixer."""
        mean_3 = (cache.reads_B3[0] / tokens).tolist()
        return {name: each for name, each in zip(BRANCHES, mean_3) if each}

    def cache_size(self, tokens: int) -> CacheSize:
        """Of the selected branch every token, of the compressed one every block and what
        the next one begins with, of the window its tokens.
        """
        made, width = self.projection, self.projection.head_width
        found = costs.cached_tokens(self.spec, tokens, made.held_once)
        waits = int(made.own_keys) if made.held_once else len(made.phi)
        values = 2 * found["sel"] + 2 * found["win"] + waits * found["pending"]
        values += len(made.phi) * found["blocks"]
        return CacheSize(values * made.kv_heads * width)

    def products(self, T: int) -> Products:
        """See costs."""
        made = self.projection
        per_block, per_token = made.kv_heads * made.products(), -made.products()
        if self.gate is not None:
            per_token += (self.gate.times - 1) * self.gate.products
        E = made.heads * made.head_width
        return costs.products(self.spec, T, E, per_block, per_token)

    def recomputed_bytes(self, x_BTE: torch.Tensor, device: str) -> int:
        """See Mixer: of the queries that are taken at once."""
        with torch.no_grad():
            made = self.projection(x_BTE, Positions())
            memory = self._whole(made, None)
        given = made.q_BnHD, made.q_cmp_BnHD, *memory
        given = [x if x is None else x.detach().requires_grad_() for x in given]

        def part() -> None:
            q, q_cmp, *pairs = given
            o = last_part(q, Memory(*pairs), self.spec, q_cmp, device)
            if o:
                learnt = [x for x in given if x is not None]
                sums = [x.sum() for x in o]
                torch.autograd.grad(sums, learnt, allow_unused=True)

        return peak_bytes(part)

    def keys(self, T: int) -> int:
        """See costs."""
        return costs.keys(self.spec, T)

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """Of the projection, o, and those of the gates."""
        yield from self.projection.matrices(prefix)
        yield Matrix(f"{prefix}.o", self.o.weight, self.out_std, side="attn")
        if self.gate is not None:
            yield from self.gate.matrices(f"{prefix}.gate")
        if self.out_gate is not None:
            yield from self.out_gate.matrices(prefix)

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Of φ and the gate."""
        yield from self.projection.initial_laws(f"{prefix}.projection")
        if self.gate is not None:
            yield from self.gate.initial_laws(f"{prefix}.gate")

    def late(self, prefix: str) -> Iterator[str]:
        """Of φ and the gate."""
        for name, part in self.projection.phi.items():
            yield from (f"{prefix}.phi.{name}.{each}" for each in part.late_matrices)
            own = f"{prefix}.projection.phi.{name}"
            yield from (f"{own}.{each}" for each in part.late)
        if self.gate is not None:
            late = (*self.gate.late_matrices, *self.gate.late)
            yield from (f"{prefix}.gate.{each}" for each in late)

    def facts(self) -> dict[str, Any]:
        """See Mixer; and the sizes of the spec."""
        return {
            "heads": self.projection.heads,
            "kv_heads": self.projection.kv_heads,
            "biases": self.o.bias is not None,
            **{f"nsa_{name}": value for name, value in self.spec._asdict().items()},
        }

    def statistics(
        self, x_BTE: torch.Tensor, context: BlockToBlock, positions: Positions
    ) -> dict[str, Statistic]:
        """Of its gate, of what it reads and chooses, and of what scales its heads."""
        heads_BnHD = x_BTE.unflatten(2, (self.projection.heads, -1))
        gates = context, self.out_gate, self.gate_alpha
        found = gate_statistics(heads_BnHD, x_BTE, *gates)
        made, starts_BT = self.projection(x_BTE, positions), positions.starts_BT
        if self.gate is not None and self.only is None:
            gate_BTHm = self.gate(x_BTE, made.q_BnHD)
            found |= gate_moments(gate_BTHm, self.spec.branches)
        rows = None if starts_BT is None else grid(starts_BT, self.spec)
        mixed = self._attended(made, self._whole(made, rows), x_BTE.shape[1], rows)
        found |= read_statistics(mixed.reads_Bn3, starts_BT)
        if "sel" in self.spec.branches:
            chosen = choice_of(self.projection, x_BTE, positions)
            found |= choice_statistics(chosen, self.spec)
        return found

    def maps(
        self, x_BTE: torch.Tensor, positions: Positions
    ) -> dict[str, torch.Tensor]:
        """See Mixer: where queries look among the blocks."""
        if not self.spec.scores:
            return {}
        return maps_of(choice_of(self.projection, x_BTE, positions))


def _memory(blocks: Pair, sel: Pair, win: Pair) -> Memory:
    """Pairs as the op takes them, None in the place of what is not there."""
    k_cmp, v_cmp = (*blocks, None, None)[:2]
    return Memory(k_cmp, v_cmp, *(sel or (None, None)), *(win or (None, None)))


MIXER = Nsa
