"""Decode of an NSA layer: one document, a token at a time, with the three caches.

Written beside layer.py: nothing is kept but the caches, and what is read is counted
where it is read. Legend: options.py.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.oracles.nsa.blocks import chosen_ranges
from tests.oracles.nsa.compression import compressed, compressed_key
from tests.oracles.nsa.layer import Heads, affine, chosen_blocks, gates, heads, mixture
from tests.oracles.nsa.layer import probabilities, weighted
from tests.oracles.nsa.options import Options, Weights

Pair = tuple[list[Tensor], list[Tensor]]
"""Keys and values of one token or block, G vectors each."""


@dataclass
class Reads:
    """Keys that one step read, by branch, for each key/value head (for each head with
    per_head): K^c that the query met, tokens of the selection, tokens of the window.
    """

    cmp: list[int]
    sel: list[int]
    win: list[int]


@dataclass
class Decoder:
    """Caches: sel, (k^s, v^s) of every token; cmp, (K^c_i, V^c_i) of every block that
    ended; win, (k^w, v^w) of the last w tokens; raw, the (k^c, v^c) that φ reads, of
    the tokens that a coming block holds, l-1 at most between steps.

    Block i is emitted at t = i d + l - 1, before t's query looks; then the last l - d
    raw tokens stay. Without cmp there are no V^c and no raw v. With shared keys and
    values each cache is as without.
    """

    weights: Weights
    options: Options
    length: int = 0
    sel: list[Pair] = field(default_factory=list)
    cmp: list[Pair] = field(default_factory=list)
    win: list[Pair] = field(default_factory=list)
    raw: list[Pair] = field(default_factory=list)
    reads: list[Reads] = field(default_factory=list)
    chosen: list[list[list[int]]] = field(default_factory=list)

    def step(self, x_E: Tensor) -> Tensor:
        """y_E of the next token; the caches grow, its reads and its choice (of every
        head) are noted.
        """
        o, t = self.options, self.length
        of = heads(x_E, t, self.weights, o)
        self._remember(of, t)
        reads = Reads([], [], [])
        self.reads.append(reads)
        out: dict[str, list[Tensor]] = {branch: [] for branch in o.branches}
        p = [self._scored(of.q_cmp[h], h, reads) for h in range(o.H)]
        if "cmp" in o.branches:
            out["cmp"] = [self._mixed_blocks(p[h], h) for h in range(o.H)]
        self.chosen.append([[] for _ in range(o.H)])
        if "sel" in o.branches:
            self.chosen[t] = chosen_blocks(p, t, o)[1]
            for h in range(o.H):
                ranges = chosen_ranges(self.chosen[t][h], o.b, t)
                tokens = [
                    self.sel[s] for start, end in ranges for s in range(start, end)
                ]
                self._count(reads.sel, h, len(tokens), o.per_head)
                out["sel"].append(self._attended(of.q[h], h, tokens))
        if "win" in o.branches:
            for h in range(o.H):
                self._count(reads.win, h, len(self.win))
                out["win"].append(self._attended(of.q[h], h, self.win))
        gamma = gates(x_E, of.q, self.weights, o)
        self.length += 1
        bias = self.weights["o.bias"] if o.bias else None
        return affine(torch.cat(mixture(out, gamma, o)), self.weights["o"], bias)

    def _remember(self, of: Heads, t: int) -> None:
        o = self.options
        if "sel" in o.branches:
            self.sel.append((of.k["sel"], of.v["sel"]))
        if "win" in o.branches:
            self.win.append((of.k["win"], of.v["win"]))
            if len(self.win) > o.w:
                self.win.pop(0)
        if not o.compresses:
            return
        self.raw.append((of.raw, of.v["cmp"] if "cmp" in o.branches else []))
        i = len(self.cmp)
        if t == i * o.d + o.l - 1:
            self.cmp.append((self._emitted(i), self._emitted_values()))
            self.raw = self.raw[o.d :]

    def _emitted(self, i: int) -> list[Tensor]:
        keys = []
        for g in range(self.options.G):
            block_lD = torch.stack([k[g] for k, _ in self.raw])
            keys.append(compressed_key(block_lD, i, self.weights, self.options))
        return keys

    def _emitted_values(self) -> list[Tensor]:
        if "cmp" not in self.options.branches:
            return []
        return [
            compressed(
                torch.stack([v[g] for _, v in self.raw]),
                "v",
                self.weights,
                self.options,
            )
            for g in range(self.options.G)
        ]

    def _count(self, counts: list[int], h: int, read: int, each: bool = False) -> None:
        """Heads of a group read the same keys together."""
        if each or h % self.options.group == 0:
            counts.append(read)

    def _scored(self, q_D: Tensor, h: int, reads: Reads) -> Tensor:
        keys = [k[h // self.options.group] for k, _ in self.cmp]
        self._count(reads.cmp, h, len(keys))
        return probabilities(q_D, keys)

    def _mixed_blocks(self, p: Tensor, h: int) -> Tensor:
        values = [v[h // self.options.group] for _, v in self.cmp]
        return weighted(p, values, self.options.d_v)

    def _attended(self, q_D: Tensor, h: int, tokens: list[Pair]) -> Tensor:
        g = h // self.options.group
        p = probabilities(q_D, [k[g] for k, _ in tokens])
        return weighted(p, [v[g] for _, v in tokens], self.options.d_v)

    def values(self) -> dict[str, int]:
        """Numbers that each cache holds now."""
        return {
            name: sum(x.numel() for k, v in pairs for x in (*k, *v))
            for name, pairs in (
                ("sel", self.sel),
                ("cmp", self.cmp),
                ("win", self.win),
                ("raw", self.raw),
            )
        }
