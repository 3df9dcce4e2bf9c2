"""Mutants of what is counted: products, devices, and the check's own steps."""

from tests.mutants.mutant import Mutant, Test, check

FLOPS = "tests/gpt2/model/test_flops.py"
STEPS = "tests/gpt2/check/test_steps.py"
DEPARTURES = "tests/gpt2/optim/test_spam_departures.py::test_each_is_seen_at_its_step"
TWO_RANKS = "tests/gpt2/check/test_two_processes.py::test_two_ranks[nothing]"

PRODUCTS = [
    Mutant(
        "flops-without-ra",
        "the transposed score multiplies nothing",
        "attention.attention:Attention.products",
        "E * min(self.ra.band + 1, keys)",
        "0",
        check("5", "expectations"),
    ),
    Mutant(
        "flops-band-one-short",
        "a query's own key is left out of the band",
        "attention.attention:Attention.products",
        "self.ra.band + 1",
        "self.ra.band",
        check("5", "expectations"),
    ),
    Mutant(
        "flops-mixing-all",
        "top-k mixing is counted over all tokens",
        "cross_token:CrossToken.products",
        "r * min(self.k, keys)",
        "r * keys",
        check("4", "expectations"),
    ),
    Mutant(
        "flops-tied-once",
        "a matrix that reads and writes is counted once",
        "mlp.latent:ReciprocalLatent.products",
        'self.tying == "tied_transpose"',
        "False",
        Test(f"{FLOPS}::test_beyond_the_parameters_by_hand[tied]"),
    ),
    Mutant(
        "flops-basis-in-the-last",
        "the last block writes by the fixed basis to nobody",
        "mlp.latent:ReciprocalLatent.products",
        "(1 + self.writes)",
        "2",
        Test(f"{FLOPS}::test_beyond_the_parameters_by_hand[scalars]"),
    ),
    Mutant(
        "flops-half-a-band",
        "the causal figure halves what meets no more keys than it says",
        "attention.attention:Attention.products",
        "2 * E * mean_keys(T, keys) + band",
        "2 * E * mean_keys(T, keys) + band / 2",
        Test(f"{FLOPS}::test_beyond_the_parameters_by_hand[reciprocal]"),
    ),
]

DEVICES = [
    Mutant(
        "mfu-of-one",
        "the tokens of all devices are divided by the peak of one",
        "trainer:Trainer._utilisation",
        "(peak * self.run.ranks.world)",
        "peak",
        Test("tests/gpt2/training/test_mfu.py::test_mfu_by_the_stated_peak[2]"),
    ),
    Mutant(
        "forecast-of-any-gpus",
        "a cell of one GPU foretells one of two",
        "plan.forecast:Measured.as_fast_as",
        'cell.values["GPUS_PER_RUN"])',
        "self.ranks)",
        Test(
            "tests/matrix/plan/test_forecast.py"
            "::test_other_hosts_devices_and_threads_do_not_count"
        ),
    ),
    Mutant(
        "power-of-one-gpu",
        "an estimate takes the mean of the GPUs' power for their sum",
        "results.energy:_Samples.add",
        "self._watts.append(sum(watts))",
        "self._watts.append(sum(watts) / max(1, len(watts)))",
        Test("tests/matrix/plan/test_rerun.py::test_estimates_say_what_they_go_by"),
    ),
]

CHECKED = [
    Mutant(
        "check-all-in-one-place",
        "the verdict of a step goes to the study's first",
        "check.run:_prove_all",
        "cases[index] = case",
        "cases[0] = case",
        Test(f"{STEPS}::test_every_step_stands_where_it_was[wrong0]"),
    ),
    Mutant(
        "check-broken-twin-believed",
        "what is broken at one step is believed of its twin",
        "check.prove:inherit",
        "if not twin.sound:",
        "if False:",
        Test(f"{STEPS}::test_the_table_of_broken_twins[wrong0]"),
    ),
    Mutant(
        "check-fault-nowhere",
        "an error that is no fault does not say where it was",
        "check.prove:Recorded.__exit__",
        "error.add_note(",
        "str(",
        Test(f"{STEPS}::test_what_is_no_fault_says_where"),
    ),
    Mutant(
        "check-partner-unheard",
        "nobody reads how the second process ended",
        "two_processes:Pair.__exit__",
        "self.partner.exitcode == 0",
        "True",
        Test(f"{STEPS}::test_a_partner_that_dies_at_the_end"),
    ),
    Mutant(
        "group-kept-by-a-module",
        "a module that is imported late keeps the group's threads",
        "distributed.ranks",
        "import torch.distributed.nn.functional",
        "import torch.nn.functional",
        Test(TWO_RANKS),
    ),
    Mutant(
        "group-never-left",
        "the group's threads outlive Python",
        "distributed.ranks:leave",
        "dist.destroy_process_group()",
        "pass",
        Test(TWO_RANKS),
    ),
]

SPAM = [
    Mutant(
        "spam-reset-a-step-early",
        "moments are reset where the authors' code resets them",
        "adamwspam:AdamWSPAM.begin",
        'j = t % group["interval"] if',
        'j = (t + 1) % group["interval"] if',
        Test("tests/gpt2/optim/test_spam.py"),
    ),
    Mutant(
        "spam-clips-a-step-early",
        "clipping begins with 19 gradients in v",
        "gpt2.optim.adamwspam",
        "UNCLIPPED = 20",
        "UNCLIPPED = 19",
        Test(f"{DEPARTURES}[clip]"),
    ),
]

SECTIONS = {
    "What is multiplied": PRODUCTS,
    "One device and all of them": DEVICES,
    "The check's own steps": CHECKED,
    "SPAM beside its authors' code": SPAM,
}
