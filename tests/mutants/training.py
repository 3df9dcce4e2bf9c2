"""Mutants of optimizers, pruning, checkpoints and the loop."""

from tests.mutants.mutant import Mutant, Test, check

BUILD, SPAM = "gpt2/optim/build.py", "gpt2/optim/spam.py"
PRUNER, MASKS = "gpt2/pruning/pruner.py", "gpt2/pruning/masks.py"
TRAINER, CHECKPOINT = "gpt2/trainer.py", "gpt2/checkpoint.py"
EVALUATE, CORPUS = "gpt2/evaluate.py", "gpt2/corpus.py"
RUNS, SPAM_TESTS = "tests/gpt2/test_run.py", "tests/gpt2/test_spam.py"
LOOP_TESTS = "tests/gpt2/test_loop.py"

OPTIMIZERS = [
    Mutant(
        "decay-on-norms",
        "decay acts on norms and biases",
        BUILD,
        "parameter.dim() >= 2",
        "parameter.dim() >= 1",
        check("0", "update and decay"),
    ),
    Mutant(
        "adam-eps",
        "AdamW's ε is its default, not CONFIG_ADAM_EPS",
        BUILD,
        "        eps=settings.eps,\n        fused=True,\n",
        "        fused=True,\n",
        check("0", "optimizer as configured", ADAM_EPS="1e-6"),
    ),
    Mutant(
        "schedule-warmup",
        "the warm-up is one step ahead",
        "gpt2/optim/schedule.py",
        "settings.lr * (done + 1) / (warmup + 1)",
        "settings.lr * (done + 1) / warmup",
        Test("tests/gpt2/test_optim.py::test_schedule"),
    ),
    Mutant(
        "spam-clips-silence",
        "SPAM clips to 0 where v = 0",
        SPAM,
        "    torch._foreach_add_(bounds, unbounded)\n",
        "",
        Test(f"{SPAM_TESTS}::test_a_silent_weight_is_never_clipped_to_zero"),
    ),
    Mutant(
        "spam-counts-twice",
        "SPAM counts every step twice",
        SPAM,
        'group["step"] = t + 1',
        'group["step"] = t + 2',
        Test(f"{SPAM_TESTS}::test_the_formulas"),
    ),
    Mutant(
        "spam-never-resets",
        "SPAM never resets the moments",
        SPAM,
        "if after_reset and j == 0:",
        "if False:",
        Test(f"{SPAM_TESTS}::test_the_formulas"),
    ),
    Mutant(
        "spam-warms-decay",
        "the re-warm-up scales decay too",
        SPAM,
        'torch._foreach_mul_(params, 1 - lr * group["weight_decay"])',
        'warm = rewarming(j, group["warmup"]) if after_reset else 1.0\n'
        '            torch._foreach_mul_(params, 1 - lr * warm * group["weight_decay"])',
        Test(f"{SPAM_TESTS}::test_decay_is_not_scaled_after_a_reset"),
    ),
]

PRUNING = [
    Mutant(
        "pruned-are-ranked",
        "pruned weights are ranked with the live ones",
        MASKS,
        "live = [~mask for mask in masks]",
        "live = [torch.ones_like(mask) for mask in masks]",
        check("1", "expectations"),
    ),
    Mutant(
        "cubic-inverted",
        "the cubic schedule runs backwards",
        "gpt2/pruning/schedule.py",
        "* (1 - p) ** 3",
        "* p**3",
        Test("tests/gpt2/test_pruning.py::test_the_schedule"),
    ),
    Mutant(
        "cubic-linear",
        "the schedule is linear",
        "gpt2/pruning/schedule.py",
        "* (1 - p) ** 3",
        "* (1 - p)",
        Test("tests/gpt2/test_pruning.py::test_the_schedule"),
    ),
    Mutant(
        "state-of-pruned",
        "the optimizer state of pruned weights is kept",
        PRUNER,
        "value.masked_fill_(mask, 0.0)",
        "pass",
        check("1", "expectations"),
    ),
    Mutant(
        "embedding-pruned",
        "embeddings are pruned too",
        PRUNER,
        'if name.startswith("h.") and parameter.dim() == 2',
        "if parameter.dim() == 2",
        check("1", "expectations"),
    ),
]

RUN = [
    Mutant(
        "checkpoint-without-rng",
        "a resumed run draws other random numbers",
        CHECKPOINT,
        '        torch.set_rng_state(state["rng"])\n',
        "",
        check("0", "save and resume"),
    ),
    Mutant(
        "checkpoint-without-masks",
        "a resumed run has no masks",
        CHECKPOINT,
        'pruner.load(state["masks"])',
        "pass",
        check("1", "save and resume"),
    ),
    Mutant(
        "checkpoint-without-moments",
        "a resumed run has no optimizer state",
        CHECKPOINT,
        'optimizer.load_state_dict(state["optimizer"])',
        "pass",
        check("0", "save and resume"),
    ),
    Mutant(
        "checkpoint-without-step",
        "a resumed run begins at step 0",
        CHECKPOINT,
        'return Progress(**state["progress"]), complaints',
        "return Progress(), complaints",
        check("0", "save and resume"),
    ),
    Mutant(
        "accumulation-sums",
        "micro-batches are added up, not averaged",
        TRAINER,
        "self.forward(tokens_BT, targets_BT) / len(batches)",
        "self.forward(tokens_BT, targets_BT)",
        Test(f"{RUNS}::test_accumulation_changes_nothing_but_rounding"),
    ),
    Mutant(
        "clip-ignored",
        "CONFIG_GRAD_CLIP does not arrive",
        TRAINER,
        "limit = run.settings.optim.clip or math.inf",
        "limit = math.inf",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "rate-ignored",
        "the learning rate stays at its peak",
        TRAINER,
        'group["lr"] = lr',
        "pass",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "targets-not-shifted",
        "every token is its own target in training",
        CORPUS,
        "(batch_BT[:, :-1], batch_BT[:, 1:])",
        "(batch_BT[:, :-1], batch_BT[:, :-1])",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "resume-replays",
        "a resumed run sees the first batches again",
        CORPUS,
        "start, pin = first * sizes.accumulation,",
        "start, pin = 0,",
        Test(f"{LOOP_TESTS}::test_batches_from_the_middle"),
    ),
    Mutant(
        "evaluation-not-shifted",
        "every token is its own target in evaluation",
        EVALUATE,
        "model(rows[:, :-1], rows[:, 1:])",
        "model(rows[:, :-1], rows[:, :-1])",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
    Mutant(
        "evaluation-with-dropout",
        "evaluation is done in training mode",
        EVALUATE,
        "    model.eval()\n",
        "",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
    Mutant(
        "evaluation-uneven",
        "the last, shorter micro-batch counts as a whole one",
        EVALUATE,
        "loss.item() * len(rows)",
        "loss.item() * micro_batch",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
]

SECTIONS = {"Optimizers": OPTIMIZERS, "Pruning": PRUNING, "Runs and checkpoints": RUN}
