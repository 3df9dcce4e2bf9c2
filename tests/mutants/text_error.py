"""Mutants of the text as a source of error: its units, their losses, both errors."""

from tests.mutants.mutant import Mutant, Test

LAST = "tests/gpt2/training/test_last_evaluation.py"
BY_HAND = f"{LAST}::test_the_sums_of_documents_by_hand"

LOSSES = [
    Mutant(
        "text-gaps-unread",
        "documents that end between two windows are one",
        "evaluation_text:EvaluationText._parted",
        "return True",
        "return False",
        Test(f"{BY_HAND}[more0]"),
    ),
    Mutant(
        "text-windows-apart",
        "a document that goes on in the next window is another one",
        "evaluation_text:EvaluationText._documents",
        "self._parted(end, start)",
        "True",
        Test(f"{BY_HAND}[more2]"),
    ),
    Mutant(
        "text-separator-opens",
        "a separator is a target of the document that it opens",
        "evaluation_text:EvaluationText._documents",
        "inputs_nT == self.separator",
        "self.windows[:, 1:] == self.separator",
        Test(f"{BY_HAND}[more0]"),
    ),
    Mutant(
        "text-clusters-of-few",
        "two documents are enough to be units",
        "evaluation_text",
        "FEWEST_DOCUMENTS = 20",
        "FEWEST_DOCUMENTS = 2",
        Test(f"{LAST}::test_few_documents_are_read_by_window"),
    ),
    Mutant(
        "text-losses-of-a-rank",
        "rank 0 keeps the losses of its own windows alone",
        "training.unit_losses:UnitLosses.nats",
        "ranks.sum_(torch.from_numpy(self._sums_S))",
        "torch.from_numpy(self._sums_S)",
        Test(f"{LAST}::test_two_ranks_keep_what_one_keeps"),
    ),
    Mutant(
        "text-mean-of-means",
        "the last evaluation's loss is the mean of the losses that are kept",
        "gpt:GPT.losses",
        "return mean, loss_N",
        "return loss_N.double().mean().float(), loss_N",
        Test(f"{LAST}::test_the_mean_is_that_of_an_evaluation_without_them[CHUNKED]"),
    ),
]

EVIDENCE = "tests/matrix/evidence/test_text.py"
FEW = Test(f"{EVIDENCE}::test_an_effect_of_few_documents_is_one_on_this_text")
ERRORS = "tests/matrix/results/test_text_error.py"
BY_NUMBERS = Test(f"{ERRORS}::test_the_errors_by_hand")

CLAIMS = [
    Mutant(
        "text-left-out",
        "a claim is carried by the error of the seeds alone",
        "text_claims:p_value",
        "abs(error.difference) / error.both",
        "abs(error.difference) / error.seed_error",
        FEW,
    ),
    Mutant(
        "text-at-alpha",
        "a claim is carried at the study's level, not at the arm's",
        "text_claims:_carried",
        "p <= _level(verdict)",
        "p <= terms.alpha",
        Test(f"{EVIDENCE}::test_the_level_is_holms"),
    ),
    Mutant(
        "text-unsaid",
        "the terminal's table says nothing of the text",
        "verdict_text:one_line",
        "filter(None, [here, why])",
        "filter(None, [why])",
        FEW,
    ),
    Mutant(
        "text-older-runs-carry",
        "runs that recorded no losses carry every claim",
        "report.text_error:phrase",
        "or found.carried",
        "or found.carried or found.error is None",
        Test(f"{EVIDENCE}::test_runs_without_losses_say_so"),
    ),
    Mutant(
        "text-any-file",
        "a file of another run is taken for the run's",
        "records.unit_losses:read",
        "hashlib.sha256(content).hexdigest() != sha256",
        "False",
        Test(
            f"{EVIDENCE}::test_a_damaged_file_costs_the_error_of_the_text_alone[another]"
        ),
    ),
    Mutant(
        "text-any-text",
        "arms that were evaluated on other windows are compared",
        "results.text_error:of_runs",
        "text.text_sha256 != first.text_sha256",
        "False",
        Test(f"{EVIDENCE}::test_other_documents_are_not_compared"),
    ),
    Mutant(
        "text-interaction-twice",
        "what seed and document share counts in both errors",
        "results.text_error:two_way",
        "max(seeds + text - shared, seeds, text)",
        "max(seeds + text, seeds, text)",
        BY_NUMBERS,
    ),
    Mutant(
        "text-documents-alike",
        "a long document counts like a short one",
        "results.text_error:two_way",
        "(mean_U - D * n_U) ** 2",
        "(mean_U - D * n_U.mean()) ** 2",
        BY_NUMBERS,
    ),
]

LONGER = Test(f"{LAST}::test_the_last_evaluation_reads_its_own_windows")
LAST_TEXT = [
    Mutant(
        "last-text-at-every-evaluation",
        "every evaluation reads the windows of the last one",
        "trainer:Trainer._evaluate",
        "run.last_text if last else run.eval_text",
        "run.last_text",
        LONGER,
    ),
    Mutant(
        "last-text-on-the-curve",
        "the learning curve ends on another text",
        "results.run:Run.curve",
        'row.get("curve_loss", row["loss"])',
        'row["loss"]',
        Test(f"{EVIDENCE}::test_a_curve_stays_on_one_text"),
    ),
    Mutant(
        "last-text-averaged",
        "evaluations of two texts are averaged",
        "results.run:Run.last",
        "last_evals > 1 and self.config",
        "last_evals > 9 and self.config",
        Test(f"{EVIDENCE}::test_evaluations_of_two_texts_are_not_averaged"),
    ),
    Mutant(
        "last-text-planned-for-an-average",
        "a study is planned whose metric averages two texts",
        "plan.checks:_require_one_text",
        "averaged > 1",
        "averaged > 9",
        Test(
            "tests/matrix/plan/test_cells.py::test_a_metric_does_not_average_two_texts"
        ),
    ),
]

SECTIONS = {
    "The text of the last evaluation": LAST_TEXT,
    "The text as a source of error": LOSSES,
    "Claims beyond the text": CLAIMS,
}
