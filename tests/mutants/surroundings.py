"""Mutants of what a run leaves behind, and of the variables that it is given."""

from tests.mutants.mutant import Mutant, Test

PREPARE = "tests/gpt2/data/packing/test_prepare.py"
PRESETS = "tests/kconf/test_presets.py"

LEFT = [
    Mutant(
        "lock-of-nothing",
        "whoever waited for a lock that is gone goes in beside the next holder",
        "packing.prepare:_locked",
        "if not _names(path, file.fileno()):",
        "if False:",
        Test(f"{PREPARE}::test_a_lock_that_was_removed_is_no_lock"),
    ),
    Mutant(
        "lock-stays",
        "the lock of a packed corpus stays in the data folder",
        "packing.prepare:_locked",
        "                    path.unlink()",
        "                    pass",
        Test(f"{PREPARE}::test_one_at_a_time_holds_the_lock"),
    ),
    Mutant(
        "facts-in-tmp",
        "what imports torch leaves its folder in /tmp",
        "records.entry:importing",
        "private.claim()",
        "pass",
        Test("tests/gpt2/check/test_steps.py::test_facts_that_cannot_be_counted"),
    ),
    Mutant(
        "one-broken-study-hides-all",
        "the list of defconfigs ends at the first broken study",
        "kconf.presets:_readable",
        "        findings += error.findings",
        "        raise",
        Test(f"{PRESETS}::test_a_broken_study_does_not_hide_the_others[no_help]"),
    ),
]

WANDB = "tests/matrix/trackers/test_wandb_variables.py"
BEATS = "environment11-offline-CONFIG_WANDB_MODE=offline beats WANDB_DISABLED=yes"
HUB = "tests/gpt2/data/sources/test_hub.py"
BPE = "tests/gpt2/data/tokenization/test_bpe.py"
CELLS = "tests/matrix/plan/test_cells.py"
HONOURED = [
    Mutant(
        "wandb-mode-ignored",
        "WANDB_MODE=offline uploads",
        "wandb_variables:decide",
        'target = _under(target, "mode", "WANDB_MODE", mode, variable, notes)',
        "pass",
        Test(f"{WANDB}::test_a_variable_beats_the_file_and_is_recorded"),
    ),
    Mutant(
        "wandb-disabled-mirrors",
        "WANDB_MODE=disabled is mirrored",
        "wandb_variables:decide",
        "if mode == OFF:",
        "if False:",
        Test(f"{WANDB}::TestMake::test_a_mode_is_said_by_the_plan_and_recorded"),
    ),
    Mutant(
        "wandb-variable-beats-the-command",
        "WANDB_MODE beats CONFIG_WANDB_MODE= of the same command",
        "wandb_variables:decide",
        'if "CONFIG_WANDB_MODE" in environment:',
        "if False:",
        Test(f"{WANDB}::test_the_mode[{BEATS}]"),
    ),
    Mutant(
        "wandb-hears-what-was-beaten",
        "W&B reads the variables that were decided upon",
        "mirror_process:MirrorProcess.__init__",
        "**without(os.environ)",
        "**os.environ",
        Test(f"{WANDB}::test_the_mirror_is_told_in_words_alone"),
    ),
    Mutant(
        "hub-asked-offline",
        "HF_HUB_OFFLINE=1 does not keep a corpus off the network",
        "sources.hub:Stream.__init__",
        "            self._require_network()",
        "            pass",
        Test(
            f"{HUB}::test_the_hub_is_not_asked_where_a_variable_says_so"
            "[HF_DATASETS_OFFLINE]"
        ),
    ),
    Mutant(
        "vocabulary-asked-offline",
        "HF_HUB_OFFLINE=1 does not keep GPT-2's vocabulary off the network",
        "tokenization.bpe:gpt2",
        "if reason := _not_to_be_fetched():",
        'if reason := "":',
        Test(f"{BPE}::test_the_network_is_not_used_where_a_variable_says_so"),
    ),
    Mutant(
        "offline-of-one-library",
        "a variable holds for the library that reads it alone",
        "records.offline:offline_by",
        "for name in NAMES:",
        "for name in NAMES[:1]:",
        Test("tests/records/test_offline.py::test_a_no_does_not_hide_a_yes"),
    ),
    Mutant(
        "vocabulary-in-tmp",
        "GPT-2's vocabulary is kept in /tmp/data-gym-cache",
        "tokenization.bpe:_cached_ranks",
        "private.claim_vocabulary_cache()",
        "pass",
        Test(f"{BPE}::test_what_is_fetched_lies_in_the_users_cache"),
    ),
    Mutant(
        "mask-of-a-slip",
        "CUDA_VISIBLE_DEVICES=all is taken for no GPU",
        "records.gpu_masks:why_no_gpu",
        "    require(environment)\n",
        "",
        Test(f"{CELLS}::test_auto_is_resolved_once_and_printed"),
    ),
    Mutant(
        "cpu-without-a-cause",
        "a run on the CPU does not say that its GPUs are hidden",
        "training.device:resolve",
        "if why and say:",
        "if False:",
        Test("tests/gpt2/training/test_device.py::test_auto_says_why_it_is_the_cpu"),
    ),
    Mutant(
        "colours-in-a-log",
        "FORCE_COLOR puts a table that redraws itself into a log",
        "launch.display:display",
        "Console(force_terminal=sys.stdout.isatty())",
        "Console()",
        Test("tests/matrix/launch/test_colors.py::test_a_pipe_is_no_terminal"),
    ),
    Mutant(
        "rate-of-99-unasked",
        "a plan does not ask about a rate that nobody uses",
        "plan.cells:_of_values",
        "return [*asked, ",
        "return [",
        Test(f"{CELLS}::test_a_rate_that_nobody_uses_is_questioned"),
    ),
    Mutant(
        "tracker-needed-for-nothing",
        "a finished study asks for a package before it reports",
        "mirror_process:mirrored",
        "            if plan.pending:\n",
        "            if True:\n",
        Test(f"{WANDB}::TestMake::test_nothing_to_start_needs_no_package"),
    ),
]

SECTIONS = {"What stays in a folder": LEFT, "Variables of other tools": HONOURED}
