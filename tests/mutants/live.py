"""Mutants of corpora that are read while a run trains."""

from tests.mutants.mutant import Mutant, Test

TESTS = "tests/gpt2/data/loading/test_on_the_fly.py"

ON_THE_FLY = [
    Mutant(
        "live-validation-trained",
        "validation documents are trained on",
        "feeder:epoch_blocks",
        '            if split == "train"\n',
        "",
        Test(f"{TESTS}::test_every_training_document_comes_once_in_an_epoch"),
    ),
    Mutant(
        "live-one-order",
        "every seed sees the same order",
        "feeder:epoch_blocks",
        'f"feed:{seed}:{epoch}',
        'f"feed:{epoch}',
        Test(f"{TESTS}::test_the_seed_decides_the_order_and_nothing_else_does"),
    ),
    Mutant(
        "live-resume-miscounted",
        "a resumed run takes the block's beginning for the corpus' beginning",
        "loading.on_the_fly:LiveWindows._open",
        'self._first = self._end = seen["train"]',
        "self._first = self._end = 0",
        Test(f"{TESTS}::test_resuming_reads_from_the_last_block_on"),
    ),
    Mutant(
        "live-identity-without-order",
        "the order of a folder's documents is no part of its identity",
        "packing.on_the_fly:source_sha256",
        '        "shuffle": [settings.shuffle_buffer, settings.shuffle_seed],\n',
        "",
        Test(f"{TESTS}::test_what_identifies_an_unpacked_corpus"),
    ),
    Mutant(
        "live-changed-corpus",
        "a corpus that changed since make data is read",
        "feeder:serve",
        'if found != task["source"]:',
        "if not found:",
        Test(f"{TESTS}::test_a_corpus_that_changed_is_not_read"),
    ),
]

SECTIONS = {"Corpora read on the fly": ON_THE_FLY}
