"""Mutants of what the runs can carry: seeds left out or copied, divergence."""

from tests.mutants.mutant import Mutant, Test

SEEDS = "tests/matrix/evidence/test_planted_seeds.py"
CHANGES = "tests/matrix/evidence/test_planted_deviations.py"
SPEEDS = "tests/matrix/evidence/test_planted_time.py"
LEDGER = "tests/matrix/evidence/test_planted_ledger.py"
FAMILY = "tests/matrix/evidence/test_planted_families.py"
DAMAGED = "tests/matrix/results/test_damaged.py"

LEFT_OUT = [
    Mutant(
        "left-out-done-only",
        "a seed that diverged may be left out",
        "evidence.left_out:_ended",
        "if run.state in (DONE, DIVERGED):",
        "if run.state == DONE:",
        Test(f"{SEEDS}::test_a_seed_that_diverged_and_is_planned_no_more"),
    ),
    Mutant(
        "left-out-of-the-arm-alone",
        "seeds of the control may be left out",
        "weigh:_contrast",
        "*left_out(study, side, terms)]",
        "*left_out(study, row, terms)]",
        Test(f"{SEEDS}::test_a_control_with_a_seed_left_out_spoils_every_arm"),
    ),
    Mutant(
        "left-out-a-trial",
        "a run of another configuration is a seed left out",
        "evidence.left_out:same_but_seed",
        "not any(differing(one, other))",
        "True",
        Test(f"{SEEDS}::test_another_cell_is_no_seed_left_out[a trial]"),
    ),
    Mutant(
        "left-out-other-code",
        "a run of other code is a seed left out",
        "evidence.left_out",
        '"code_hash", "code_rule"',
        '"code_rule"',
        Test(f"{SEEDS}::test_another_cell_is_no_seed_left_out[other code]"),
    ),
    Mutant(
        "left-out-a-planned-look",
        "the seeds of a look to come are left out",
        "evidence.left_out:_planned",
        "or run.seed in terms.planned_seeds",
        "",
        Test(f"{SEEDS}::test_a_screening_and_a_planned_look_are_left_out_rightly"),
    ),
]

COPIES = [
    Mutant(
        "copies-by-hash-alone",
        "a run copied under another seed is another one",
        "copies:same_runs",
        "elif _telling(losses) and list(losses) == list(curve):",
        "elif False:",
        Test(f"{SEEDS}::test_a_run_under_two_seeds"),
    ),
    Mutant(
        "copies-by-the-start",
        "curves that begin alike are one",
        "copies:same_runs",
        "list(losses) == list(curve)",
        "list(losses)[:1] == list(curve)[:1]",
        Test(f"{SEEDS}::test_curves_that_meet_are_no_copy"),
    ),
    Mutant(
        "hash-of-anything",
        "a hash that is not of the identity beside it counts",
        "whole_run:_require_its_own",
        'identity_hash(told["identity"]) != told["hash"]',
        "False",
        Test(f"{DAMAGED}::test_a_run_whose_configuration_was_edited_is_none"),
    ),
    Mutant(
        "seed-of-another-configuration",
        "a configuration of another seed counts",
        "whole_run:_require_its_own",
        'found.values.get("SEED", told["seed"]) != told["seed"]',
        "False",
        Test(f"{DAMAGED}::test_a_run_whose_seed_was_edited_is_none"),
    ),
]

DIVERGED = [
    Mutant(
        "mcnemar-one-sided",
        "the p of the runs that diverged is one-sided",
        "survivors:mcnemar",
        "2 * tail / 2**n",
        "tail / 2**n",
        Test(f"{SEEDS}::test_the_exact_p_of_discordant_pairs[pair1-0.5]"),
    ),
]

CHANGED = [
    Mutant(
        "deviations-any-new-seed",
        "seeds of a list that began at the same time were added",
        "deviations:_seeds_added",
        "        if done:\n",
        "        if True:\n",
        Test(f"{CHANGES}::test_seeds_of_two_machines_at_once"),
    ),
    Mutant(
        "deviations-sealed-seeds",
        "seeds that were preregistered were added",
        "deviations:_seeds_added",
        "if run.seed in registered:",
        "if False:",
        Test(f"{CHANGES}::test_seeds_that_were_sealed_were_not_added"),
    ),
    Mutant(
        "deviations-of-all-replaced",
        "a trial that was run again deviates",
        "deviations:_replaced",
        "if (step, seed, hash8) in judged:",
        "if (step, seed) in seeds:",
        Test(f"{CHANGES}::test_runs_that_were_replaced"),
    ),
    Mutant(
        "deviations-long-rounds",
        "the arms of a long round are parted from their control",
        "deviations:idle",
        "at = max(at, run.time)",
        "at = start",
        Test(f"{CHANGES}::test_a_long_round_is_no_pause"),
    ),
    Mutant(
        "deviations-of-a-level",
        "a level that changed is no deviation",
        "deviations:_terms_changed",
        "found is not None and found[0] != value",
        'symbol != "ALPHA" and found is not None and found[0] != value',
        Test(f"{CHANGES}::test_deviations_stand_beside_the_verdicts"),
    ),
]

TIME = [
    Mutant(
        "sharing-of-any-host",
        "GPUs of one address on two hosts are one",
        "sharing:_meet",
        'one["host"] is None or one["host"] != other["host"]',
        "False",
        Test(f"{SPEEDS}::test_devices_that_are_not_known_to_be_one[two hosts]"),
    ),
    Mutant(
        "sharing-at-any-time",
        "runs in turn share their device",
        "sharing:_meet",
        "common > LEAST and not",
        "not",
        Test(f"{SPEEDS}::test_speeds_of_runs_in_turn[on_one_gpu]"),
    ),
    Mutant(
        "sharing-of-speeds-alone",
        "a loss under a time budget is no speed",
        "weigh:_unfair",
        ' or any(run.value("budget") == "time" for run in runs)',
        "",
        Test(f"{SPEEDS}::test_a_time_budget_with_runs_at_once"),
    ),
    Mutant(
        "sharing-with-the-judged-alone",
        "a trial beside a run is no neighbour",
        "weigh:_unfair",
        "sharing.shared(runs, study.runs)",
        "sharing.shared(runs, runs)",
        Test(f"{SPEEDS}::test_a_run_that_is_left_out_was_a_neighbour"),
    ),
]

LEDGER_ROWS = [
    Mutant(
        "ledger-no-kernel-driver",
        "the runtime is taken for the driver",
        "recorded",
        '"kernel_driver": "summary.device.kernel_driver"',
        '"kernel_driver": "summary.device.driver"',
        Test(
            f"{LEDGER}::test_what_computed_was_another[arm0-driver: 570.1 in 01-arm; 580.95.05 elsewhere]"
        ),
    ),
    Mutant(
        "ledger-update-of-other-optimizers",
        "optimizers that differ must take their steps alike",
        "fairness:differences",
        'skipped.append("update_impl")',
        "pass",
        Test(f"{LEDGER}::test_another_optimizer_takes_its_steps_otherwise"),
    ),
    Mutant(
        "ledger-processor-beside-a-clock",
        "under a time budget the processor beside a GPU may differ",
        "fairness:differences",
        "if not timed and",
        "if",
        Test(f"{LEDGER}::test_processors_beside_gpus[time-NON_DIA]"),
    ),
]

FAMILIES = [
    Mutant(
        "family-of-the-source-alone",
        "studies beside this one that share its control are not seen",
        "related:_studies",
        "sources.add(path.parents[3])",
        "pass",
        Test(f"{FAMILY}::test_both_halves_are_one_family"),
    ),
    Mutant(
        "family-with-trials",
        "a trial of another study is an arm of the family",
        "related:_is_arm",
        "set(differing(run, control)) <= explained",
        "True",
        Test(f"{FAMILY}::test_what_is_no_further_arm[a trial]"),
    ),
]

SECTIONS = {
    "Families in two studies": FAMILIES,
    "What computed": LEDGER_ROWS,
    "Shared devices": TIME,
    "Changed after the first run": CHANGED,
    "Seeds left out": LEFT_OUT,
    "Copies": COPIES,
    "Divergence": DIVERGED,
}
