"""Mutants of checkpoints, the loop, evaluation and the working copy."""

from tests.mutants.mutant import Mutant, Test, check

RUNS, LOOP_TESTS = (
    "tests/gpt2/training/test_cell.py",
    "tests/gpt2/training/test_loop.py",
)
COMPILED_TESTS = "tests/gpt2/model/test_compiled.py"
PRECISION_TESTS = "tests/gpt2/model/test_precision.py"

RUN = [
    Mutant(
        "checkpoint-without-rng",
        "a resumed run draws other random numbers",
        "checkpoint:_load_newest",
        '        torch.set_rng_state(generators["cpu"])\n',
        "",
        check("0", "save and resume"),
    ),
    Mutant(
        "checkpoint-without-moments",
        "a resumed run has no optimizer state",
        "ddp:DataParallel.load",
        'optimizer.load_state_dict(state["optimizer"])',
        "pass",
        check("0", "save and resume"),
    ),
    Mutant(
        "checkpoint-without-step",
        "a resumed run begins at step 0",
        "checkpoint:_load_newest",
        'return Progress(**state["progress"]), complaints',
        "return Progress(), complaints",
        check("0", "save and resume"),
    ),
    Mutant(
        "accumulation-sums",
        "micro-batches are added up, not averaged",
        "training.step:Step.take",
        "forward(*micro) / len(batches)",
        "forward(*micro)",
        Test(f"{RUNS}::test_accumulation_changes_nothing_but_rounding"),
    ),
    Mutant(
        "clip-ignored",
        "CONFIG_GRAD_CLIP does not arrive",
        "update:Update.__init__",
        "self.clip = clip or math.inf",
        "self.clip = math.inf",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "rate-ignored",
        "the learning rate stays at its peak",
        "training.step:Step.set_rate",
        'group["lr"] = lr',
        "pass",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "targets-not-shifted",
        "every token is its own target in training",
        "corpus:Corpus.batches",
        "tokens_BT, targets_BT = batch_BT[:, :-1], batch_BT[:, 1:]",
        "tokens_BT, targets_BT = batch_BT[:, :-1], batch_BT[:, :-1]",
        Test(f"{LOOP_TESTS}::test_a_run_is_a_loop_of_torch"),
    ),
    Mutant(
        "resume-replays",
        "a resumed run sees the first batches again",
        "corpus:Corpus.batches",
        "start, pin = first * sizes.accumulation,",
        "start, pin = 0,",
        Test(f"{LOOP_TESTS}::test_batches_from_the_middle"),
    ),
    Mutant(
        "evaluation-not-shifted",
        "every token is its own target in evaluation",
        "validation:evaluate",
        "model(rows[:, :-1], rows[:, 1:], starts_BT)",
        "model(rows[:, :-1], rows[:, :-1], starts_BT)",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
    Mutant(
        "evaluation-with-dropout",
        "evaluation is done in training mode",
        "validation:evaluate",
        "    model.eval()\n",
        "",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
    Mutant(
        "evaluation-uneven",
        "the last, shorter micro-batch counts as a whole one",
        "validation:evaluate",
        "loss.item() * len(rows)",
        "loss.item() * micro_batch",
        Test(f"{LOOP_TESTS}::test_evaluation_by_hand"),
    ),
]

COPY = [
    Mutant(
        "copy-stale",
        "the bf16 copy stays as it was made",
        "precision:WorkingCopy.refresh",
        "        torch._foreach_copy_(copies, masters)\n",
        "        pass\n",
        Test(f"{PRECISION_TESTS}::test_the_copy_follows_a_step"),
    ),
    Mutant(
        "copy-not-refreshed",
        "the loop does not refresh the bf16 copy",
        "trainer:Trainer._step",
        "self.step.refresh(self._prune())",
        "self._prune()",
        Test(f"{PRECISION_TESTS}::test_a_run_resumes_exactly"),
    ),
    Mutant(
        "copy-gradients-overwritten",
        "a micro-batch's gradients of the copy replace those before",
        "precision:WorkingCopy.collect",
        "if masters[0].grad is None:",
        "if True:",
        Test(f"{PRECISION_TESTS}::test_gradients_add_up_in_fp32"),
    ),
    Mutant(
        "copy-gradients-kept",
        "the copy keeps its gradients, which count again",
        "precision:WorkingCopy.drop",
        "            working.grad = None\n",
        "            pass\n",
        Test(f"{PRECISION_TESTS}::test_gradients_add_up_in_fp32"),
    ),
]

COMPILED = [
    Mutant(
        "compiled-with-breaks",
        "what cannot be compiled trains without a graph",
        "model.compiled:whole",
        "fullgraph=True",
        "fullgraph=False",
        Test(f"{COMPILED_TESTS}::test_a_break_is_an_error"),
    ),
    Mutant(
        "compiled-any-shape",
        "a second shape makes a graph of symbolic shapes",
        "model.compiled:whole",
        "dynamic=False",
        "dynamic=None",
        Test(
            "tests/gpt2/training/test_by_hand.py::test_what_is_compiled_is_what_trains"
        ),
    ),
    Mutant(
        "blocks-compiled-whole",
        "the model is compiled as one graph where blocks were asked for",
        "distributed.build:build",
        "blockwise=system.compile_blocks",
        "blockwise=False",
        Test(f"{COMPILED_TESTS}::test_what_trains_is_what_is_asked_for"),
    ),
    Mutant(
        "blocks-without-documents",
        "blocks that are compiled one by one do not know the documents",
        "model.compiled:_block",
        "Positions(0, starts_BT)",
        "Positions(0, None)",
        Test(f"{COMPILED_TESTS}::test_block_by_block[documents-fp32]"),
    ),
    Mutant(
        "blocks-without-context",
        "a block that is compiled alone does not see what the one before gives",
        "model.compiled:Blockwise.forward",
        "x_BTE, y_BTE, context = self._block(",
        "x_BTE, y_BTE, _ = self._block(",
        Test(f"{COMPILED_TESTS}::test_block_by_block[ra-fp32]"),
    ),
]

SECTIONS = {
    "Runs and checkpoints": RUN,
    "The bf16 copy": COPY,
    "What is compiled": COMPILED,
}
