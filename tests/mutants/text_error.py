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

SECTIONS = {"The text as a source of error": LOSSES}
