"""Mutants of what is handed over, seeds and data: the plausible other value."""

from tests.mutants.mutant import Mutant, Test

BY_HAND = "tests/gpt2/training/test_by_hand.py"


def run(name: str) -> Test:
    """The run by hand of that cell."""
    return Test(f"{BY_HAND}::test_a_run_is_the_run_by_hand[{name}]")


def two(name: str) -> Test:
    """That of two ranks."""
    return Test(f"{BY_HAND}::test_two_ranks_are_the_run_by_hand[{name}]")


def resumed(name: str) -> Test:
    """That of a run that was interrupted."""
    return Test(f"{BY_HAND}::test_an_interrupted_run_is_the_run_by_hand[{name}]")


HEADS = Test(f"{BY_HAND}::test_the_heads_of_a_run_by_hand[fp32]")
TEXT = Test(f"{BY_HAND}::test_a_text_by_hand")
BYTES = Test(f"{BY_HAND}::test_bits_per_byte_where_a_token_is_several_bytes")

SEEDS = [
    Mutant(
        "init-of-seed-1",
        "every seed starts from the same weights",
        "training.cell:_build",
        "initialise(model, train.seed, train.init_salt)",
        "initialise(model, 1, train.init_salt)",
        run("another-seed"),
    ),
    Mutant(
        "init-unsalted",
        "the salt does not reach the initial values",
        "training.cell:_build",
        "initialise(model, train.seed, train.init_salt)",
        "initialise(model, train.seed)",
        run("salt"),
    ),
    Mutant(
        "init-by-torch",
        "initial values come from a generator, not from names",
        "model.initial:draw",
        "_stream(seed, salt, name)",
        "_stream(seed, salt, str(shape))",
        run("packed"),
    ),
    Mutant(
        "dropout-of-seed-1",
        "dropout draws the same for every seed",
        "training.cell:_build",
        "dropout_seed(train.seed, ranks.rank)",
        "dropout_seed(1, ranks.rank)",
        run("packed"),
    ),
    Mutant(
        "dropout-by-host",
        "ranks draw by their number on a host, the first ones alike",
        "training.cell:_build",
        "dropout_seed(train.seed, ranks.rank)",
        "dropout_seed(train.seed, 0)",
        two("packed"),
    ),
    Mutant(
        "dropout-of-ranks-unseeded",
        "what rank 1 drops is the same for every seed",
        "distributed.ranks:dropout_seed",
        'f"dropout:{seed}:{rank}"',
        'f"dropout:{rank}"',
        two("one-pass"),
    ),
    Mutant(
        "order-of-seed-1",
        "every seed reads a packed corpus in the same order",
        "loading.on_the_fly:train_windows",
        "return TrainWindows(stream, context, seed,",
        "return TrainWindows(stream, context, 1,",
        run("another-seed"),
    ),
    Mutant(
        "order-of-the-corpus",
        "the order on the fly is that of the corpus' own seed",
        "loading.on_the_fly:train_windows",
        "LiveWindows(data, directory, manifest, context, seed)",
        "LiveWindows(data, directory, manifest, context, data.shuffle_seed)",
        run("live"),
    ),
    Mutant(
        "order-of-epoch-0",
        "on the fly every epoch has the order of the first",
        "feeder:epoch_blocks",
        "feed:{seed}:{epoch}:",
        "feed:{seed}:0:",
        run("live-short"),
    ),
    Mutant(
        "order-without-blocks",
        "all blocks on the fly are permuted alike",
        "feeder:epoch_blocks",
        ":{place['block']}",
        ":1",
        run("live-apart"),
    ),
    Mutant(
        "order-of-every-epoch",
        "a packed corpus is read in one order for ever",
        "loader:TrainWindows.epoch",
        'key = f"data:{self.seed}:{number}"',
        'key = f"data:{self.seed}:0"',
        run("packed"),
    ),
    Mutant(
        "offset-without-a-seed",
        "windows are shifted alike in all epochs",
        "loader:TrainWindows.epoch",
        "% self._offsets",
        "% 1",
        run("packed"),
    ),
    Mutant(
        "text-of-seed-1",
        "the seed of a text is not its request's",
        "generation.generate:sample",
        "Philox(request.seed)",
        "Philox(3)",
        TEXT,
    ),
]

DATA = [
    Mutant(
        "evaluation-on-training",
        "evaluation takes windows of the training split",
        "corpus:Corpus.__init__",
        'TokenStream(directory, "val",',
        'TokenStream(directory, "train",',
        run("packed"),
    ),
    Mutant(
        "training-on-validation",
        "the training samples are of the validation split",
        "loading.on_the_fly:train_windows",
        'TokenStream(directory, "train",',
        'TokenStream(directory, "val",',
        run("packed"),
    ),
    Mutant(
        "fed-validation",
        "on the fly the validation documents are trained on",
        "feeder:epoch_blocks",
        'if split == "train"',
        'if split == "val"',
        run("live"),
    ),
    Mutant(
        "windows-by-the-interval",
        "the number of evaluation windows is another setting",
        "corpus:Corpus.__init__",
        "settings.train.eval_windows,",
        "settings.train.eval_interval,",
        run("packed"),
    ),
    Mutant(
        "windows-at-the-front",
        "evaluation takes the first windows, not evenly spaced ones",
        "loader:EvalWindows.__init__",
        "np.arange(count) * available // count * context",
        "np.arange(count) * context",
        run("packed"),
    ),
    Mutant(
        "windows-handed-short",
        "evaluation reads fewer windows than the corpus has",
        "loader:EvalWindows.__init__",
        "count = min(count, available)",
        "count = min(count, available) - 1",
        run("packed"),
    ),
    Mutant(
        "separator-of-the-model",
        "documents are parted at the last row of the embedding",
        "corpus:Corpus.__init__",
        "self.manifest.vocab_size - 1 if apart",
        "vocabulary - 1 if apart",
        run("apart"),
    ),
    Mutant(
        "separator-not-handed-on",
        "documents are apart in training and not in evaluation",
        "training.cell:_build",
        "separator=corpus.separator,",
        "separator=None,",
        run("apart"),
    ),
    Mutant(
        "separator-lost-in-the-loop",
        "an evaluation in training parts documents at another token",
        "trainer:Trainer._evaluated",
        "                run.ranks,\n                run.separator,\n",
        "                run.ranks,\n                run.separator - 1,\n",
        run("apart"),
    ),
    Mutant(
        "separator-lost-in-batches",
        "documents are apart in evaluation and not in training",
        "corpus:Corpus.batches",
        "starts_of(tokens_BT, self.separator)",
        "starts_of(tokens_BT, None)",
        run("reference-apart"),
    ),
    Mutant(
        "separator-of-heads-lost",
        "the rows about heads look across documents",
        "trainer:Trainer._record_attention_statistics",
        "self.kind, run.separator\n",
        "self.kind, None\n",
        HEADS,
    ),
    Mutant(
        "heads-of-the-copy",
        "the rows about heads are those of the bf16 copy",
        "trainer:Trainer._record_attention_statistics",
        "            model, run.eval_text",
        "            run.distribution.weights.model, run.eval_text",
        Test(f"{BY_HAND}::test_the_heads_of_a_run_by_hand[copy]"),
    ),
    Mutant(
        "heads-of-the-last-windows",
        "the rows about heads take the windows from the end",
        "trainer:Trainer._record_attention_statistics",
        "run.eval_text.windows,",
        "run.eval_text.windows[::-1].copy(),",
        HEADS,
    ),
    Mutant(
        "separator-before",
        "on the fly the separator stands before a document",
        "feeder:frames",
        "for x in (each, eot)",
        "for x in (eot, each)",
        run("live-apart"),
    ),
    Mutant(
        "epoch-one-block-more",
        "an epoch on the fly goes on where it has just reached its tokens",
        "feeder:frames",
        "tokens >= settings.tokens",
        "tokens > settings.tokens",
        run("live-short"),
    ),
    Mutant(
        "epoch-again-after-resume",
        "a run that goes on in an epoch on the fly repeats the one before",
        "feeder:frames",
        '{**START, "epoch": epoch + 1} if over',
        "START if over",
        resumed("live-short"),
    ),
    Mutant(
        "live-windows-apart",
        "samples on the fly leave a token out",
        "loading.on_the_fly:LiveWindows.rows",
        "index * self.context",
        "index * (self.context + 1)",
        run("live"),
    ),
    Mutant(
        "samples-of-rank-0",
        "every rank trains on rank 0's samples",
        "training.cell:_build",
        "sizes, info.kind, first, last, ranks.rank",
        "sizes, info.kind, first, last",
        two("packed"),
    ),
    Mutant(
        "samples-by-rank-first",
        "a rank's micro-batches lie one after the other",
        "loader:micro_batch",
        "(position * ranks + rank) * micro",
        "(position + rank * accumulation) * micro",
        two("packed"),
    ),
    Mutant(
        "resume-by-steps",
        "a resumed run counts steps where micro-batches are meant",
        "corpus:Corpus.batches",
        "first * sizes.accumulation",
        "first",
        resumed("packed"),
    ),
    Mutant(
        "bytes-of-the-inputs",
        "bits per byte are by the bytes of what is read, not of what is predicted",
        "evaluation_text:EvaluationText.__init__",
        "bytes_V[self.windows[:, 1:]]",
        "bytes_V[self.windows[:, :-1]]",
        BYTES,
    ),
    Mutant(
        "bytes-of-separators",
        "a separator counts a byte",
        "token_bytes:token_bytes",
        "lengths[-1] = 0",
        "lengths[-1] = 1",
        run("packed"),
    ),
    Mutant(
        "bytes-are-tokens",
        "bits per byte are bits per token",
        "trainer:Trainer._evaluated",
        "text.bytes_per_token,",
        "1.0,",
        BYTES,
    ),
    Mutant(
        "bytes-are-characters",
        "a document counts its characters as bytes",
        "packing.on_the_fly:_pack_val",
        "writer.end_document(len(text))",
        "writer.end_document(len(bytes(text).decode()))",
        Test(f"{BY_HAND}::test_the_bytes_of_a_validation_split[live]"),
    ),
]

SECTIONS = {"Seeds and orders": SEEDS, "What is read": DATA}
