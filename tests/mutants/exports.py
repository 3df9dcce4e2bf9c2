"""Mutants of what leaves for other programs."""

from tests.mutants.mutant import Mutant, Test

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
        Test("tests/gpt2/export/test_native.py::test_files_that_are_refused"),
    ),
]

SECTIONS = {"Exports": EXPORTS}
