"""One step of a decode: the kernels against float64, the reference against loops, and
whole models on both. Interpreted without a GPU, where `make gpu-test` runs every
shipped configuration.
"""

import math

import pytest
import torch

pytest.importorskip("triton")

from gpt2.model.gpt import GPT  # noqa: E402
from gpt2.model.mixers.attention.decoder import resolve_decoder  # noqa: E402
from kernels.attention import AttentionSpec  # noqa: E402
from kernels.decode import attention_decode, check, decode  # noqa: E402
from kernels.decode.check import Case  # noqa: E402
from tests.gpt2.model.test_decode import randomised, decoded  # noqa: E402
from tests.oracles import attention as oracle  # noqa: E402

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
PICK, UNSAFE = "softpick", "softpick_unsafe"

# S, n, H, G, D, dtype, normaliser, window, band, latent, size, B. The interpreter's
# blocks are 16 keys; it makes as many parts as there are blocks, up to 8 / programs.
CASES = [
    Case(1, 1, 2, 1, 16, F32),
    Case(1, 1, 1, 1, 16, F32, PICK, band=3),
    Case(37, 1, 1, 1, 96, F32, band=7),
    Case(32, 2, 2, 2, 16, F16),
    Case(70, 1, 2, 2, 24, BF16, band=20),
    Case(40, 3, 2, 1, 16, F32, window=17),
    Case(90, 2, 1, 1, 16, F32, PICK, window=20, band=30),
    Case(50, 1, 4, 1, 16, F32, latent=40, band=9),
    Case(20, 3, 2, 1, 16, F16, PICK, latent=24),
    Case(33, 2, 1, 1, 16, F32, UNSAFE, window=5, band=40),
    Case(33, 1, 2, 1, 16, F32, size=1e4),
    Case(33, 1, 2, 1, 16, F32, PICK, band=5, size=1e-4),
    Case(33, 1, 2, 1, 16, F16, PICK, band=5, size=1e-2),
    Case(20, 16, 1, 1, 16, F32, band=4, B=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_close_to_float64(interpret, case):
    error, budget = interpret(check.error, case)
    assert error <= budget


# S against the band of 8: shorter, equal, as long as it reaches, longer; at 24 it
# begins with the last key of a block.
@pytest.mark.parametrize("S", [5, 8, 9, 10, 24])
def test_the_edge_of_the_band(interpret, S):
    error, budget = interpret(check.error, Case(S, 1, 1, 1, 16, F32, band=8))
    assert error <= budget


# Likewise the window: with 18 of 33 it begins with the last key of a block.
@pytest.mark.parametrize("window", [1, 18, 32, 33, 50])
def test_the_edge_of_the_window(interpret, window):
    error, budget = interpret(check.error, Case(33, 1, 1, 1, 16, F32, window=window))
    assert error <= budget


def test_heads_read_their_group(interpret):
    error, budget = interpret(check.error, Case(20, 2, 4, 2, 16, F32, band=3))
    assert error <= budget


def nothing_to_pick() -> torch.Tensor:
    """o of a query that no key likes, and of one that likes some; run interpreted."""
    q = torch.tensor([-1.0, 1.0])[None, :, None, None].repeat(1, 1, 1, 16)
    k = torch.rand(1, 40, 1, 16)
    return attention_decode(q, k, k, AttentionSpec(PICK, 0.25))


def test_a_row_that_picks_nothing_is_zero(interpret):
    o_12H = interpret(nothing_to_pick)[0, :, 0]
    assert (o_12H[0] == 0).all() and (o_12H[1] > 0).all()


def apart() -> tuple[torch.Tensor, torch.Tensor]:
    """The largest score in the first of several parts, and the same keys twice over
    in another order; run interpreted.
    """
    k = torch.zeros(1, 70, 1, 16)
    k[0, 0] = 3.0
    v = torch.arange(70.0)[None, :, None, None].expand(1, 70, 1, 16).contiguous()
    q = torch.ones(1, 1, 1, 16)
    spec = AttentionSpec(scale=0.25)
    turned = attention_decode(q, k.flip(1), v.flip(1), spec)
    return attention_decode(q, k, v, spec), turned


def test_parts_are_merged_by_their_maxima(interpret):
    found, turned = interpret(apart)
    weight = math.exp(12.0)
    wanted = sum(range(1, 70)) / (weight + 69)
    torch.testing.assert_close(found, torch.full_like(found, wanted))
    torch.testing.assert_close(turned, found)


def twice() -> list[torch.Tensor]:
    """The same step twice; run interpreted."""
    given = check.inputs(Case(80, 2, 2, 1, 16, F32, band=9), "cpu")
    return [attention_decode(**given) for _ in range(2)]


def test_two_runs_are_bit_equal(interpret):
    assert torch.equal(*interpret(twice))


@pytest.mark.parametrize("normaliser", ["softmax", PICK, UNSAFE])
@pytest.mark.parametrize("band, window", [(None, None), (3, None), (4, 5), (30, 9)])
def test_the_reference_equals_loops(normaliser, band, window):
    torch.manual_seed(0)
    T, n, H, G, D = 11, 3, 4, 2, 8
    q, k, v = (torch.randn(1, T, heads, D).double() for heads in (H, G, G))
    alpha = None if band is None else torch.randn(H).double()
    s = oracle.scores(q, k, alpha, band)
    if normaliser == "softmax":
        p = oracle.softmax(s, window)
    else:
        p = oracle.softpick(s, safe=normaliser == PICK, window=window)
    wanted = oracle.mix(p, v)[:, -n:]
    spec = AttentionSpec(normaliser, D**-0.5, window, alpha, band)
    kept = () if band is None else (q[:, -min(T, n + band) :], k[:, -n:])
    found = decode(q[:, -n:], k, v, spec, *kept)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


RA = {"RA": "y", "RA_BAND": "5"}
MLA = {"MLA": "y", "MLA_LATENT": "32"}
MODELS = {
    "baseline": {},
    "gqa-ra": {"GQA": "y", "KV_HEADS": "2", **RA},
    "rope-sliding": {"POSITION_ROPE": "y", "SLIDING": "y", "WINDOW": "6"},
    "softpick-gate": {"SOFTPICK": "y", "OUTPUT_GATE_HEADWISE": "y"},
    "mla": MLA,
    "mla-ra": {**MLA, **RA, "MLA_SHARED_UP": "y", "MLA_SHARED_LATENT": "y"},
}


def differ(settings) -> float:
    """How far a decode by our kernels is from the forward pass; run interpreted."""
    torch.manual_seed(0)
    model = randomised(settings)
    ours = GPT(settings.model, "triton").eval()
    ours.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 257, (1, 12))
    with torch.no_grad():
        wanted = model(tokens)
    found, _ = decoded(ours, tokens, [7, 1, 1, 3])
    return ((found.double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("name", MODELS)
def test_models_decode_equal_to_the_forward(interpret, small, name):
    assert interpret(differ, small(**MODELS[name], GPT2_LAYERS="1")) < 1e-5


def test_auto_takes_what_serves(small):
    def resolved(kind, asked="auto", **symbols):
        return resolve_decoder(small(**symbols).model, asked, kind)

    assert resolved("cpu") == "reference"
    assert resolved("cuda") == resolved("cuda", **MLA, **RA) == "triton"
    assert resolved("cuda", "reference") == "reference"
    assert resolved("cuda", RA_CT="y") == "reference"
    for kind, symbols, why in (
        ("cpu", {}, "run on cpu"),
        ("cuda", {"RA_CT": "y"}, "CONFIG_RA_CT"),
        ("cuda", {"MLP_CROSS_TOKEN": "y"}, "CONFIG_MLP_CROSS_TOKEN"),
    ):
        with pytest.raises(ValueError, match=why):
            resolved(kind, "triton", **symbols)


def test_dropout_is_refused(small):
    model = GPT(small(GPT2_DROPOUT="0.1").model, "triton").train()
    with pytest.raises(ValueError, match="model.eval"):
        model.decode(torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize(
    "change, error, says",
    [
        ({"normaliser": "sparsemax"}, ValueError, "one of"),
        ({"window": 0}, ValueError, "at least 1"),
        ({"scale": 0.0}, ValueError, "positive"),
        ({"scale": None}, ValueError, "width of a head"),
        ({"statistics": ("lse",)}, ValueError, "none of them"),
        ({"starts": torch.zeros(1, 1, dtype=torch.int32)}, ValueError, "none of them"),
        ({"band": 3}, ValueError, "belong together"),
        ({"queries_BwHD": torch.zeros(1, 4, 2, 16)}, ValueError, "the last 5 queries"),
        ({"alpha": torch.zeros(2).double()}, ValueError, "fp32"),
        ({"k_BSGC": torch.zeros(1, 9, 3, 16)}, ValueError, "must agree"),
        ({"q_BnHC": torch.zeros(1, 17, 2, 16)}, NotImplementedError, "16 new"),
        ({"q_BnHC": torch.zeros(1, 1, 2, 16).double()}, NotImplementedError, "one of"),
        ({}, NotImplementedError, "TRITON_INTERPRET"),
    ],
)
def test_refusals_say_why(change, error, says):
    x = torch.zeros(1, 20, 2, 16)
    given = {"q_BnHC": x[:, :1], "k_BSGC": x, "v_BSGV": x}
    options = {"scale": 0.25}
    if {"queries_BwHD", "alpha"} & set(change):
        given |= {"queries_BwHD": x[:, :5], "keys_BnJD": x[:, :1]}
        options |= {"alpha": torch.zeros(2), "band": 4}
    for name, value in change.items():
        (options if name in AttentionSpec._fields else given)[name] = value
    with pytest.raises(error, match=says):
        attention_decode(**given, spec=AttentionSpec(**options))


def checked() -> None:
    """The operator as torch.library sees it; run interpreted."""
    given = check.inputs(Case(20, 1, 2, 1, 16, F32, band=4), "cpu")
    spec = given["spec"]
    names = "q_BnHC", "k_BSGC", "v_BSGV"
    arguments = *(given[name] for name in names), spec.alpha, given["queries_BwHD"]
    arguments += given["keys_BnJD"], spec.normaliser, spec.scale, spec.window, spec.band
    torch.library.opcheck(torch.ops.kablate.attention_decode.default, arguments)


def test_operator(interpret):
    interpret(checked)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", list(check.cases()), ids=str)
def test_shipped_configurations(case):
    error, budget = check.error(case, "cuda")
    assert error <= budget
