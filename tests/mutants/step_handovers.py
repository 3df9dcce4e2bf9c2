"""Mutants of what is handed to a step and of what computes: the plausible other value."""

from tests.mutants.handovers import BY_HAND, TEXT, resumed, run, two
from tests.mutants.mutant import Mutant, Test

HANDED = "tests/gpt2/training/test_handed_over.py"
DIRECT = Test(f"{HANDED}::test_one_pass_knows_how_many_micro_batches_a_step_has[3-1]")
COMPILED = Test(f"{BY_HAND}::test_what_is_compiled_is_what_trains[copy]")


def types(name: str) -> Test:
    """In which type what computes, on which batch."""
    return Test(f"{BY_HAND}::test_what_computes_in_which_type_on_which_batch[{name}]")


def facts(name: str) -> Test:
    """The facts of that cell."""
    return Test(f"{BY_HAND}::test_the_facts_by_hand[{name}]")


STEPS = [
    Mutant(
        "clip-of-the-default",
        "the limit of the norm is that of the defaults",
        "update:build",
        "(optimizer, distribution, pruner, settings.clip)",
        "(optimizer, distribution, pruner, 1.0)",
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
        "        return norm\n",
        "        return norm.clamp(max=self.clip)\n",
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
        "training.step:Step.take",
        "loss = ranks.sum_(loss) / ranks.world",
        "pass",
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
        "gpt2.optim.optimizer:moment_arguments",
        "(settings.beta1, settings.beta2)",
        "(settings.beta2, settings.beta1)",
        run("packed"),
    ),
    Mutant(
        "eps-of-torch",
        "ε is torch's",
        "gpt2.optim.optimizer:moment_arguments",
        '"eps": settings.eps',
        '"eps": 1e-8',
        run("adam"),
    ),
    Mutant(
        "decay-of-embeddings",
        "weight decay acts on every matrix",
        "gpt2.optim.optimizer:decayed_names",
        ' if name.startswith("h.")',
        "",
        run("packed"),
    ),
    Mutant(
        "decay-of-vectors",
        "weight decay acts on all of a block",
        "gpt2.model.initial:products",
        "parameter.dim() >= 2",
        "parameter.dim() >= 1",
        run("sgd"),
    ),
    Mutant(
        "nesterov-always",
        "momentum looks ahead whatever was asked for",
        "gpt2.optim.sgd:build",
        "nesterov=settings.sgd_nesterov",
        "nesterov=True",
        run("sgd"),
    ),
    Mutant(
        "amsgrad-forgotten",
        "AdamWAdv is AdamW",
        "gpt2.optim.adamwadv:build",
        "amsgrad=True, ",
        "",
        run("adamwadv"),
    ),
    Mutant(
        "one-pass-clips-spikes",
        "AdamW in one pass clips spikes as AdamWSPAM does",
        "gpt2.optim.adamw:build",
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
        "self._budget_spent(), self.total)",
        "self._budget_spent(), self.total + 1)",
        run("packed"),
    ),
    Mutant(
        "rate-of-one-group",
        "the schedule moves what decays and nothing else",
        "training.step:Step.set_rate",
        "for group in self.optimizer.param_groups:",
        "for group in self.optimizer.param_groups[:1]:",
        run("packed"),
    ),
]

COMPUTE = [
    Mutant(
        "autocast-off",
        "bf16 products are fp32",
        "training.step:Step.__init__",
        'enabled=dtype != "fp32"',
        "enabled=False",
        types("bf16"),
    ),
    Mutant(
        "autocast-to-fp16",
        "16 bits are the other 16 bits",
        "training.step",
        '"bf16": torch.bfloat16}',
        '"bf16": torch.float16}',
        types("bf16"),
    ),
    Mutant(
        "copy-by-products",
        "who asks for bf16 products gets a bf16 copy too",
        "distributed.build:build",
        "system.param_dtype, compiler",
        "system.dtype, compiler",
        types("bf16"),
    ),
    Mutant(
        "copy-is-evaluated",
        "the bf16 copy is evaluated, not the weights",
        "trainer:Trainer._evaluated",
        "                model,\n                text.windows,",
        "                run.distribution.weights.model,\n                text.windows,",
        types("copy"),
    ),
    Mutant(
        "evaluation-in-fp32",
        "evaluation does not know the compute type",
        "trainer:Trainer._evaluated",
        "                self.step.autocast,\n",
        "                torch.autocast(self.kind, enabled=False),\n",
        types("copy"),
    ),
    Mutant(
        "evaluation-by-steps",
        "evaluation takes a step's sequences at once",
        "trainer:Trainer._evaluated",
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
        "ddp:DataParallel.__init__",
        "compiler(self.weights.model)",
        "compiler(self.weights.model.float())",
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

SECTIONS = {"Hand-overs of a step": STEPS, "What computes": COMPUTE}
