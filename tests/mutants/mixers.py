"""Mutants of the recurrent mixers, and of the op where their oracle alone notices."""

from tests.mutants.mutant import Mutant, Test

MIXERS = "tests/gpt2/model/test_recurrent_oracle.py"
OP = "tests/kernels/test_recurrence_oracle.py"


def oracle(kind: str, documents: bool = False) -> Test:
    """A mixer is its loops, with gradients."""
    case = "documents" if documents else "whole"
    return Test(f"{MIXERS}::test_a_mixer_is_the_oracle[{case}-{kind}]")


def mixer(test: str, kind: str) -> Test:
    """A test of every mixer, of one."""
    return Test(f"{MIXERS}::test_{test}[{kind}]")


def op(kind: str, documents: bool = False) -> Test:
    """The op is its loops, with gradients."""
    case = "documents" if documents else "whole"
    return Test(f"{OP}::test_the_op_is_the_oracle[{case}-{kind}]")


SMALL = "small_heads_are_scaled_as_the_oracle_scales"
DECODE = "a_decode_is_the_oracle"

OF_THE_OP = [
    Mutant(
        "recurrence-exponents-of-both-signs",
        "a decay between two tokens is a product of one that grows and one that falls",
        "recurrence.decay:HeadDecay.__init__",
        "torch.exp(exponent)",
        "torch.exp(g_xC1.cumsum(-2)) * torch.exp(-g_xC1.cumsum(-2)).transpose(-1, -2)",
        Test(f"{OP}::test_decays_of_any_strength[head-decay]"),
    ),
    Mutant(
        "recurrence-loop-no-reset",
        "a document begins with the state of the one before",
        "recurrence.reference:loop",
        "inside_B = starts_BT[:, t] < t",
        "inside_B = starts_BT[:, t] <= t",
        op("no-decay", documents=True),
    ),
    Mutant(
        "recurrence-enters-a-new-document",
        "a document that begins where a chunk does reads what was before",
        "recurrence.chunked:_Masks.of",
        "entered_B1NC = starts_B1NC < t_NC[:, :1]",
        "entered_B1NC = starts_B1NC <= t_NC[:, :1]",
        op("no-decay", documents=True),
    ),
    Mutant(
        "recurrence-kept-by-a-new-document",
        "a state goes through a chunk that begins a document",
        "recurrence.chunked:_Masks.of",
        "(last_B1N1 < t_NC[:, :1])[..., None]",
        "(last_B1N1 <= t_NC[:, :1])[..., None]",
        op("no-decay", documents=True),
    ),
    Mutant(
        "recurrence-first-token-lost",
        "a document's first token is not in the state that leaves its chunk",
        "recurrence.chunked:_Masks.of",
        "(last_B1N1 <= t_NC)[..., None]",
        "(last_B1N1 < t_NC)[..., None]",
        op("no-decay", documents=True),
    ),
    Mutant(
        "recurrence-not-itself",
        "a token does not read what it writes",
        "recurrence.chunked:_Masks.of",
        "i_C[:, None] >= i_C, i_C",
        "i_C[:, None] > i_C, i_C",
        op("no-decay"),
    ),
    Mutant(
        "recurrence-reads-what-is-erased",
        "outputs hear nothing of what the delta rule takes out in their chunk",
        "recurrence.chunked:_mixed",
        "@ entering - A_qc @ W_BHNCV",
        "@ entering - 0 * A_qc @ W_BHNCV",
        op("head-decay-delta"),
    ),
    Mutant(
        "recurrence-hands-on-what-is-erased",
        "the state that leaves a chunk keeps what was erased of the one that entered",
        "recurrence.chunked:_carried",
        "left @ (of_S @ S + rest)",
        "left @ rest",
        op("no-decay-delta"),
    ),
    Mutant(
        "recurrence-decay-at-the-end",
        "what leaves a chunk is decayed by its own token's decay too",
        "recurrence.decay:_ends",
        "torch.exp(_sums(g_xCK, t_C, end_C))",
        "torch.exp(_sums(g_xCK, t_C - 1, end_C))",
        op("head-decay"),
    ),
    Mutant(
        "recurrence-one-sub-chunk",
        "tokens of one sub-chunk meet as those of different ones do",
        "recurrence.decay:_Pairs.joined",
        "torch.where(self.same_A1A1, near_xAss[..., None, :], far_xAsAs)",
        "far_xAsAs",
        op("channel-decay"),
    ),
]

SHARED = [
    Mutant(
        "mixer-tail-forgotten",
        "in a decode the convolution sees nothing of earlier parts",
        "mixers.recurrent:Recurrent._convolved",
        "torch.cat([tail_B3F, qkv_BnF], dim=1)",
        "torch.cat([0 * tail_B3F, qkv_BnF], dim=1)",
        mixer(DECODE, "steps0-deltanet"),
    ),
    Mutant(
        "mixer-tail-late",
        "a decode keeps the tail of one token earlier",
        "mixers.recurrent:Recurrent._convolved",
        "u_BmF[:, -BEFORE:].clone()",
        "u_BmF[:, -BEFORE - 1 : -1].clone()",
        mixer(DECODE, "steps2-mamba2"),
    ),
    Mutant(
        "mixer-tail-stale",
        "a part shorter than the filter starts its tail anew",
        "mixers.recurrent:Recurrent._convolved",
        "return mixed_BnF, u_BmF[:, -BEFORE:].clone()",
        "kept = torch.cat([0 * tail_B3F, qkv_BnF], dim=1)\n"
        "        return mixed_BnF, kept[:, -BEFORE:].clone()",
        mixer(DECODE, "steps0-gdn"),
    ),
    Mutant(
        "mixer-no-silu",
        "nothing follows the convolution",
        "mixers.recurrent:Recurrent._convolved",
        "F.silu(convolved(u_BmF, filters, positions.starts_BT))",
        "convolved(u_BmF, filters, positions.starts_BT)",
        oracle("deltanet"),
    ),
    Mutant(
        "convolution-ahead",
        "a filter reads the token after its own",
        "mixers.convolution:convolved",
        "u_BmC = u_BmC.to(torch.promote_types(u_BmC.dtype, torch.float32))",
        "u_BmC = u_BmC.to(torch.promote_types(u_BmC.dtype, torch.float32)).roll(-1, 1)",
        oracle("mamba2"),
    ),
    Mutant(
        "convolution-reversed",
        "a filter meets its tokens in the other order",
        "mixers.convolution:convolved",
        "torch.cat([each.weight for each in filters])",
        "torch.cat([each.weight for each in filters]).flip(1)",
        oracle("gdn"),
    ),
    Mutant(
        "convolution-over-documents",
        "a filter reads the document before",
        "mixers.convolution:convolved",
        "inside_Bn1 = (t_T - back >= starts_BT)[..., None]",
        "inside_Bn1 = (t_T - back >= 0 * starts_BT)[..., None]",
        oracle("gdn", documents=True),
    ),
    Mutant(
        "convolution-no-bias",
        "the bias of the filters is lost",
        "mixers.convolution:convolved",
        "return y_BnC + torch.cat([each.bias for each in filters])",
        "return y_BnC + 0 * torch.cat([each.bias for each in filters])",
        oracle("mamba2"),
    ),
    Mutant(
        "mixer-state-bf16",
        "a decode keeps the state in bf16",
        "mixers.recurrent:Recurrent.forward",
        "RecurrentCache(state, tail_B3F)",
        "RecurrentCache(state.bfloat16().to(state.dtype), tail_B3F)",
        mixer("a_state_is_fp32_under_autocast", "retnet"),
    ),
    Mutant(
        "mixer-no-reset",
        "the documents of a row share a state",
        "mixers.recurrent:Recurrent._recurred",
        "given = q, k, v, state_BHKV, positions.starts_BT",
        "given = q, k, v, state_BHKV, None",
        oracle("retnet", documents=True),
    ),
    Mutant(
        "mixer-writes-into-its-cache",
        "a part of a decode changes the state that it was handed",
        "mixers.recurrent:Recurrent.forward",
        "cache = None if cache is None else RecurrentCache(state, tail_B3F)",
        "cache = None if cache is None else RecurrentCache("
        "cache.state_BHKV.copy_(state), tail_B3F)",
        mixer("a_cache_is_a_value", "gdn"),
    ),
    Mutant(
        "mixer-gate-before-norm",
        "heads are gated first, and the norm takes the gate's size away",
        "mixers.recurrent:Recurrent.finished",
        "self.gated(self.norm(o_BnHV), x_BnE)",
        "self.norm(self.gated(o_BnHV, x_BnE))",
        oracle("gla"),
    ),
    Mutant(
        "mixer-no-gate",
        "heads are not gated",
        "mixers.recurrent:Recurrent.gated",
        "return o_BnHV * gate_BnE.view_as(o_BnHV)",
        "return o_BnHV + 0 * gate_BnE.view_as(o_BnHV)",
        oracle("retnet"),
    ),
    Mutant(
        "mixer-gate-sigmoid",
        "the gate is σ(x) instead of x σ(x)",
        "mixers.recurrent",
        '"swish": F.silu',
        '"swish": torch.sigmoid',
        oracle("gdn"),
    ),
    Mutant(
        "mixer-no-gate-of-the-mlp",
        "the gate that the MLP before gives scales nothing",
        "mixers.recurrent:Recurrent.forward",
        "o_BnHD = scaled(heads_BnHD, x_BnE, context, self.out_gate)",
        "o_BnHD = scaled(heads_BnHD, x_BnE, BlockToBlock(), self.out_gate)",
        mixer("the_gate_of_the_mlp_scales_normed_heads", "mamba2"),
    ),
    Mutant(
        "mixer-norm-epsilon",
        "the norm of the heads has another epsilon",
        "mixers.recurrent",
        "EPS = 1e-5",
        "EPS = 1e-6",
        mixer(SMALL, "retnet"),
    ),
    Mutant(
        "mixer-unit-no-epsilon",
        "vectors are divided by their exact length",
        "mixers.recurrent:unit",
        "x_BnHK.square().sum(-1, keepdim=True) + EPS_UNIT",
        "x_BnHK.square().sum(-1, keepdim=True)",
        mixer(SMALL, "deltanet"),
    ),
    Mutant(
        "mixer-cost-of-the-delta-rule",
        "the delta rule is counted as if it erased nothing",
        "mixers.recurrent:Recurrent.products",
        "(3 if self.erases else 2)",
        "2",
        mixer("what_it_is_made_of_and_costs", "gdn"),
    ),
    Mutant(
        "mixer-tails-uncounted",
        "the tails of the convolutions are not counted",
        "mixers.recurrent:Recurrent.cache_size",
        "return CacheSize(tails, ",
        "return CacheSize(0 * tails, ",
        mixer("what_it_is_made_of_and_costs", "mamba2"),
    ),
    Mutant(
        "filters-are-products",
        "filters decay, are pruned and made orthogonal as matrices are",
        "model.initial:products",
        "if parameter.dim() >= 2 and id(parameter) not in others",
        "if parameter.dim() >= 2",
        mixer("filters_are_no_products", "deltanet"),
    ),
]

RETNET_AND_GLA = [
    Mutant(
        "retnet-no-scale",
        "q is not divided by √D",
        "model.mixers.retnet:RetNet.strands",
        "q * self.key**-0.5",
        "q",
        mixer(SMALL, "retnet"),
    ),
    Mutant(
        "retnet-decays-slower",
        "the heads begin at 1 - 2^-6",
        "model.mixers.retnet",
        "FASTEST = 5",
        "FASTEST = 6",
        oracle("retnet"),
    ),
    Mutant(
        "retnet-heads-reversed",
        "the first head keeps longest",
        "model.mixers.retnet:RetNet.strands",
        "torch.log1p(-torch.exp2(-FASTEST - h_H))",
        "torch.log1p(-torch.exp2(-FASTEST - h_H)).flip(0)",
        oracle("retnet"),
    ),
    Mutant(
        "retnet-decode-from-zero",
        "every part of a decode is rotated as if it were the first",
        "model.mixers.retnet:RetNet.strands",
        "torch.arange(start, start + x_BnE.shape[1]",
        "torch.arange(x_BnE.shape[1]",
        mixer(DECODE, "steps1-retnet"),
    ),
    Mutant(
        "gla-no-logarithm",
        "the decay is e^(-σ), not σ",
        "model.mixers.gla:GatedLinearAttention.strands",
        "F.logsigmoid(kept_BnE)",
        "-torch.sigmoid(kept_BnE)",
        oracle("gla"),
    ),
    Mutant(
        "gla-one-decay",
        "the channels of a head share a decay",
        "model.mixers.gla:GatedLinearAttention.strands",
        "Strands(q * self.key**-0.5, k, v, decay_BnHD)",
        "Strands(q * self.key**-0.5, k, v, decay_BnHD.mean(-1))",
        oracle("gla"),
    ),
    Mutant(
        "gla-no-offset",
        "b is not added",
        "model.mixers.gla:GatedLinearAttention.strands",
        "+ self.decay_offset",
        "+ 0 * self.decay_offset",
        oracle("gla"),
    ),
    Mutant(
        "gla-no-scale",
        "q is not divided by √D",
        "model.mixers.gla:GatedLinearAttention.strands",
        "q * self.key**-0.5",
        "q",
        mixer(SMALL, "gla"),
    ),
]

DELTA = [
    Mutant(
        "deltanet-no-beta-in-the-erasure",
        "what a key finds is taken out whole",
        "model.mixers.deltanet:DeltaNet.strands",
        "erase=(k, beta_BnH1 * k)",
        "erase=(k, k)",
        oracle("deltanet"),
    ),
    Mutant(
        "deltanet-beta-doubled",
        "β reaches 2",
        "model.mixers.deltanet:DeltaNet.strands",
        "beta_BnH1 = torch.sigmoid(",
        "beta_BnH1 = 2 * torch.sigmoid(",
        oracle("deltanet"),
    ),
    Mutant(
        "deltanet-keys-of-any-length",
        "keys are not made 1 long",
        "model.mixers.deltanet:DeltaNet.strands",
        "self.key**-0.5, unit(k)",
        "self.key**-0.5, k",
        oracle("deltanet"),
    ),
    Mutant(
        "deltanet-queries-of-any-length",
        "queries are not made 1 long",
        "model.mixers.deltanet:DeltaNet.strands",
        "q, k = unit(q) * self.key**-0.5",
        "q, k = q * self.key**-0.5",
        mixer(SMALL, "deltanet"),
    ),
    Mutant(
        "gdn-grows",
        "the sign of the decay is lost",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "-self.A_log.exp() * step_BnH",
        "self.A_log.exp() * step_BnH",
        oracle("gdn"),
    ),
    Mutant(
        "gdn-rate-not-raised",
        "the decay has A, not e^A",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "-self.A_log.exp() * step_BnH",
        "-self.A_log.abs() * step_BnH",
        oracle("gdn"),
    ),
    Mutant(
        "gdn-no-offset",
        "Δ has no offset",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "+ self.dt_offset",
        "+ 0 * self.dt_offset",
        oracle("gdn"),
    ),
    Mutant(
        "gdn-no-decay",
        "the state does not decay",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "beta_BnH1 * v, decay_BnH,",
        "beta_BnH1 * v, 0 * decay_BnH,",
        oracle("gdn"),
    ),
    Mutant(
        "gdn-no-beta-in-the-erasure",
        "what a key finds is taken out whole",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "(k, beta_BnH1 * k)",
        "(k, k)",
        oracle("gdn"),
    ),
    Mutant(
        "gdn-rates-from-one",
        "A starts at ln U(1, 16), as Mamba-2's",
        "model.mixers.gdn:GatedDeltaNet.initial_laws",
        "log_rate(0.0)",
        "log_rate(1.0)",
        mixer("where_it_starts", "gdn"),
    ),
]

MAMBA2 = [
    Mutant(
        "mamba2-norm-before-gate",
        "heads are normed first, then gated",
        "model.mixers.mamba2:Mamba2.finished",
        "self.by_head(self.norm(self.gated(o_BnHD, x_BnE).flatten(2)))",
        "self.gated(self.by_head(self.norm(o_BnHD.flatten(2))), x_BnE)",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-roles-swapped",
        "B is read with and C is written with",
        "model.mixers.mamba2:Mamba2.strands",
        "k, q = (",
        "q, k = (",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-scaled",
        "C is divided by √N",
        "model.mixers.mamba2:Mamba2.strands",
        "return Strands(q, k, v,",
        "return Strands(q * self.key**-0.5, k, v,",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-grows",
        "the sign of the decay is lost",
        "model.mixers.mamba2:Mamba2.strands",
        "-self.A_log.exp() * step_BnH",
        "self.A_log.exp() * step_BnH",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-no-offset",
        "Δ has no offset",
        "model.mixers.mamba2:Mamba2.strands",
        "+ self.dt_offset",
        "+ 0 * self.dt_offset",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-no-step",
        "x is written without Δ",
        "model.mixers.mamba2:Mamba2.strands",
        "v = step_BnH[..., None] * x_BnHD",
        "v = x_BnHD",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-skip-of-the-value",
        "what goes past the state is Δ x, not x",
        "model.mixers.mamba2:Mamba2.strands",
        "self.D_skip[:, None] * x_BnHD",
        "self.D_skip[:, None] * x_BnHD * step_BnH[..., None]",
        oracle("mamba2"),
    ),
    Mutant(
        "mixer-no-direct",
        "nothing goes past the state",
        "mixers.recurrent:Recurrent._recurred",
        "(o if direct is None else o + direct)",
        "(o if direct is None else o + 0 * direct)",
        oracle("mamba2"),
    ),
    Mutant(
        "mamba2-offsets-one",
        "the offsets of Δ start near 1, not where Δ is small",
        "model.quantiles:step_offset",
        "return step + np.log(-np.expm1(-step))",
        "return step + 1",
        mixer("where_it_starts", "mamba2"),
    ),
    Mutant(
        "taps-positive",
        "filters start above 0",
        "model.quantiles:taps",
        "u - 0.5",
        "u",
        mixer("where_it_starts", "deltanet"),
    ),
]

SECTIONS = {
    "The recurrence against its oracle": OF_THE_OP,
    "What recurrent mixers share": SHARED,
    "RetNet and gated linear attention": RETNET_AND_GLA,
    "The delta rule": DELTA,
    "Mamba-2": MAMBA2,
}
