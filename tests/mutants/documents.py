"""Mutants of documents that are kept apart."""

from tests.mutants.mutant import LLAMA, Mutant, Test, check

STEPS = "tests/kernels/test_attention_steps.py"
TESTS = "tests/gpt2/training/test_documents.py"
PROMISE = "documents apart"
RMS = {"MLP_CROSS_TOKEN": "y", "MLP_CROSS_TOKEN_RMS": "y"}

DOCUMENTS = [
    Mutant(
        "documents-sdpa",
        "sdpa sees the documents before",
        "cores:sdpa",
        "mask_TT = visible(T, T, spec.window, q.device, spec.starts)",
        "mask_TT = visible(T, T, spec.window, q.device)",
        check("0", PROMISE),
    ),
    Mutant(
        "documents-band",
        "the transposed score reaches into the documents before",
        "cores:finish",
        "mask_nS = visible(*s_BHnS.shape[2:], spec.window, s_BHnS.device, spec.starts)",
        "mask_nS = visible(*s_BHnS.shape[2:], spec.window, s_BHnS.device, spec.starts)\n    if spec.starts is not None and spec.alpha is not None:\n        mask_nS = mask_nS | visible(\n            *s_BHnS.shape[2:], spec.band + 1, s_BHnS.device\n        )",
        check("5", PROMISE),
    ),
    Mutant(
        "documents-window",
        "a window reaches into the documents before",
        "cores:sdpa",
        "mask_TT = visible(T, T, spec.window, q.device, spec.starts)",
        "mask_TT = visible(\n            T, T, spec.window, q.device, None if spec.window else spec.starts\n        )",
        check("7", PROMISE, "gpt2-attention-ablation"),
    ),
    Mutant(
        "documents-statistic",
        "RA-CT's statistic counts t + 1 keys",
        "cores:finish",
        "factor_BHn = gate(p_BHnS, mask_nS)",
        "factor_BHn = gate(\n            p_BHnS, visible(*s_BHnS.shape[2:], spec.window, s_BHnS.device)\n        )",
        check("18", PROMISE),
    ),
    Mutant(
        "documents-routing",
        "the routing's rms divides by t + 1 keys",
        "cores:finish",
        "seen_n if spec.starts is None else seen_n[:, 0]",
        "seen_n if spec.starts is None else torch.arange(1, seen_n.shape[-1] + 1)",
        check("0", PROMISE, **RMS),
    ),
    Mutant(
        "documents-mean",
        "the prefix mean goes on over a document's beginning",
        "attn_gate:AttentionGate.forward",
        "if self.mean and starts_BT is not None:",
        "if False:",
        check("3", PROMISE),
    ),
    Mutant(
        "documents-mean-count",
        "the prefix mean restarts and still divides by t + 1",
        "attn_gate:document_mean",
        "count_BT1 = (t_T + 1 - starts_BT)[..., None]",
        "count_BT1 = (t_T + 1 - 0 * starts_BT)[..., None]",
        check("3", PROMISE),
    ),
    Mutant(
        "documents-mean-short",
        "the prefix mean leaves out a document's first token",
        "attn_gate:document_mean",
        "(t_T - d >= starts_BT)",
        "(t_T - d > starts_BT)",
        check("3", PROMISE),
    ),
    Mutant(
        "documents-positions",
        "learned positions count on over a document's beginning",
        "gpt:GPT.embed",
        "place_n = place_n if starts_BT is None else place_n - starts_BT",
        "pass",
        check("0", PROMISE),
    ),
    Mutant(
        "documents-blocks",
        "the MLP is not told where documents begin",
        "block:Block.forward",
        "normed_BnE, given, positions, mlp",
        "normed_BnE, given, Positions(positions.start), mlp",
        check("3", PROMISE),
    ),
    Mutant(
        "documents-in-attention",
        "attention is not told where documents begin",
        "block:Block.forward",
        "normed_BnE, context, positions, mixer",
        "normed_BnE, context, Positions(positions.start), mixer",
        check("0", PROMISE, LLAMA),
    ),
    Mutant(
        "documents-kernels",
        "our kernels are not told where documents begin",
        "cores:_fused",
        "attend(spec._replace(statistics=wanted, top=top))",
        "attend(spec._replace(statistics=wanted, top=top, starts=None))",
        Test(f"{STEPS}::test_equal_to_the_reference[16-True]"),
    ),
    Mutant(
        "documents-flex",
        "FlexAttention sees the documents before",
        "torch_attention:flex.seen",
        "if starts_BT is not None:\n            inside",
        "if False:\n            inside",
        Test(f"{TESTS}::test_flex_keeps_documents_apart[symbols0]"),
    ),
    Mutant(
        "documents-separator",
        "the separator belongs to the document before it",
        "data.documents:starts_of",
        "torch.where(tokens_BT == separator, t_T, t_T.new_zeros(()))",
        "torch.where(tokens_BT.roll(1, 1) == separator, t_T, t_T.new_zeros(()))",
        Test(
            "tests/gpt2/data/test_documents.py::test_a_part_of_a_batch_and_no_separator",
        ),
    ),
    Mutant(
        "documents-never-arrive",
        "CONFIG_DOCUMENTS_APART does not arrive at the batches",
        "corpus:Corpus.__init__",
        "self.separator = self.manifest.vocab_size - 1 if apart else None",
        "self.separator = None",
        Test(f"{TESTS}::test_the_same_batches_and_where_documents_begin"),
    ),
    Mutant(
        "documents-not-trained",
        "a training step is not told where documents begin",
        "training.step:Step.take",
        "forward(*micro) / len(batches)",
        "forward(*micro[:2]) / len(batches)",
        Test(f"{TESTS}::test_a_run_trains_and_resumes_with_documents_apart"),
    ),
    Mutant(
        "documents-not-evaluated",
        "an evaluation hears the documents before",
        "validation:evaluate",
        "starts_BT = starts_of(rows[:, :-1], separator)",
        "starts_BT = None",
        Test(f"{TESTS}::test_training_and_evaluation_hear_one_document"),
    ),
    Mutant(
        "documents-sinks",
        "a sink is the sequence's first token, whatever the document",
        "attention.heads:_sinks",
        "first_BHT1 = starts_BT.long()",
        "first_BHT1 = (0 * starts_BT).long()",
        Test(
            f"{TESTS}::test_statistics_of_a_sequence_are_those_of_its_documents[baseline]"
        ),
    ),
]

SECTIONS = {"Documents apart": DOCUMENTS}
