"""Mutants of what leaves for other programs."""

from tests.mutants.mutant import Mutant, Test

HOSTILE = "tests/gpt2/export/test_hostile.py::test_it_is_refused_in_one_line"
DECLARED = "tests/kconf/test_declared.py::test_what_no_merge_gives"
HF_TESTS = "tests/gpt2/export/test_huggingface.py"
COMMAND_TESTS = "tests/gpt2/export/test_command.py"
LOGITS = f"{HF_TESTS}::test_logits_equal_those_of_transformers"

EXPORTS = [
    Mutant(
        "export-keys-are-values",
        "the rows of k and v in the fused qkv change places",
        "export.names:_rows",
        '"k": H, "v": H + G}',
        '"k": H + G, "v": H}',
        Test(f"{LOGITS}[llama-85m-ablation/00-llama]"),
    ),
    Mutant(
        "export-gate-is-up",
        "the two inner matrices of SwiGLU change places",
        "export.names",
        '    "mlp.gate": "model.layers.{}.mlp.gate_proj",\n'
        '    "mlp.inner": "model.layers.{}.mlp.up_proj",\n',
        '    "mlp.gate": "model.layers.{}.mlp.up_proj",\n'
        '    "mlp.inner": "model.layers.{}.mlp.gate_proj",\n',
        Test(f"{LOGITS}[llama-85m-ablation/00-llama]"),
    ),
    Mutant(
        "export-rope-base",
        "config.json names the usual RoPE base, not the model's",
        "huggingface:config",
        '"rope_type": "default", "rope_theta": settings.rope_base}',
        '"rope_type": "default", "rope_theta": 1e4}',
        Test(f"{LOGITS}[llama-85m-ablation/00-llama ROPE_BASE=500]"),
    ),
    Mutant(
        "export-ra-at-home",
        "reciprocal attention leaves as plain attention",
        "architectures:features",
        '"RA": attention.ra,',
        '"RA": False,',
        Test("tests/gpt2/export/test_architectures.py"),
    ),
    Mutant(
        "export-prefix-space",
        "a space is put before every text",
        "tokenizer:describe",
        "add_prefix_space=False",
        "add_prefix_space=True",
        Test(
            "tests/gpt2/export/test_tokenizer.py"
            "::test_a_trained_vocabulary_leaves_as_it_was_trained"
        ),
    ),
    Mutant(
        "export-not-compared",
        "what was written gets its name whatever it computes",
        "export.write:compare",
        "if not torch.equal(logits(again, tokens_BT), wanted_BTV):",
        "if logits(again, tokens_BT) is None:",
        Test(f"{COMMAND_TESTS}::test_what_does_not_come_back_gets_no_name"),
    ),
    Mutant(
        "export-replaces",
        "an export replaces what has its name",
        "export.write:require_free",
        "if os.path.lexists(out):",
        "if not out.parent:",
        Test(f"{COMMAND_TESTS}::test_nothing_is_overwritten"),
    ),
    Mutant(
        "export-changed-since",
        "weights that were changed after the export are read as they are",
        "bundle:require_intact",
        'if weights_sha256(model) != papers["weights_sha256"]:',
        'if not papers["weights_sha256"]:',
        Test("tests/gpt2/export/test_native.py::test_weights_of_another_model"),
    ),
]

SEALS = [
    Mutant(
        "seal-not-compared",
        "papers, tokenizer and weights may be changed after the export",
        "export.seal:require_sealed",
        'if checksum != papers["sha256"]:',
        "if not checksum:",
        Test(f"{HOSTILE}[native: another symbol]"),
    ),
    Mutant(
        "seal-head-alone",
        "the checksum covers the beginning of a file",
        "export.seal:_digest",
        "                total.update(chunk)\n",
        "                pass\n",
        Test("tests/gpt2/export/test_seal.py::test_a_file_longer_than_its_head"),
    ),
    Mutant(
        "seal-other-files",
        "the other files of a folder may be changed",
        "export.seal:_require_files",
        "if found != wanted:",
        "if not found:",
        Test(f"{HOSTILE}[hf: generation_config.json changed]"),
    ),
    Mutant(
        "seal-added-files",
        "a file may be put beside those that left",
        "export.seal:_require_files",
        'if not known and not entry.name.startswith("."):',
        "if not entry.name:",
        Test(f"{HOSTILE}[hf: a file more]"),
    ),
    Mutant(
        "papers-unchecked",
        "what a field of the papers holds is not looked at",
        "bundle:read_papers",
        "        kind(papers)\n",
        "        pass\n",
        Test(f"{HOSTILE}[papers: a field unknown]"),
    ),
    Mutant(
        "papers-field-twice",
        "of a field that stands twice the last counts",
        "export.papers:_once",
        "if len(found) < len(pairs):",
        "if not pairs and found:",
        Test(f"{HOSTILE}[safetensors: papers a field twice]"),
    ),
    Mutant(
        "papers-any-size",
        "a number of a record may be out of its symbol's range",
        "kconf.declared:require_declared",
        "if ranges and not any(low <= value <= high for low, high in ranges):",
        "if ranges is None:",
        Test(DECLARED),
    ),
    Mutant(
        "papers-any-symbol",
        "a symbol that this checkout does not know is passed over",
        "kconf.declared:require_declared",
        "if not idle and symbol not in operational:",
        "if idle is None:",
        Test(DECLARED),
    ),
    Mutant(
        "header-gaps",
        "tensors of a file may overlap",
        "safetensors_file:_header",
        "if entry.begin != end:",
        "if entry.begin < 0:",
        Test(f"{HOSTILE}[safetensors: two on one place]"),
    ),
    Mutant(
        "header-any-length",
        "a header is read however long it says it is",
        "safetensors_file:read_header",
        "if length > LONGEST:",
        "if length < 0:",
        Test(f"{HOSTILE}[safetensors: 40 MiB]"),
    ),
    Mutant(
        "header-another-model",
        "a model is built before its file is looked at",
        "bundle:require_shapes",
        "    for name in [*wanted, *found]:",
        "    for name in []:",
        Test(f"{HOSTILE}[symbols: the widest]"),
    ),
    Mutant(
        "gguf-field-twice",
        "of a field of GGUF that stands twice the last counts",
        "gguf_file:_Cursor.fields",
        "if name in seen:",
        "if not seen and found:",
        Test(f"{HOSTILE}[gguf: a field twice]"),
    ),
    Mutant(
        "tokenizer-larger",
        "a tokenizer may have tokens that the model does not",
        "export.tokenizer:restore_fitting",
        "if tokenizer.vocab_size > settings.vocab_size:",
        "if tokenizer.vocab_size < 0:",
        Test(f"{HOSTILE}[tokenizer: more than the model has]"),
    ),
    Mutant(
        "config-larger-than-weights",
        "a model is built by a config.py that its weights do not fill",
        "generation.generate:_require_size",
        "if weights.stat().st_size < 2 * count:",
        "if weights.stat().st_size < 0:",
        Test(
            "tests/gpt2/generation/test_generate.py::test_a_config_that_nobody_merged"
            "[MLP_DIM-1048576-model.pt has .* bytes, too few for the .* values]"
        ),
    ),
]

ONNX_TESTS = "tests/gpt2/export/test_onnx.py"
Q8_0_TESTS = "tests/gpt2/export/test_q8_0.py"
TRACED = f"{ONNX_TESTS}::test_the_traced_form_computes_what_the_model_does"
HALF_A_STEP = f"{Q8_0_TESTS}::test_values_are_within_half_a_step_of_their_block"

FEW_BITS = [
    Mutant(
        "export-blocks-cut-off",
        "the integers of a block are cut off, not rounded",
        "q8_0:_blocks",
        "(w_RN32 / scale_RN1).round()",
        "(w_RN32 / scale_RN1).trunc()",
        Test(HALF_A_STEP),
    ),
    Mutant(
        "export-scale-without-floor",
        "scales of the smallest blocks are coarse, and blocks of blocks others",
        "q8_0:_blocks",
        "scale_RN1.clamp(min=SMALLEST)",
        "scale_RN1.clamp(min=2.0**-24)",
        Test(f"{Q8_0_TESTS}::test_what_was_in_blocks_goes_into_the_same"),
    ),
    Mutant(
        "export-blocks-beyond-the-file",
        "bytes of a tensor beyond the end of the file are not refused as such",
        "gguf_file:_content",
        "if entry.begin + size > header.size:",
        "if entry.begin > header.size:",
        Test(f"{HOSTILE}[gguf: blocks that end early]"),
    ),
    Mutant(
        "export-papers-in-blocks",
        "papers of a format without blocks may name them",
        "bundle:read_papers",
        'if papers["dtype"] in formats.BLOCKS and not blocks:',
        "if papers is blocks:",
        Test(f"{HOSTILE}[hf: a type of GGUF alone]"),
    ),
    Mutant(
        "export-positions-in-blocks",
        "learned positions lie in blocks, which llama.cpp does not read",
        "bundle:in_blocks",
        ' and not name.startswith(("wpe", "position"))',
        "",
        Test(f"{Q8_0_TESTS}::test_matrices_alone_are_rounded"),
    ),
    Mutant(
        "export-blocks-anywhere",
        "formats without blocks are asked for them",
        "export.formats:obstacle",
        'target == "gguf" and dtype in BLOCKS',
        "dtype in BLOCKS",
        Test(f"{Q8_0_TESTS}::test_types_that_a_format_does_not_have[q8_0-native]"),
    ),
    Mutant(
        "export-perplexity-of-itself",
        "the perplexity of the stored weights is compared with itself",
        "export.perplexity:perplexity_change",
        "for each in (trained, parcel))",
        "for each in (parcel, parcel))",
        Test(f"{Q8_0_TESTS}::test_without_the_data_it_says_what_it_read"),
    ),
]
ONNX = [
    Mutant(
        "export-linear-without-its-past",
        "the traced linear mixer forgets what came before a step",
        "onnx_graph:MaskedLinear",
        "mixed_BHnV = mixed_BHnV + q_BHnD @ cache.state_BHDD1",
        "mixed_BHnV = mixed_BHnV + 0 * (q_BHnD @ cache.state_BHDD1)",
        Test(f"{TRACED}[gpt2-mixer-ablation/01-linear]"),
    ),
    Mutant(
        "export-linear-sees-ahead",
        "the traced linear mixer sees later tokens",
        "onnx_graph:MaskedLinear",
        "torch.where(seen_nn, ",
        "torch.where(seen_nn | True, ",
        Test(f"{TRACED}[gpt2-mixer-ablation/01-linear]"),
    ),
    Mutant(
        "export-decode-from-the-start",
        "every step of the traced decode stands at the beginning",
        "onnx_graph:Decode",
        "Positions(start)",
        "Positions(0 * start)",
        Test(f"{TRACED}[llama-85m-ablation/00-llama]"),
    ),
    Mutant(
        "export-routed-among-fewer",
        "the traced cross-token MLP keeps one key less",
        "onnx_graph:PaddedCrossToken",
        "part.mode, part.k)",
        "part.mode, part.k - 1)",
        Test(f"{TRACED}[gpt2-ratio-ablation/16-everything]"),
    ),
    Mutant(
        "export-graphs-not-covered",
        "a folder of graphs may leave one out of its papers",
        "export.onnx:read",
        'if FILES != papers.get("files", {}).keys():',
        'if not papers.get("files", FILES):',
        Test(f"{HOSTILE}[onnx: without decode.onnx]"),
    ),
    Mutant(
        "export-graphs-not-sealed",
        "the graphs of a folder may be changed",
        "export.onnx:read",
        "papers = read_folder(place)",
        "papers = __import__('json').loads(text_of(place / PAPERS))",
        Test(f"{HOSTILE}[onnx: forward.onnx changed]"),
    ),
    Mutant(
        "export-nsa-traced",
        "a mixer whose loops a graph would fix at one length is traced",
        "onnx_graph:require_traceable",
        "if layer.name not in TRACED:",
        'if layer.name not in (*TRACED, "nsa"):',
        Test(f"{ONNX_TESTS}::test_a_mixer_that_chooses_blocks_is_refused"),
    ),
]

SECTIONS = {"Exports": [*EXPORTS, *FEW_BITS, *ONNX], "Seals of exports": SEALS}
