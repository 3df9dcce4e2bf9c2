"""What NSA costs, in closed form. Legend: options.py.

test_nsa_counts.py compares each with a loop, and with the figures of the paper's sizes.
"""

from tests.oracles.nsa.blocks import compressed_blocks
from tests.oracles.nsa.options import Options


def selected_keys(S: int, b: int, n: int) -> int:
    """Keys of the selection that query S - 1 sees, its own block among the chosen: S
    while the n blocks hold everything, then (n-1) b + (S-1) mod b + 1.
    """
    t = S - 1
    return S if t // b < n else (n - 1) * b + t % b + 1


def reads_bound(S: int, l: int, d: int, b: int, n: int, w: int) -> int:
    """The paper's reads(S) = C(S) + n b + min(w, S): a bound of what a step reads, met
    where b | S >= n b.
    """
    return compressed_blocks(S, l, d) + n * b + min(w, S)


def compressed_sum(T: int, l: int, d: int) -> int:
    """Σ_{S=1..T} C(S) = M (T-l+1) - d M (M-1)/2, M = C(T)."""
    M = compressed_blocks(T, l, d)
    return M * (T - l + 1) - d * M * (M - 1) // 2


def selected_sum(T: int, b: int, n: int) -> int:
    """Σ_{S=1..T} of selected_keys: T(T+1)/2 up to T = nb; then nb(nb+1)/2 + R (n-1) b +
    f b(b+1)/2 + r(r+1)/2, R = T - nb = f b + r.
    """
    N = n * b
    if T <= N:
        return T * (T + 1) // 2
    f, r = divmod(T - N, b)
    whole, rest = f * b * (b + 1) // 2, r * (r + 1) // 2
    return N * (N + 1) // 2 + (T - N) * (n - 1) * b + whole + rest


def window_sum(T: int, w: int) -> int:
    """Σ_{S=1..T} min(w, S) = w T - w (w-1)/2 for T >= w, else T(T+1)/2."""
    w = min(w, T)
    return w * T - w * (w - 1) // 2


def keys_per_query(
    T: int, l: int, d: int, b: int, n: int, w: int
) -> tuple[float, float, float, float]:
    """Means over a row of T: compressed, selected, in the window, and dense (T+1)/2."""
    sums = compressed_sum(T, l, d), selected_sum(T, b, n), window_sum(T, w)
    return (*(total / T for total in sums), (T + 1) / 2)


def cache_per_token(options: Options) -> float:
    """Values a decode keeps for each token of the context: G (d_k + d_v) (1 + 1/d) with
    cmp and sel. A branch that is off keeps nothing; sel without cmp keeps K^c alone.
    """
    o = options
    pair = o.G * (o.d_k + o.d_v)
    total = pair if "sel" in o.branches else 0
    if o.compresses:
        total += (pair if "cmp" in o.branches else o.G * o.d_k) / o.d
    return total


def cache_constant(options: Options) -> int:
    """The most values that do not grow: G (d_k + d_v) (w + l - 1), the window and the
    raw tokens of the block to come; without cmp raw keys alone.
    """
    o = options
    pair = o.G * (o.d_k + o.d_v)
    total = pair * o.w if "win" in o.branches else 0
    if o.compresses:
        total += (pair if "cmp" in o.branches else o.G * o.d_k) * (o.l - 1)
    return total


def raw_tokens(S: int, l: int, d: int) -> int:
    """Raw tokens kept after S: those of the next block, which begins at C(S) d."""
    return S - d * compressed_blocks(S, l, d)


def projection_parameters(options: Options) -> int:
    """E H (d_k + d_v) for q and o, E G (d_k + d_v) for each pair of k and v: with three
    pairs and d_k = d_v 2 E H D + 6 E G D. Without biases.
    """
    o = options
    pairs = 1 if o.shared else len(o.branches)
    return o.E * (o.d_k + o.d_v) * (o.H + pairs * o.G)


def phi_parameters(options: Options) -> int:
    """Of k and v together: mean 0; conv l (d_k + d_v); mlp of each width D
    l D + r l D + D r.
    """
    o, r = options, options.phi_hidden
    both = o.d_k + o.d_v
    return {"mean": 0, "conv": o.l * both, "mlp": both * (o.l + r * o.l + r)}[o.phi]


def gate_parameters(options: Options) -> int:
    """sigmoid E m H + m H; softmax of several branches (D/2)(D + 1) + m (D/2 + 1), D =
    d_k, the groups sharing them; fixed 0.
    """
    o, m, half = options, len(options.branches), options.d_k // 2
    if not o.gated:
        return 0
    if o.gate == "sigmoid":
        return o.E * m * o.H + m * o.H
    return half * (o.d_k + 1) + m * (half + 1)


def attention_flops(options: Options, T: int) -> float:
    """Per token of a row of T, forward and backward: each key of each branch 6 H (d_k +
    d_v), i.e. 12 H D; and where blocks are chosen 2 H d_k more per compressed key. Of
    the selection where the query's own block is chosen, as it is when forced.
    """
    o = options
    mean = {
        "cmp": compressed_sum(T, o.l, o.d) / T,
        "sel": selected_sum(T, o.b, o.n) / T,
        "win": window_sum(T, o.w) / T,
    }
    keys = sum(mean[branch] for branch in o.branches)
    chooses = 2 * o.H * o.d_k * mean["cmp"] if "sel" in o.branches else 0
    return 6 * o.H * (o.d_k + o.d_v) * keys + chooses


def score_bytes(T: int, b: int) -> int:
    """fp32 scores [T, T/b] of one group, were they kept: 4 T²/b."""
    return 4 * T * (T // b)
