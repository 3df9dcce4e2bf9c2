"""Mutants of mixers and of layers that differ."""

from tests.mutants.mutant import Mutant, Test, check

HYBRIDS, MIXERS = "gpt2-hybrid-ablation", "gpt2-mixer-ablation"
LAYERS = "tests/gpt2/model/test_layers.py"
RECURRENCE = "tests/kernels/test_recurrence.py"

LAYER_MUTANTS = [
    Mutant(
        "hybrid-attention-alone",
        "where layers differ, attention gives the opposite of its result",
        "block:build_mixer",
        "return module.MIXER(settings, decoder)",
        "found = module.MIXER(settings, decoder)\n"
        '    if settings.mixer_layers and found.kind == "attention":\n'
        "        found.o.register_forward_hook(lambda module, given, y: -y)\n"
        "    return found",
        check("1", "formulas", HYBRIDS),
    ),
    Mutant(
        "hybrid-attention-window",
        "where layers differ, attention sees three keys",
        "attention.attention:Attention.__init__",
        "self.window = options.window",
        "self.window = 3 if settings.mixer_layers else options.window",
        check("1", "built as configured", HYBRIDS),
    ),
    Mutant(
        "hybrid-of-three",
        "the small model holds three layers whatever the pattern",
        "subject:_depth",
        "if set(pairs[: depth - 1]) == set(pairs)",
        "if depth >= len(pattern)",
        Test(f"{LAYERS}::test_the_small_model_holds_every_pair_of_neighbours"),
    ),
    Mutant(
        "attention-everywhere",
        "every layer is attention",
        "block:build_mixer",
        "MODULES[settings.layers[layer].name]",
        'MODULES["attention"]',
        check("1", "built as configured", HYBRIDS),
    ),
    Mutant(
        "linear-not-normalised",
        "the sum of the weights divides nothing",
        "model.mixers.linear:LinearAttention.forward",
        "mixed[..., :-1] / (mixed[..., -1:] + EPS)",
        "mixed[..., :-1] / (0 * mixed[..., -1:] + 1)",
        check("1", "formulas", MIXERS),
    ),
    Mutant(
        "linear-of-elu",
        "keys are elu without the 1",
        "model.mixers.linear:LinearAttention._features",
        "F.elu(k) + 1",
        "F.elu(k) + 2",
        check("1", "formulas", MIXERS),
    ),
    Mutant(
        "linear-sees-itself-not",
        "a query does not see its own key",
        "recurrence.chunked:_Masks.of",
        "i_C[:, None] >= i_C",
        "i_C[:, None] > i_C",
        check("1", "formulas", MIXERS),
    ),
    Mutant(
        "linear-state-not-kept",
        "a decode begins with an empty state each time",
        "model.mixers.linear:LinearAttention.forward",
        "_no_tokens(k, v) if cache is None else cache.state_BHDD1",
        "_no_tokens(k, v)",
        check("1", "decoding", MIXERS),
    ),
    Mutant(
        "linear-state-in-16-bits",
        "the state has the type of the products",
        "model.mixers.linear:LinearAttention.forward",
        "LinearCache(state)",
        "LinearCache(state.to(qkv_BnF.dtype))",
        check("1", "decoding", MIXERS),
    ),
    Mutant(
        "linear-state-uncounted",
        "the state of the normaliser is not counted",
        "model.mixers.linear:LinearAttention.cache_size",
        "(self.head_width + 1)",
        "self.head_width",
        check("1", "expectations", MIXERS),
    ),
    Mutant(
        "linear-costs-the-length",
        "linear attention is counted as attention",
        "model.mixers.linear:LinearAttention.products",
        "2 * self.heads * self.head_width**2",
        "2 * self.heads * self.head_width * T",
        check("1", "expectations", MIXERS),
    ),
    Mutant(
        "linear-hears-documents",
        "what entered a chunk is read by documents that began in it",
        "recurrence.chunked:_entered",
        "torch.where(masks.entered, x, 0.0)",
        "x",
        Test(f"{RECURRENCE}::test_another_document_changes_no_bit"),
    ),
    Mutant(
        "linear-state-of-documents",
        "a document leaves its state to the next one",
        "recurrence.chunked:_carried",
        "torch.where(keeps[n], S, 0.0)",
        "S",
        Test(f"{RECURRENCE}::test_chunks_are_the_loop"),
    ),
    Mutant(
        "window-costs-the-length",
        "a window costs as much as none",
        "attention.attention:Attention.keys",
        "T if self.window is None else min(self.window, T)",
        "T",
        Test("tests/golden/test_networks.py"),
    ),
    Mutant(
        "interior-of-a-pattern",
        "one more layer adds what the last one did, whatever stands in it",
        "model.costs:_forward_bytes",
        "turn = len(model.pattern)",
        "turn = 1",
        Test(f"{LAYERS}::test_the_memory_of_deep_models_is_that_of_all_their_layers"),
    ),
    Mutant(
        "exporter-of-anything",
        "an exporter takes any mixer for attention",
        "architectures:_mixers",
        'if layer.name != "attention"',
        "if layer is None",
        Test(f"{LAYERS}::test_an_exporter_refuses_a_hybrid"),
    ),
]

SECTIONS = {"Mixers, and layers that differ": LAYER_MUTANTS}
