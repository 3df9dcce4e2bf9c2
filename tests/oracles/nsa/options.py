"""What an NSA layer (native sparse attention, 2502.11089) is made of.

Legend of the package: T tokens, E width, H query heads, G key/value heads, g = H/G
query heads of a group, d_k and d_v widths of a head; l length and d stride of a
compression block, b length of a selection block, n selected blocks, w window, which
counts the query's own position; t query and S = t+1 tokens so far, both counted from
the document's first token; m branches. Compression block i is tokens [i d, i d + l),
selection block j is tokens [j b, j b + b), both from the document's first token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BRANCHES = ("cmp", "sel", "win")
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Options:
    """A layer. rope_base: None where positions are learned. phi_rope: what the keys
    of the compressed branch are rotated by: before (φ reads rotated keys), after (φ
    reads plain keys, K^c_i is rotated by i d), none (neither K^c nor its query is).
    forced: blocks 0, c-1 and c are always chosen. per_head: every head chooses by its
    own probabilities, without the sum of Eq. 10. force_branch: γ is one-hot.
    AssertionError: the combination has no meaning; the message says why.
    """

    E: int
    H: int
    G: int
    d_k: int
    d_v: int
    l: int
    d: int
    b: int
    n: int
    w: int
    branches: tuple[str, ...] = BRANCHES
    phi: str = "mean"
    phi_hidden: int = 64
    rope_base: float | None = None
    phi_rope: str = "before"
    gate: str = "softmax"
    forced: bool = True
    shared: bool = False
    per_head: bool = False
    force_branch: str | None = None
    bias: bool = False

    def __post_init__(self):
        on = self.branches
        assert on and on == tuple(name for name in BRANCHES if name in on), on
        assert self.H % self.G == 0, "G divides H"
        assert self.l % self.d == 0, "d divides l"
        assert self.b % self.d == 0, "d divides b"
        assert self.d <= self.l <= self.b, "Eq. 9 wants l <= b"
        assert self.n >= (3 if self.forced else 1), "n holds the forced blocks"
        assert self.w >= 1, "a window holds the query"
        assert self.phi in ("mean", "conv", "mlp"), self.phi
        assert self.phi_rope in ("before", "after", "none"), self.phi_rope
        assert self.gate in ("sigmoid", "softmax", "fixed"), self.gate
        assert self.force_branch in (None, *on), "the forced branch is off"
        assert (
            not self.gated or self.gate == "sigmoid" or self.d_k > 1
        ), "no hidden layer"
        if self.rope_base is not None:
            assert self.d_k % 2 == 0, "RoPE turns pairs"
            hears = self.phi == "mlp" and self.phi_rope == "before"
            assert not hears, "mlp φ of rotated keys depends on where a block lies"
        if "cmp" not in on:
            scored = "sel" not in on or self.shared
            assert scored, "sel without cmp: k_cmp would have no gradient"
            assert self.phi == "mean", "without cmp φ would have no gradient"

    @property
    def group(self) -> int:
        """g, query heads of a key/value head."""
        return self.H // self.G

    @property
    def compresses(self) -> bool:
        """Whether there are K^c: the branch is on, or the choice reads them."""
        return "cmp" in self.branches or "sel" in self.branches

    @property
    def gated(self) -> bool:
        """Whether the gate has parameters: a softmax of one branch is 1."""
        if self.gate == "softmax":
            return len(self.branches) > 1
        return self.gate == "sigmoid"

    def name(self, kind: str, branch: str) -> str:
        """The logical matrix of k or v of a branch: k_cmp …, or k where shared."""
        return kind if self.shared else f"{kind}_{branch}"


def projection_shapes(options: Options) -> dict[str, tuple[int, ...]]:
    """Matrices (out, in): q (H·d_k, E), o (E, H·d_v), and k_cmp, v_cmp, k_sel, v_sel,
    k_win, v_win (G·d, E) of the branches that are on, or one pair k, v (§3.3.3). Row
    h·d + c is component c of head h. With bias: NAME.bias (out,).
    """
    o = options
    shapes = {"q": (o.H * o.d_k, o.E)}
    for branch in o.branches:
        shapes[o.name("k", branch)] = (o.G * o.d_k, o.E)
        shapes[o.name("v", branch)] = (o.G * o.d_v, o.E)
    shapes["o"] = (o.E, o.H * o.d_v)
    if o.bias:
        shapes |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    return shapes


def phi_shapes(options: Options) -> dict[str, tuple[int, ...]]:
    """conv: phi_k.w (l, d_k), phi_v.w (l, d_v). mlp, of k and of v: pe (l, d), w1
    (r, l, d) whose [:, m, c] meets component c of the block's token m, w2 (d, r). All
    groups share them.
    """
    o, shapes = options, {}
    for kind, width in (("k", o.d_k), ("v", o.d_v)):
        if o.phi == "conv":
            shapes[f"phi_{kind}.w"] = (o.l, width)
        if o.phi == "mlp":
            shapes[f"phi_{kind}.pe"] = (o.l, width)
            shapes[f"phi_{kind}.w1"] = (o.phi_hidden, o.l, width)
            shapes[f"phi_{kind}.w2"] = (width, o.phi_hidden)
    return shapes


def gate_shapes(options: Options) -> dict[str, tuple[int, ...]]:
    """sigmoid: gate.w (H, m, E), gate.b (H, m). softmax, shared by the groups: gate.w1
    (⌊d_k/2⌋, d_k), gate.b1, gate.w2 (m, ⌊d_k/2⌋), gate.b2. Branches in the order cmp,
    sel, win, those that are on.
    """
    o, m = options, len(options.branches)
    if not o.gated:
        return {}
    if o.gate == "sigmoid":
        return {"gate.w": (o.H, m, o.E), "gate.b": (o.H, m)}
    half = o.d_k // 2
    first = {"gate.w1": (half, o.d_k), "gate.b1": (half,)}
    return first | {"gate.w2": (m, half), "gate.b2": (m,)}


def shapes_of(options: Options) -> dict[str, tuple[int, ...]]:
    """Every parameter of the layer by its logical name."""
    parts = projection_shapes, phi_shapes, gate_shapes
    return {name: shape for part in parts for name, shape in part(options).items()}


def initial(options: Options, generator: torch.Generator, std: float = 1.0) -> Weights:
    """Where a layer starts: φ is exactly the mean (conv 1/l; W2 = 0, pe = 0), the last
    layer of the gate 0, biases 0, everything else normal with this deviation.
    """
    zero = ("phi_k.w2", "phi_v.w2", "phi_k.pe", "phi_v.pe", "gate.w2")
    zero += ("gate.w", "gate.b", "gate.b1", "gate.b2")
    weights = {}
    for name, shape in shapes_of(options).items():
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * std
        if name in ("phi_k.w", "phi_v.w"):
            drawn = torch.full(shape, 1 / options.l, dtype=torch.float64)
        if name in zero or name.endswith(".bias"):
            drawn = torch.zeros(shape, dtype=torch.float64)
        weights[name] = drawn
    return weights


def randomised(options: Options, generator: torch.Generator, std: float) -> Weights:
    """Every parameter normal: nothing is the mean, no gate is even."""
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * std
        for name, shape in shapes_of(options).items()
    }
