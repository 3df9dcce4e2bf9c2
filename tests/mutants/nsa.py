"""Mutants of native sparse attention: blocks, choice, window, gate, decode, counters."""

from tests.mutants.mutant import Mutant, Test, check

NSA = "nsa-124m-ablation"
OP = "tests/kernels/test_nsa.py"
MEMORY = (
    "tests/gpt2/training/test_memory.py"
    "::test_the_memory_estimate_counts_what_is_made_again"
)
STATISTICS = "tests/gpt2/model/test_nsa_statistics.py"


def proven(step: str, promise: str, **symbols: str):
    """A promise of a step of the study."""
    return check(step, promise, NSA, **symbols)


BLOCKS = [
    Mutant(
        "nsa-future-denominator",
        "the choice divides by blocks of the future, which are masked later",
        "nsa.reference:_some",
        "choice = choose(p_BGmgC, at, spec)",
        "whole = compressed_weights(meets, k_BCGK, torch.ones_like(seen))\n"
        "        choice = choose(whole * _for_heads(seen), at, spec)",
        proven("3", "causality"),
    ),
    Mutant(
        "nsa-visible-reversed",
        "a query sees the blocks that end at or after it",
        "nsa.reference:compressed_visible",
        "return i_C * spec.stride + spec.length - 1 <= t_m1",
        "return i_C * spec.stride + spec.length - 1 >= t_m1",
        proven("3", "causality"),
    ),
    Mutant(
        "nsa-visible-early",
        "a block is seen from its last but one token on",
        "nsa.reference:compressed_visible",
        "return i_C * spec.stride + spec.length - 1 <= t_m1",
        "return i_C * spec.stride + spec.length - 2 <= t_m1",
        proven("5", "causality"),
    ),
    Mutant(
        "nsa-visible-late",
        "a block is seen a token late",
        "nsa.reference:compressed_visible",
        "return i_C * spec.stride + spec.length - 1 <= t_m1",
        "return i_C * spec.stride + spec.length <= t_m1",
        proven("5", "reads"),
    ),
    Mutant(
        "nsa-grid-of-the-row",
        "compression blocks do not begin with their document",
        "nsa.blocks:grid",
        "((t_T - starts_BT) % spec.stride == 0)",
        "(t_T % spec.stride == 0)",
        proven("5", "longer blocks"),
    ),
    Mutant(
        "nsa-blocks-across-documents",
        "a compression block may hold tokens of two documents",
        "nsa.blocks:grid",
        "whole_BT = (starts_BT[:, last_T] == starts_BT) & (t_T + l <= T)",
        "whole_BT = (t_T + l <= T).expand_as(starts_BT)",
        proven("5", "longer blocks"),
    ),
    Mutant(
        "nsa-selection-of-the-row",
        "selection blocks count from the beginning of the row",
        "nsa.reference:Queries.u_Bm",
        "self.t_m - self.starts_Bm",
        "self.t_m.expand_as(self.starts_Bm)",
        proven("3", "longer blocks"),
    ),
    Mutant(
        "nsa-no-scale",
        "scores are not divided by sqrt(D)",
        "nsa.reference:_scores",
        "s_BGrs = q_BGmgK.flatten(2, 3) @ k_BGKs / math.sqrt(q_BmHK.shape[3])",
        "s_BGrs = q_BGmgK.flatten(2, 3) @ k_BGKs",
        proven("5", "formulas"),
    ),
    Mutant(
        "nsa-divisor-dropped",
        "CONFIG_LENGTH_DIVISOR does not arrive",
        "settings.mixers.nsa:NsaSettings.sizes",
        "(each // model.length_divisor for each in self.lengths.values())",
        "self.lengths.values()",
        proven("3", "formulas"),
    ),
    Mutant(
        "nsa-divisor-not-of-the-window",
        "CONFIG_LENGTH_DIVISOR leaves the window as it is",
        "settings.mixers.nsa:NsaSettings.sizes",
        "return l, d, b, self.top, w",
        "return l, d, b, self.top, self.window",
        proven("4", "formulas"),
    ),
]

CHOICE = [
    Mutant(
        "nsa-equation-9-from-0",
        "equation 9 as printed with indices from 0: blocks by the tokens before them",
        "nsa.reference:importance",
        "F.pad(p_BmXC, (early, late))",
        "F.pad(p_BmXC, (early + step - 1, late - step + 1))",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-overlap-a-stride-off",
        "equation 9 with + m + n: the overlap is off by a stride",
        "nsa.reference:importance",
        "F.pad(p_BmXC, (early, late))",
        "F.pad(p_BmXC, (early - 1, late + 1))",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-overlap-whole",
        "a block that lies in two counts for each as a whole",
        "nsa.reference:importance",
        "shares = [(min(i + l, b) - max(i, 0)) / l for i in begins]",
        "shares = [1.0 for i in begins]",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-logits-averaged",
        "the heads of a group choose by averaged scores, not by their weights' sum",
        "nsa.reference:importance",
        "p_BGmgC = p_BGmgC.sum(dim=3, keepdim=True)",
        "p_BGmgC = p_BGmgC.log().mean(dim=3, keepdim=True).softmax(-1).nan_to_num()",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-first-head-chooses",
        "the first head of a group chooses for all",
        "nsa.reference:importance",
        "p_BGmgC = p_BGmgC.sum(dim=3, keepdim=True)",
        "p_BGmgC = p_BGmgC[:, :, :, :1]",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-per-head-ignored",
        "CONFIG_NSA_CHOICE_PER_HEAD does not arrive",
        "nsa.reference:importance",
        "if not spec.per_head:",
        "if True:",
        proven("14", "choice"),
    ),
    Mutant(
        "nsa-ties-to-the-higher",
        "of equal scores the higher index is taken",
        "nsa.reference:choose",
        "score, block = score_BmXJ.sort(dim=-1, descending=True, stable=True)",
        "flipped = score_BmXJ.flip(-1)\n"
        "    score, block = flipped.sort(dim=-1, descending=True, stable=True)\n"
        "    block = most - 1 - block",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-ties-by-a-small-number",
        "ties are broken by 1e-8 of the index, in fp32",
        "nsa.reference:choose",
        "score_BmXJ = score_BmXJ.masked_fill(j_J > own_Bm11, NONE)",
        "score_BmXJ = score_BmXJ.float() - 1e-8 * j_J\n"
        "    score_BmXJ = score_BmXJ.masked_fill(j_J > own_Bm11, NONE)",
        Test(f"{OP}::test_ties_go_to_the_lower_index"),
    ),
    Mutant(
        "nsa-scores-in-bf16",
        "scores that choose are in 16 bits",
        "nsa.reference:compressed_weights",
        "_softmax(_scores(q_BmHK.to(wide), k_BCGK.to(wide)), mask)",
        "_softmax(_scores(q_BmHK, k_BCGK), mask)",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-partial-block-dropped",
        "the block of the query is left out in a pass, kept in a decode",
        "nsa.reference:choose",
        "score_BmXJ = score_BmXJ.masked_fill(j_J > own_Bm11, NONE)",
        "last_Bm11 = own_Bm11 - int(len(at.t_m) > 1)\n"
        "    score_BmXJ = score_BmXJ.masked_fill(j_J > last_Bm11.clamp(min=0), NONE)",
        proven("3", "decoding"),
    ),
    Mutant(
        "nsa-always-forced",
        "CONFIG_NSA_FORCED_BLOCKS=n does not arrive",
        "nsa.reference:choose",
        "if spec.forced:",
        "if True:",
        proven("10", "choice"),
    ),
    Mutant(
        "nsa-previous-block-free",
        "the block before the query's is not forced",
        "nsa.reference:choose",
        "(own_Bm11 - j_J <= 1)",
        "(own_Bm11 - j_J <= 0)",
        proven("3", "choice"),
    ),
    Mutant(
        "nsa-one-block-more",
        "n blocks are read beside the query's own",
        "nsa.reference:choose",
        "taken = min(spec.top, most)",
        "taken = min(spec.top + 1, most)",
        proven("3", "reads"),
    ),
    Mutant(
        "nsa-selected-future",
        "a query reads its own block to the end",
        "nsa.reference:selected",
        "read_BmXs = there_BmXs & (token_BmXs <= at.t_m[:, None, None])",
        "read_BmXs = there_BmXs & (token_BmXs < at.end)",
        proven("3", "causality"),
    ),
]

WINDOW_AND_DECODE = [
    Mutant(
        "nsa-window-one-more",
        "the window is w + 1 keys",
        "nsa.reference:windowed",
        "(back_ms < spec.window)",
        "(back_ms <= spec.window)",
        proven("4", "decoding"),
    ),
    Mutant(
        "nsa-window-one-less",
        "the window is w - 1 keys",
        "nsa.reference:windowed",
        "(back_ms < spec.window)",
        "(back_ms < spec.window - 1)",
        proven("4", "reach"),
    ),
    Mutant(
        "nsa-decode-causal",
        "a causal flag with one query: a decode reads the first key alone",
        "nsa.reference:windowed",
        "mask = (back_ms >= 0) & (back_ms < spec.window)",
        "mask = ((back_ms >= 0) & (back_ms < spec.window)).tril()",
        proven("4", "decoding"),
    ),
    Mutant(
        "nsa-window-rolled-before-it-is-read",
        "several new tokens read the window as the last of them has it",
        "mixers.nsa.nsa:Nsa._remembered",
        "near = held(window)",
        "near = held(last(window, spec.window))",
        proven("4", "decoding"),
    ),
    Mutant(
        "nsa-pending-early",
        "a decode keeps tokens before those that the next block begins with",
        "mixers.nsa.nsa:Nsa._remembered",
        "kept = last(window, spec.window), last(pending, waits)",
        "more = waits % spec.stride\n"
        "        kept = last(window, spec.window), last(pending, waits + more)",
        proven("5", "longer blocks"),
    ),
    Mutant(
        "nsa-block-place-in-decode",
        "a block that a decode makes is rotated as the first of its text",
        "nsa.projection:Projection.compressed",
        "place = (first + i_C) * self.spec.stride",
        "place = i_C * self.spec.stride",
        proven("12", "decoding"),
    ),
    Mutant(
        "nsa-cache-counted-short",
        "the tokens of the next block are not counted in the cache",
        "nsa.costs:cached_tokens",
        '"pending": tokens - blocks * spec.stride if spec.scores else 0,',
        '"pending": 0,',
        proven("3", "expectations"),
    ),
    Mutant(
        "nsa-cache-below-zero",
        "a cache that begins some tokens late has a negative constant",
        "model.costs:of_layer",
        '"cache_constant": max(far - grows * FAR, 0),',
        '"cache_constant": far - grows * FAR,',
        proven("13", "expectations"),
    ),
    Mutant(
        "nsa-reads-by-formula",
        "the counter of sel repeats n b",
        "nsa.reference:_some",
        'reads["sel"] = read_BmXs.sum(dim=-1).float().mean(dim=-1)',
        'reads["sel"] = at.t_m.new_full(shape, spec.top * spec.block)',
        proven("3", "reads"),
    ),
    Mutant(
        "nsa-reads-whole-window",
        "the counter of win repeats w",
        "nsa.reference:_some",
        'reads["win"] = near.sum(dim=-1)',
        'reads["win"] = at.t_m.new_full(shape, spec.window)',
        proven("4", "reads"),
    ),
    Mutant(
        "nsa-reads-of-the-last-chunk",
        "the counters of a decode begin anew with every chunk",
        "mixers.nsa.nsa:Nsa.forward",
        "reads_B3 = cache.reads_B3 + mixed.reads_Bn3.double().sum(dim=1)",
        "reads_B3 = mixed.reads_Bn3.double().sum(dim=1)",
        proven("3", "reads"),
    ),
    Mutant(
        "nsa-flops-without-compressed",
        "the FLOPs of compressed keys are not counted",
        "nsa.costs:products",
        "attended = sum(reads[name] for name in spec.branches) / count",
        'attended = sum(reads[n] for n in spec.branches if n != "cmp") / count',
        proven("5", "expectations"),
    ),
]

GATE_AND_PHI = [
    Mutant(
        "nsa-gate-renormalised",
        "where nothing is compressed yet, the other branches share all of the gate",
        "mixers.nsa.nsa:Nsa._gated",
        "gate_BnHm = self.gate(x_BnE, q_BnHD)",
        "there = torch.stack([(x != 0).any(dim=3) for x in o], dim=3)\n"
        "        gate_BnHm = self.gate(x_BnE, q_BnHD) * there\n"
        "        gate_BnHm = gate_BnHm / gate_BnHm.sum(dim=3, keepdim=True)",
        proven("3", "formulas"),
    ),
    Mutant(
        "nsa-gate-order",
        "the gate's shares meet the branches in the opposite order",
        "mixers.nsa.nsa:Nsa._gated",
        "gate_BnHm.unbind(dim=3)",
        "gate_BnHm.flip(3).unbind(dim=3)",
        proven("3", "formulas"),
    ),
    Mutant(
        "nsa-gate-of-the-first-head",
        "the gate of a group reads the query of its first head",
        "nsa.gate:SoftmaxGate.forward",
        "q_BnGgD.mean(dim=3)",
        "q_BnGgD[:, :, :, 0]",
        proven("3", "formulas"),
    ),
    Mutant(
        "nsa-gate-hidden-without-gradient",
        "the hidden layer of the gate never learns, at step 1 neither",
        "nsa.gate:SoftmaxGate.forward",
        "F.silu(self.inner(q_BnGgD.mean(dim=3)))",
        "(lambda h: h.detach() + 0 * h)(F.silu(self.inner(q_BnGgD.mean(dim=3))))",
        proven("3", "gradients"),
    ),
    Mutant(
        "nsa-gate-starts-open",
        "the last layer of the sigmoid gate does not start at 0",
        "nsa.gate:SigmoidGate.initial_laws",
        "self.outer.weight, 0.0)",
        "self.outer.weight, 0.5)",
        proven("9", "initial values"),
    ),
    Mutant(
        "nsa-gate-fixed-half",
        "the fixed gate gives every branch a half",
        "nsa.gate:FixedGate.forward",
        "1 / self.branches",
        "1 / 2",
        proven("8", "gate of branches"),
    ),
    Mutant(
        "nsa-shared-ignored",
        "CONFIG_NSA_SHARED_KV does not arrive",
        "nsa.projection:Projection.__init__",
        '("shared",) if options.shared_kv else spec.branches',
        "spec.branches",
        proven("13", "expectations"),
    ),
    Mutant(
        "nsa-mlp-phi-on-rotated-keys",
        "the MLP of phi reads keys that are rotated",
        "settings.mixers.nsa:NsaSettings.phi_rotation",
        'usual = "after" if self.phi == "mlp" else "before"',
        'usual = "before"',
        proven("12", "formulas"),
    ),
    Mutant(
        "nsa-phi-rotated-as-the-last",
        "a compressed key is rotated as the block's last token",
        "nsa.projection:Projection.compressed",
        "place = (first + i_C) * self.spec.stride",
        "place = (first + i_C) * self.spec.stride + self.spec.length - 1",
        proven("12", "formulas"),
    ),
    Mutant(
        "nsa-conv-starts-as-a-sum",
        "the convolution begins as the sum of a block",
        "nsa.phi:Conv.initial_laws",
        "self.weight_lD, 1 / self.length)",
        "self.weight_lD, 1.0)",
        proven("11", "initial values"),
    ),
    Mutant(
        "nsa-mlp-from-the-first-token",
        "phi's MLP is added to the first token of a block, not to the mean",
        "nsa.phi:Mlp.forward",
        "y_BCGD = _wide(x_BCGlD).mean(dim=3) + self.outer(h_BCGr)",
        "y_BCGD = _wide(x_BCGlD)[:, :, :, 0] + self.outer(h_BCGr)",
        proven("12", "blocks begin as means"),
    ),
    Mutant(
        "nsa-mlp-without-places",
        "phi's MLP does not see the place of a token",
        "nsa.phi:Mlp.forward",
        "flat_BCGi = _wide(x_BCGlD).flatten(3) + self.place_lD",
        "flat_BCGi = _wide(x_BCGlD).flatten(3)",
        proven("12", "gradients"),
    ),
    Mutant(
        "nsa-block-of-one-token",
        "a block of one token is half of it",
        "nsa.phi:Mean.forward",
        "return _wide(x_BCGlD).mean(dim=3).to(x_BCGlD.dtype)",
        "half = 2 if x_BCGlD.shape[3] == 1 else 1\n"
        "        return (_wide(x_BCGlD).mean(dim=3) / half).to(x_BCGlD.dtype)",
        proven("3", "dense where all is read"),
    ),
]

TOLD = [
    Mutant(
        "nsa-dense-untold",
        "a context that the blocks just hold is not said to be dense",
        "kconf.dense:reads_all",
        "if n * b < T:",
        "if n * b <= T:",
        Test("tests/kconf/test_dense.py::test_what_reads_all"),
    ),
    Mutant(
        "nsa-dense-unplanned",
        "a plan says nothing of steps that read everything",
        "plan.cells:_of_values",
        ', *(f"{id}: {line}" for id, line in dense)]',
        "]",
        Test(
            "tests/matrix/plan/test_cells.py"
            "::test_a_sparse_mixer_that_reads_everything_is_told"
        ),
    ),
    Mutant(
        "nsa-forced-counted-as-chosen",
        "statistics of chosen blocks hold the forced ones",
        "nsa.choices:choice_statistics",
        "free_BTXJ = read_BTXJ & ~near_BTXJ",
        "pass",
        Test(f"{STATISTICS}::test_what_is_chosen"),
    ),
    Mutant(
        "nsa-overlap-with-itself",
        "the overlap is that of a query with itself",
        "nsa.choices:choice_statistics",
        "(read_BTXJ[:, 1:] & read_BTXJ[:, :-1])",
        "read_BTXJ[:, 1:]",
        Test(f"{STATISTICS}::test_what_is_chosen"),
    ),
    Mutant(
        "nsa-statistics-refused",
        "a model without attention may not ask for statistics",
        "settings.run:RunSettings.__post_init__",
        "not any(m.statistics for m in layers)",
        "not any(m.probabilities for m in layers)",
        Test(f"{STATISTICS}::test_a_run_records_them_and_trains_to_the_same_bits"),
    ),
    Mutant(
        "nsa-map-of-the-last-window",
        "the maps are of the last window",
        "statistics:attention_stats",
        "draws=number == 0",
        "draws=number == len(windows) - 1",
        Test(f"{STATISTICS}::test_the_row_can_be_read_and_holds_maps"),
    ),
    Mutant(
        "nsa-shares-of-the-first-evaluation",
        "the report shows what was chosen at the first evaluation",
        "sparse_choices:choices",
        "ends = [heads[-1] for heads in last if heads]",
        "ends = [heads[0] for heads in last if heads]",
        Test("tests/matrix/report/test_sparse_choices.py::test_shares_by_hand"),
    ),
    Mutant(
        "nsa-reads-of-the-row",
        "dense attention's keys are counted from the row's beginning",
        "nsa.choices:read_statistics",
        "all_BT = all_T if starts_BT is None else all_T - starts_BT",
        "all_BT = all_T",
        Test(f"{STATISTICS}::test_keys_that_are_read"),
    ),
    Mutant(
        "nsa-reads-swapped",
        "the keys of a branch are told as another's",
        "nsa.choices:read_statistics",
        'zip((*BRANCHES, "all"), counted, strict=True)',
        'zip((*reversed(BRANCHES), "all"), counted, strict=True)',
        Test(f"{STATISTICS}::test_keys_that_are_read"),
    ),
    Mutant(
        "nsa-reads-of-one-layer",
        "the report shows what the first layer reads",
        "sparse_choices:_reads",
        "for x in each]",
        "for x in each[:1]]",
        Test("tests/matrix/report/test_sparse_choices.py::test_reads_by_hand"),
    ),
    Mutant(
        "nsa-memory-of-forward-alone",
        "the memory estimate leaves out what the backward pass makes again",
        "model.costs:activation_bytes",
        "return held + max(logits * model.vocab_rows, again)",
        "return held + logits * model.vocab_rows",
        Test(MEMORY),
    ),
    Mutant(
        "nsa-memory-of-one-query",
        "what is made again is counted of one query instead of those taken at once",
        "nsa.reference:last_part",
        "place = max(T - _at_once(T, values, device), 0)",
        "place = T - 1",
        Test(MEMORY),
    ),
]

SECTIONS = {
    "Native sparse attention: blocks": BLOCKS,
    "Native sparse attention: choice": CHOICE,
    "Native sparse attention: window, decode, counters": WINDOW_AND_DECODE,
    "Native sparse attention: gate, phi": GATE_AND_PHI,
    "Native sparse attention: what is told": TOLD,
}
