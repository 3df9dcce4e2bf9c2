"""Mutants of what is handed over: the plausible other value in its place."""

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


def types(name: str) -> Test:
    """In which type what computes, on which batch."""
    return Test(f"{BY_HAND}::test_what_computes_in_which_type_on_which_batch[{name}]")


def facts(name: str) -> Test:
    """The facts of that cell."""
    return Test(f"{BY_HAND}::test_the_facts_by_hand[{name}]")


HANDED = "tests/gpt2/training/test_handed_over.py"
DIRECT = Test(f"{HANDED}::test_one_pass_knows_how_many_micro_batches_a_step_has[3-1]")
HEADS = Test(f"{BY_HAND}::test_the_heads_of_a_run_by_hand[fp32]")
TEXT = Test(f"{BY_HAND}::test_a_text_by_hand")
COMPILED = Test(f"{BY_HAND}::test_what_is_compiled_is_what_trains[copy]")
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
        "\\0{salt}\\0{name}",
        "\\0{salt}\\0{shape}",
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
        "return TrainWindows(stream, context, seed)",
        "return TrainWindows(stream, context, 1)",
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
        "settings.train.eval_windows)",
        "settings.train.eval_interval)",
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
        "the loop gets fewer windows than the corpus has",
        "training.cell:_build",
        "eval_windows=corpus.eval_windows,",
        "eval_windows=corpus.eval_windows[:-1],",
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
        "an evaluation in training does not know the separator",
        "trainer:Trainer._evaluate",
        "            run.ranks,\n            run.separator,\n",
        "            run.ranks,\n",
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
        "self.kind, run.separator)",
        "self.kind)",
        HEADS,
    ),
    Mutant(
        "heads-of-the-copy",
        "the rows about heads are those of the bf16 copy",
        "trainer:Trainer._record_attention_statistics",
        "attention_stats(run.model,",
        "attention_stats(self.weights.model,",
        Test(f"{BY_HAND}::test_the_heads_of_a_run_by_hand[copy]"),
    ),
    Mutant(
        "heads-of-the-last-windows",
        "the rows about heads take the windows from the end",
        "trainer:Trainer._record_attention_statistics",
        "run.eval_windows,",
        "run.eval_windows[::-1].copy(),",
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
        "bytes-of-training",
        "bits per byte are by the training split's bytes",
        "corpus:Corpus.bytes_per_token",
        'self.manifest.splits["val"]',
        'self.manifest.splits["train"]',
        run("packed"),
    ),
    Mutant(
        "bytes-are-tokens",
        "bits per byte are bits per token",
        "training.cell:_build",
        "bytes_per_token=corpus.bytes_per_token,",
        "bytes_per_token=1.0,",
        BYTES,
    ),
    Mutant(
        "bytes-are-characters",
        "a document counts its characters as bytes",
        "packing.on_the_fly:_pack_val",
        "writer.end_document(len(text))",
        "writer.end_document(len(bytes(text).decode()))",
        run("live"),
    ),
]

STEPS = [
    Mutant(
        "clip-of-the-default",
        "the limit of the norm is that of the defaults",
        "update:build",
        "(optimizer, weights, pruner, settings.clip)",
        "(optimizer, weights, pruner, 1.0)",
        run("packed"),
    ),
    Mutant(
        "clip-enlarges",
        "a gradient below the limit is enlarged to it",
        "update:OnePass.step",
        "(self.clip / (norm + TINY)).clamp(max=1.0)",
        "self.clip / (norm + TINY)",
        run("one-pass"),
    ),
    Mutant(
        "norm-after-clipping",
        "the norm on record is the clipped one",
        "update:Update.step",
        "clip_grad_norm_(self.params, self.clip)",
        "clip_grad_norm_(self.params, self.clip).clamp(max=self.clip)",
        run("packed"),
    ),
    Mutant(
        "clip-with-its-tiny",
        "what guards a division by 0 moves the norm",
        "update",
        "TINY = 1e-6",
        "TINY = 1e-3",
        run("one-pass"),
    ),
    Mutant(
        "direct-while-accumulating",
        "one pass reads the last micro-batch alone",
        "update:build",
        "direct=micro_batches == 1",
        "direct=True",
        DIRECT,
    ),
    Mutant(
        "direct-by-ranks",
        "the micro-batches of a step are the ranks",
        "trainer:Trainer.__init__",
        "run.batch.accumulation * run.batch.ranks",
        "run.batch.ranks",
        DIRECT,
    ),
    Mutant(
        "loss-of-rank-0",
        "the loss on record is rank 0's share",
        "trainer:Trainer._step",
        "self._loss = run.ranks.sum_(self._loss) / run.ranks.world",
        "self._loss = self._loss",
        two("apart-alone"),
    ),
    Mutant(
        "tokens-of-the-step-before",
        "a row's tokens are those before its step",
        "trainer:Trainer._log",
        "(step + 1) * self.tokens_per_step",
        "step * self.tokens_per_step",
        run("packed"),
    ),
    Mutant(
        "facts-of-a-micro-batch",
        "the facts count a step's tokens by micro-batches",
        "training.cell:_build",
        '"tokens_per_step": sizes.effective',
        '"tokens_per_step": sizes.micro',
        facts("salt"),
    ),
    Mutant(
        "facts-of-what-was-asked",
        "the facts say how many windows were asked for",
        "training.cell:_build",
        '"eval_windows": len(corpus.eval_windows),',
        '"eval_windows": train.eval_windows,',
        facts("three-parts"),
    ),
    Mutant(
        "facts-of-the-default-update",
        "the facts name the update of the defaults",
        "training.cell:_build",
        "optim.resolve_update(settings.optim, info.kind)",
        '"torch"',
        facts("one-pass-alone"),
    ),
    Mutant(
        "parts-uneven",
        "an automatic micro-batch is the accumulation",
        "batch:_largest",
        "return share // train.accumulation",
        "return train.accumulation",
        run("three-parts"),
    ),
    Mutant(
        "betas-swapped",
        "the two betas change places",
        "gpt2.optim.build:_moments",
        "(settings.beta1, settings.beta2)",
        "(settings.beta2, settings.beta1)",
        run("packed"),
    ),
    Mutant(
        "eps-of-torch",
        "ε is torch's",
        "gpt2.optim.build:_moments",
        '"eps": settings.eps',
        '"eps": 1e-8',
        run("adam"),
    ),
    Mutant(
        "decay-of-embeddings",
        "weight decay acts on every matrix",
        "gpt2.optim.build:decayed_names",
        'if name.startswith("h.") and',
        "if",
        run("packed"),
    ),
    Mutant(
        "decay-of-vectors",
        "weight decay acts on all of a block",
        "gpt2.optim.build:decayed_names",
        "parameter.dim() >= 2",
        "parameter.dim() >= 1",
        run("sgd"),
    ),
    Mutant(
        "nesterov-always",
        "momentum looks ahead whatever was asked for",
        "gpt2.optim.build:_sgd",
        "nesterov=settings.sgd_nesterov",
        "nesterov=True",
        run("sgd"),
    ),
    Mutant(
        "amsgrad-forgotten",
        "AdamWAdv is AdamW",
        "gpt2.optim.build:_adamwadv",
        "amsgrad=True, ",
        "",
        run("adamwadv"),
    ),
    Mutant(
        "one-pass-clips-spikes",
        "AdamW in one pass clips spikes as AdamWSPAM does",
        "gpt2.optim.build:_adamw_in_one_pass",
        "theta=0.0,",
        "theta=5000.0,",
        Test(f"{HANDED}::test_adamw_in_one_pass_is_plain_adamw"),
    ),
    Mutant(
        "journal-one-token-early",
        "a position on the fly is noted a token before where it is",
        "loading.on_the_fly:LiveWindows._note",
        '{"train": self._end})',
        '{"train": self._end - 1})',
        resumed("live-short"),
    ),
    Mutant(
        "journal-without-its-epoch",
        "a position on the fly is of the first epoch for ever",
        "feeder:frames",
        'behind = {"epoch": epoch, "tokens"',
        'behind = {"epoch": 0, "tokens"',
        resumed("within-an-epoch"),
    ),
    Mutant(
        "rate-of-a-longer-run",
        "the cosine ends one step behind the run",
        "trainer:Trainer._step",
        "self._spent(), self.total)",
        "self._spent(), self.total + 1)",
        run("packed"),
    ),
    Mutant(
        "rate-of-one-group",
        "the schedule moves what decays and nothing else",
        "trainer:Trainer._step",
        "for group in run.optimizer.param_groups:",
        "for group in run.optimizer.param_groups[:1]:",
        run("packed"),
    ),
]

COMPUTE = [
    Mutant(
        "autocast-off",
        "bf16 products are fp32",
        "trainer:Trainer.__init__",
        'enabled=system.dtype != "fp32"',
        "enabled=False",
        types("bf16"),
    ),
    Mutant(
        "autocast-to-fp16",
        "16 bits are the other 16 bits",
        "trainer",
        '"bf16": torch.bfloat16}',
        '"bf16": torch.float16}',
        types("bf16"),
    ),
    Mutant(
        "copy-by-products",
        "who asks for bf16 products gets a bf16 copy too",
        "trainer:Trainer.__init__",
        "precision.build(run.model, system.param_dtype)",
        "precision.build(run.model, system.dtype)",
        types("bf16"),
    ),
    Mutant(
        "copy-is-evaluated",
        "the bf16 copy is evaluated, not the weights",
        "trainer:Trainer._evaluate",
        "            run.model,\n            run.eval_windows,",
        "            self.weights.model,\n            run.eval_windows,",
        types("copy"),
    ),
    Mutant(
        "evaluation-in-fp32",
        "evaluation does not know the compute type",
        "trainer:Trainer._evaluate",
        "            self.autocast,\n",
        "            torch.autocast(self.kind, enabled=False),\n",
        types("copy"),
    ),
    Mutant(
        "evaluation-by-steps",
        "evaluation takes a step's sequences at once",
        "trainer:Trainer._evaluate",
        "run.batch.micro,",
        "run.batch.effective,",
        types("fp32"),
    ),
    Mutant(
        "training-without-mode",
        "after the first evaluation the model stays in its mode",
        "validation:evaluate",
        "model.train(was_training)",
        "model.train(False)",
        run("packed"),
    ),
    Mutant(
        "compiled-weights",
        "what is compiled are the weights, not what trains",
        "ddp:Replica.__init__",
        "torch.compile(weights.model) if compiled",
        "torch.compile(weights.model.float()) if compiled",
        COMPILED,
    ),
    Mutant(
        "weights-of-the-start",
        "the weights that are kept are not those of the end",
        "checkpoint:save_weights",
        '"model": model.state_dict()',
        '"model": {n: p.bfloat16().float() for n, p in model.state_dict().items()}',
        run("packed"),
    ),
    Mutant(
        "text-short-of-its-context",
        "a text stops one token before its context is full",
        "generation.generate:sample",
        "len(reader.tokens) + len(new) > reader.trained.context",
        "len(reader.tokens) + len(new) >= reader.trained.context",
        TEXT,
    ),
]

SECTIONS = {
    "Seeds and orders": SEEDS,
    "What is read": DATA,
    "Hand-overs of a step": STEPS,
    "What computes": COMPUTE,
}
