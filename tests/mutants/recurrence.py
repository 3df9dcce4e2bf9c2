"""Mutants of the recurrence and of the mixers that are made of it."""

from tests.mutants.mutant import Mutant, Test, check

MIXERS = "gpt2-mixer-ablation"
RECURRENCE = "tests/kernels/test_recurrence.py"
LAYER = "tests/gpt2/model/test_delta_and_decay.py"
ANY_CHUNK = "tests/gpt2/check/test_any_chunk.py"
LOOP = Test(f"{RECURRENCE}::test_chunks_are_the_loop")

RECURRENCE_MUTANTS = [
    Mutant(
        "recurrence-no-solve",
        "what is erased is that of the chunk's first state alone",
        "recurrence.chunked:_mixed",
        "torch.linalg.solve_triangular(A_ec, right, upper=False, unitriangular=True)",
        "right",
        LOOP,
    ),
    Mutant(
        "recurrence-erases-after-writing",
        "a token erases what it has written itself",
        "recurrence.chunked:_mixed",
        "torch.where(masks.strict, decay.scores(e, k), 0.0)",
        "torch.where(masks.seen, decay.scores(e, k), 0.0)",
        LOOP,
    ),
    Mutant(
        "recurrence-decays-what-is-new",
        "a token's decay acts on its own key and value",
        "recurrence.decay:_Pairs.__init__",
        "_sums(self.split(g_xtK), j, i)",
        "_sums(self.split(g_xtK), j - 1, i)",
        LOOP,
    ),
    Mutant(
        "recurrence-enters-whole",
        "what enters a chunk is read as if its first token let all of it stand",
        "recurrence.decay:_ends",
        "torch.full_like(t_C, -1)",
        "torch.full_like(t_C, 0)",
        LOOP,
    ),
    Mutant(
        "recurrence-anchor-of-the-earlier",
        "the later sub-chunk counts from its second token on",
        "recurrence.decay:_Pairs.__init__",
        "n_A.repeat_interleave(s), t)",
        "n_A.repeat_interleave(s) + 1, t)",
        LOOP,
    ),
    Mutant(
        "recurrence-no-near-pairs",
        "tokens of one sub-chunk meet without a decay",
        "recurrence.decay:ChannelDecay.scores",
        "self.near_xAssK * right_xA1sK",
        "(0 * self.near_xAssK + 1) * right_xA1sK",
        LOOP,
    ),
    Mutant(
        "recurrence-later-sub-chunks",
        "a sub-chunk meets those after it as if they were before it",
        "recurrence.decay:HeadDecay.__init__",
        "exponent = pairs.joined(pairs.near_xAssK[..., 0], up_xAs1 + down_xA1t)",
        "exponent = pairs.joined(pairs.near_xAssK[..., 0], up_xAs1 - down_xA1t)",
        Test(f"{RECURRENCE}::test_no_exponent_is_positive"),
    ),
    Mutant(
        "recurrence-erased-by-neighbours",
        "documents erase each other's states",
        "recurrence.chunked:_Masks.of",
        "strict_CC & same_B1NCC",
        "strict_CC & (same_B1NCC | True)",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
    Mutant(
        "recurrence-left-to-documents",
        "what a document writes stays in the state of the next one",
        "recurrence.chunked:_left",
        "torch.where(masks.left, x, 0.0)",
        "x",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
    Mutant(
        "recurrence-state-undecayed",
        "a state goes through a chunk whole",
        "recurrence.chunked:_carried",
        "factor[n] * kept",
        "kept",
        Test(f"{RECURRENCE}::test_a_state_is_handed_on"),
    ),
    Mutant(
        "recurrence-state-one-late",
        "a chunk is entered by the state that it leaves",
        "recurrence.chunked:_carried",
        "        entering.append(S)\n",
        "        entering.append(S if n == 0 else S + moved[n])\n",
        check("1", "any chunk", MIXERS),
    ),
    Mutant(
        "recurrence-documents-of-the-first-chunk",
        "what the first chunk lets stand of a state, all do",
        "recurrence.chunked:_carried",
        "torch.where(keeps[n], S, 0.0)",
        "torch.where(keeps[0], S, 0.0)",
        check("4", "any chunk", MIXERS),
    ),
    Mutant(
        "recurrence-erased-by-the-first-chunk",
        "every chunk erases what the first one does",
        "recurrence.chunked:_carried",
        "of_S, rest, left = erased[n]",
        "of_S, rest, left = erased[0]",
        check("5", "any chunk", MIXERS),
    ),
    Mutant(
        "recurrence-sums-by-difference",
        "decays are differences of running sums",
        "recurrence.decay:_sums",
        "return taken_RC.to(g_xCK.dtype) @ g_xCK",
        "total = torch.nn.functional.pad(g_xCK.cumsum(-2), (0, 0, 1, 0))\n"
        "    return total[..., upto_R + 1, :] - total[..., above_R + 1, :]",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
]

DELTA_AND_DECAY = [
    Mutant(
        "gla-decay-of-values",
        "GLA's decays are those of the channel after",
        "model.mixers.gla:GatedLinearAttention.strands",
        "self.by_head(F.logsigmoid(kept_BnE) / TEMPERATURE)",
        "self.by_head(F.logsigmoid(kept_BnE) / TEMPERATURE).roll(1, 3)",
        check("4", "formulas", MIXERS),
    ),
    Mutant(
        "gla-decay-unslowed",
        "GLA's gates are not raised to 1/16",
        "model.mixers.gla:GatedLinearAttention.strands",
        "F.logsigmoid(kept_BnE) / TEMPERATURE",
        "F.logsigmoid(kept_BnE)",
        check("4", "formulas", MIXERS),
    ),
    Mutant(
        "gla-offset-of-one",
        "GLA's offset starts at 1",
        "model.mixers.gla:GatedLinearAttention.initial_laws",
        "self.decay_offset, 0.0",
        "self.decay_offset, 1.0",
        check("4", "initial values", MIXERS),
    ),
    Mutant(
        "gla-rank-undivided",
        "GLA's rank does not follow the width",
        "settings.mixers.gla:GlaSettings.rank",
        "self.low_rank // model.width_divisor",
        "self.low_rank",
        Test(f"{LAYER}::test_ranks_follow_the_width"),
    ),
    Mutant(
        "delta-of-raw-values",
        "DeltaNet writes values that beta does not scale",
        "model.mixers.deltanet:DeltaNet.strands",
        "Strands(q, k, beta_BnH1 * v,",
        "Strands(q, k, v,",
        check("5", "formulas", MIXERS),
    ),
    Mutant(
        "delta-of-short-keys",
        "DeltaNet's keys have half their length",
        "model.mixers.deltanet:DeltaNet.strands",
        "unit(k)",
        "0.5 * unit(k)",
        check("5", "formulas", MIXERS),
    ),
    Mutant(
        "delta-unscaled-queries",
        "DeltaNet's queries are not divided by the root of D",
        "model.mixers.deltanet:DeltaNet.strands",
        "unit(q) * self.key**-0.5",
        "unit(q)",
        check("5", "formulas", MIXERS),
    ),
    Mutant(
        "gdn-decay-upwards",
        "Gated DeltaNet's rates are those of e^-A",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "-self.A_log.exp()",
        "-(-self.A_log).exp()",
        check("6", "formulas", MIXERS),
    ),
    Mutant(
        "gdn-rates-of-mamba",
        "Gated DeltaNet's rates start in U(8, 16)",
        "model.mixers.gdn:GatedDeltaNet.initial_laws",
        "log_rate(0.0)",
        "log_rate(8.0)",
        check("6", "initial values", MIXERS),
    ),
    Mutant(
        "gdn-delta-of-the-past",
        "what is erased is read from the state before it fades",
        "model.mixers.gdn:GatedDeltaNet.strands",
        "decay_BnH, (k, beta_BnH1 * k))",
        "decay_BnH, (k * (-decay_BnH).exp()[..., None], beta_BnH1 * k))",
        check("6", "formulas", MIXERS),
    ),
    Mutant(
        "delta-rule-for-nothing",
        "what the delta rule reads is not counted",
        "model.mixers.recurrent:Recurrent.products",
        "3 if self.erases else 2",
        "2",
        check("5", "expectations", MIXERS),
    ),
    Mutant(
        "recurrent-chunk-of-its-own",
        "a layer takes 64 tokens at a time whatever it is told",
        "model.mixers.recurrent:Recurrent._recurred",
        "size=self.chunk",
        "size=64",
        Test(f"{ANY_CHUNK}::test_a_layer_takes_the_chunk_it_is_given"),
    ),
]

SECTIONS = {
    "The recurrence": RECURRENCE_MUTANTS,
    "Decay by channel, the delta rule": DELTA_AND_DECAY,
}
