"""Mutants of cells that several processes train."""

from tests.mutants.mutant import Mutant, Test

ONE, WHO = "tests/gpt2/distributed/test_ddp.py", "tests/gpt2/distributed/test_ranks.py"
MEAN = Test(f"{ONE}::test_the_mean_over_ranks_is_the_gradient")

RANKS = [
    Mutant(
        "ranks-sum-at-first",
        "the ranks sum before the last micro-batch, which stays with each",
        "ddp:Replica.micro_batch",
        "elif last:",
        "elif not last:",
        MEAN,
    ),
    Mutant(
        "ranks-divided-twice",
        "the mean over the ranks is divided by their number once more",
        "ddp:_mean_in_fp32",
        "sums.div_(world)",
        "sums.div_(world**2)",
        MEAN,
    ),
    Mutant(
        "ranks-clip-alone",
        "each rank clips what it sends, before the sum",
        "ddp:_mean_in_fp32",
        "sums.div_(world)",
        "sums.mul_(0.05 / sums.norm()).div_(world)",
        MEAN,
    ),
    Mutant(
        "ranks-collect-twice",
        "the last micro-batch of the bf16 copy counts again after the sum",
        "ddp:Replica.micro_batch",
        "self.weights.drop()",
        "self.weights.collect()",
        MEAN,
    ),
    Mutant(
        "ranks-last-only",
        "the bf16 copy's gradients of earlier micro-batches are left out",
        "precision:WorkingCopy.collected",
        "                piece_n += master.grad.flatten()\n",
        "                pass\n",
        MEAN,
    ),
    Mutant(
        "ranks-same-slice",
        "every rank reads rank 0's samples",
        "corpus:Corpus.batches.fetch",
        "sizes.accumulation, rank, sizes.ranks",
        "sizes.accumulation, 0, sizes.ranks",
        Test(f"{WHO}::test_the_same_tokens_in_the_same_order"),
    ),
    Mutant(
        "ranks-same-dropout",
        "all ranks drop the same elements",
        "distributed.ranks:dropout_seed",
        "    if rank == 0:\n        return seed\n",
        "    return seed\n",
        Test(f"{WHO}::test_dropout_differs_by_rank_and_seed"),
    ),
    Mutant(
        "ranks-generators-of-0",
        "a resumed rank draws what rank 0 draws",
        "checkpoint:_resume",
        'torch.set_rng_state(state["rng"][rank]["cpu"])',
        'torch.set_rng_state(state["rng"][0]["cpu"])',
        Test(f"{ONE}::test_each_rank_gets_its_own_generators_back"),
    ),
    Mutant(
        "ranks-evaluate-everything",
        "each rank adds all windows to the sum",
        "validation:evaluate",
        "range(ranks.rank, len(starts), ranks.world)",
        "range(len(starts))",
        Test(f"{ONE}::test_ranks_share_the_windows_of_an_evaluation"),
    ),
    Mutant(
        "ranks-stop-alone",
        "a rank stops for its own signal only",
        "stop_signals:StopSignals.requested",
        "self.number = self.ranks.highest(self._came)",
        "self.number = self._came",
        Test(f"{ONE}::test_a_signal_to_another_rank_is_one_to_this"),
    ),
    Mutant(
        "ranks-signal-lost",
        "a signal that comes while the ranks agree is forgotten",
        "stop_signals:StopSignals.requested",
        "self.number = self.ranks.highest(self._came)",
        "self._came = self.number = self.ranks.highest(self._came)",
        Test(f"{ONE}::test_a_signal_while_the_ranks_talk_is_kept"),
    ),
    Mutant(
        "ranks-masks-unseen",
        "masks that differ between ranks go unnoticed",
        "checksums:require_same",
        "pruner.state() if pruner else {}",
        "{}",
        Test(f"{ONE}::test_masks_are_compared_too"),
    ),
    Mutant(
        "ranks-sum-unordered",
        "the checksum does not see elements that changed places",
        "checksums:_weighted",
        "(sums * (2 * torch.arange(len(sums), device=sums.device) + 1)).sum()",
        "sums.sum()",
        Test(f"{WHO}::test_exchanged_elements_change_the_checksum"),
    ),
    Mutant(
        "ranks-own-clocks",
        "each rank looks at its own clock for a time budget",
        "trainer:Trainer.__init__",
        "            run.ranks.first,\n",
        "            lambda seconds: seconds,\n",
        Test(
            "tests/gpt2/distributed/test_several_ranks.py::"
            "test_seconds_end_all_ranks_at_one_step[time]"
        ),
    ),
]

SECTIONS = {"Several ranks": RANKS}
