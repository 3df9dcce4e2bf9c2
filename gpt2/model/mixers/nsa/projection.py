"""What the branches of native sparse attention meet: queries, keys, values, and the keys
and values of compression blocks.

Legend: B batch, n new tokens, T tokens of a sequence, C compression blocks, E width, H
query heads, G key/value heads, D = E / H.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from gpt2.model.initial import STD, Constant, Matrix
from gpt2.model.mixers.nsa import phi
from gpt2.model.rope import rotate_at
from gpt2.model.values import Positions
from gpt2.settings.run import ModelSettings
from kernels.nsa import Grid, NsaSpec, windows

Pair = tuple[torch.Tensor, ...]


class Projected(NamedTuple):
    """q_BnHD, what of it meets compressed keys where that is something else, and keys
    and values (B, n, G, D): as φ reads them (keys alone where they serve the choice
    alone), of the selected and of the window branch; () where there is none.
    """

    q_BnHD: torch.Tensor
    q_cmp_BnHD: torch.Tensor | None
    phi: Pair
    sel: Pair
    win: Pair


class Projection(nn.Module):
    """q = x W_q + b_q; of every branch that is there k = x W_k and v = x W_v + b_v, or one
    pair for all. Keys have no bias: a softmax does not see it. q and keys are rotated,
    those of compression blocks before φ or after it (as the block's first token), or
    neither they nor what meets them.
    """

    def __init__(self, settings: ModelSettings, spec: NsaSpec):
        super().__init__()
        options, E, D = settings.of("nsa"), settings.embed, settings.head_width
        self.spec, self.heads, self.head_width = spec, settings.heads, D
        self.kv_heads = options.kv_heads(settings)
        self.rope_base = settings.rope_base
        self.rotation = None if self.rope_base is None else options.phi_rotation
        wide, bias = self.kv_heads * D, settings.bias
        self.pairs = ("shared",) if options.shared_kv else spec.branches
        self.q = nn.Linear(E, self.heads * D, bias=bias)
        self.k = nn.ModuleDict({name: nn.Linear(E, wide, False) for name in self.pairs})
        self.v = nn.ModuleDict({name: nn.Linear(E, wide, bias) for name in self.pairs})
        read = ("k", "v") if "cmp" in spec.branches else ("k",) if spec.scores else ()
        make, rank = phi.KINDS[options.phi], options.rank(settings)
        self.phi = nn.ModuleDict({name: make(spec.length, D, rank) for name in read})

    @property
    def own_keys(self) -> bool:
        """Whether φ reads keys that no branch meets: not rotated."""
        return self.rotation in ("after", "none")

    @property
    def held_once(self) -> bool:
        """Whether keys and values of all tokens serve every branch."""
        return "shared" in self.pairs and "sel" in self.spec.branches

    def forward(self, x_BnE: torch.Tensor, positions: Positions) -> Projected:
        """Of tokens that stand where `positions` says; documents count from their own
        first token.
        """
        start, starts_BT = positions
        place = torch.arange(start, start + x_BnE.shape[1], device=x_BnE.device)
        place = place if starts_BT is None else place - starts_BT

        def turned(x_BnHD: torch.Tensor) -> torch.Tensor:
            base = self.rope_base
            return x_BnHD if base is None else rotate_at(x_BnHD, place, base)

        def heads(layer: nn.Linear) -> torch.Tensor:
            return layer(x_BnE).unflatten(2, (-1, self.head_width))

        q_BnHD = heads(self.q)
        plain = {name: heads(layer) for name, layer in self.k.items()}
        keys = {name: turned(k_BnGD) for name, k_BnGD in plain.items()}
        values = {name: heads(layer) for name, layer in self.v.items()}
        found = dict.fromkeys(("phi", "sel", "win"), ())
        for branch in ("sel", "win"):
            if branch in self.spec.branches:
                name = self._pair_of(branch)
                found[branch] = keys[name], values[name]
        if self.spec.scores:
            name = self._pair_of("cmp")
            read = (plain if self.own_keys else keys)[name], values[name]
            found["phi"] = read[: len(self.phi)]
        q_cmp_BnHD = q_BnHD if self.rotation == "none" else None
        return Projected(turned(q_BnHD), q_cmp_BnHD, **found)

    def _pair_of(self, branch: str) -> str:
        return branch if branch in self.pairs else "shared"

    def compressed(self, pair: Pair, first: int, rows: Grid | None) -> Pair:
        """φ of every whole block in the tokens of `pair`, which begin with block `first`;
        (B, C, G, D) each.
        """
        made = [
            self.phi[name](windows(x_BnGD, self.spec, rows))
            for name, x_BnGD in zip("kv", pair)
        ]
        if made and self.rotation == "after":
            i_C = torch.arange(made[0].shape[1], device=made[0].device)
            place = (first + i_C) * self.spec.stride
            if rows is not None:
                last = rows.starts_BT.shape[1] - 1
                token_BC = rows.first_BC.clamp(max=last)
                place = token_BC - rows.starts_BT.gather(1, token_BC)
            made[0] = rotate_at(made[0], place, self.rope_base)
        return tuple(made)

    def products(self) -> int:
        """Weights of φ that multiply, once per block and key/value head."""
        return sum(part.products for part in self.phi.values())

    def matrices(self, prefix: str) -> Iterator[Matrix]:
        """q, keys and values of every branch, and those of φ."""
        yield Matrix(f"{prefix}.q", self.q.weight, STD, side="attn")
        for pair in self.pairs:
            name = "" if pair == "shared" else f"_{pair}"
            yield Matrix(f"{prefix}.k{name}", self.k[pair].weight, STD, side="attn")
            yield Matrix(f"{prefix}.v{name}", self.v[pair].weight, STD, side="attn")
        for name, part in self.phi.items():
            yield from part.matrices(f"{prefix}.phi.{name}")

    def initial_laws(self, prefix: str) -> Iterator[Constant]:
        """Of φ."""
        for name, part in self.phi.items():
            yield from part.initial_laws(f"{prefix}.phi.{name}")
