"""Mutants of cells that several processes train."""

from tests.mutants.mutant import Mutant, Test

ONE, WHO = "tests/gpt2/distributed/test_ddp.py", "tests/gpt2/distributed/test_ranks.py"
PROOF = Test("tests/gpt2/check/test_two_processes.py::test_two_ranks[nothing]")
OTHER = "tests/gpt2/distributed/test_distribution.py"
WHOLE = Test(f"{OTHER}::test_records_are_of_the_whole_model")
MEAN = Test(f"{ONE}::test_the_mean_over_ranks_is_the_gradient")

RANKS = [
    Mutant(
        "ranks-sum-at-first",
        "the ranks sum before the last micro-batch, which stays with each",
        "ddp:DataParallel.micro_batch",
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
        "ranks-not-averaged",
        "every rank keeps its own gradient",
        "ddp:_mean_in_fp32",
        "work = dist.all_reduce(sums.div_(world), async_op=True)",
        "work = dist.all_reduce(torch.zeros(1), async_op=True)",
        PROOF,
    ),
    Mutant(
        "ranks-summed",
        "the ranks' gradients are added up and not divided",
        "ddp:_mean_in_fp32",
        "sums.div_(world)",
        "sums",
        PROOF,
    ),
    Mutant(
        "ranks-divided-by-two-more",
        "the mean is halved behind the sum",
        "ddp:DataParallel.micro_batch",
        "            self.weights.drop()",
        "            for p in self.model.parameters():\n"
        "                p.grad.div_(self.ranks.world)\n"
        "            self.weights.drop()",
        PROOF,
    ),
    Mutant(
        "ranks-without-the-last",
        "what the last micro-batch adds is left out",
        "ddp:DataParallel.micro_batch",
        "            yield\n            self.weights.drop()",
        "            kept = [p.grad.clone() for p in self.model.parameters()]\n"
        "            yield\n"
        "            for p, gradient in zip(self.model.parameters(), kept):\n"
        "                p.grad.copy_(gradient)\n"
        "            self.weights.drop()",
        PROOF,
    ),
    Mutant(
        "ranks-norm-of-one-tensor",
        "the norm is that of the first gradient",
        "ddp:DataParallel.gradient_norm",
        "[p.grad for p in parameters if",
        "[p.grad for p in parameters[:1] if",
        PROOF,
    ),
    Mutant(
        "ranks-agree-on-anything",
        "nothing is compared between the ranks",
        "ddp:DataParallel.require_same",
        "checksums.require_same(self.ranks, tensors, step)",
        "pass",
        PROOF,
    ),
    Mutant(
        "evaluation-of-a-share",
        "an evaluation is of what the rank trains, not of the whole model",
        "trainer:Trainer._evaluated",
        "                model,\n                text.windows,",
        "                run.distribution.model,\n                text.windows,",
        WHOLE,
    ),
    Mutant(
        "hash-of-a-share",
        "the hash on record is of what rank 0 trains, not of the whole model",
        "training.cell:_train",
        "training_summary(trainer, model)",
        "training_summary(trainer, run.distribution.model)",
        WHOLE,
    ),
    Mutant(
        "estimate-of-the-whole",
        "the memory of a rank is that of all ranks",
        "training.memory:memory_estimate",
        "bytes_per_rank(held, settings.train.ranks)",
        "bytes_per_rank(held, 1)",
        Test(f"{OTHER}::test_the_estimate_is_of_a_ranks_share"),
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
        "ddp:DataParallel.micro_batch",
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
        "checkpoint:_load_newest",
        'generators = state["rng"][distribution.ranks.rank]',
        'generators = state["rng"][0]',
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
        "self.number = self.ranks.maximum(self._received)",
        "self.number = self._received",
        Test(f"{ONE}::test_a_signal_to_another_rank_is_one_to_this"),
    ),
    Mutant(
        "ranks-signal-lost",
        "a signal that comes while the ranks agree is forgotten",
        "stop_signals:StopSignals.requested",
        "self.number = self.ranks.maximum(self._received)",
        "self._received = self.number = self.ranks.maximum(self._received)",
        Test(f"{ONE}::test_a_signal_while_the_ranks_talk_is_kept"),
    ),
    Mutant(
        "ranks-masks-unseen",
        "masks that differ between ranks go unnoticed",
        "ddp:DataParallel.require_same",
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
        "            run.ranks.broadcast,\n",
        "            lambda seconds: seconds,\n",
        Test(
            "tests/gpt2/distributed/test_several_ranks.py::"
            "test_seconds_end_all_ranks_at_one_step[time]"
        ),
    ),
]

SECTIONS = {"Several ranks": RANKS}
