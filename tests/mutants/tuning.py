"""Mutants of the tuning budget and of the ladder of sizes."""

from tests.mutants.mutant import Mutant, Test

STUDY = "tests/matrix/plan/test_tuning.py"
POINTS = "tests/matrix/plan/test_tuning_points.py"
SIZES = "tests/matrix/plan/test_ladder.py"
TREND = "tests/matrix/report/test_ladder.py"

TUNING = [
    Mutant(
        "tuning-without-the-control",
        "the control is trained at no point but its own",
        "plan.tuning:_trials",
        "if not _salted(step)",
        "if not _salted(step) and not step.control",
        Test(f"{STUDY}::test_every_arm_is_tried_at_every_point"),
    ),
    Mutant(
        "tuning-seeds-are-judged",
        "a seed that chose an arm's values may judge it",
        "matrix.settings:StudySettings._require_tuning_seeds",
        "if self.tuning.symbols and again:",
        "if again and not self.tuning.symbols:",
        Test(f"{STUDY}::test_seeds_that_choose_are_never_judged[1]"),
    ),
    Mutant(
        "tuning-runs-are-judged",
        "runs of a tuning are evidence like any other",
        "weigh:tuning_seeds",
        'if run.seed in terms.tuned or run.value("stage") == TUNE',
        "if run.seed in terms.tuned",
        Test(f"{STUDY}::test_runs_that_chose_are_never_judged"),
    ),
    Mutant(
        "tuning-takes-the-worst",
        "the worst point is chosen",
        "evidence.tuning:_arm",
        "key=lambda trial: sign * trial",
        "key=lambda trial: -sign * trial",
        Test(f"{STUDY}::test_the_best_point_of_every_arm_is_sealed"),
    ),
    Mutant(
        "tuning-of-one-arm-alone",
        "an arm that had more trials than the control counts as tuned",
        "evidence.tuning:_untuned",
        "if trial_count(arm) != budget:",
        "if trial_count(arm) < budget:",
        Test(f"{STUDY}::test_a_budget_that_only_the_arm_had_is_marked"),
    ),
    Mutant(
        "tuning-of-other-runs",
        "runs with other values than were chosen count as tuned",
        "evidence.tuning:_untuned",
        "if str(run.config.get(symbol)) != value:",
        "if symbol not in run.config:",
        Test(f"{STUDY}::test_runs_with_other_values_are_not_the_tuned_ones"),
    ),
    Mutant(
        "tuning-changed-afterwards",
        "another CONFIG_TUNE than was tried is as good",
        "plan.tuning:_require_same_tuning",
        "if then != value:",
        "if then is None:",
        Test(f"{STUDY}::test_another_tuning_than_was_done_is_refused"),
    ),
    Mutant(
        "tuning-of-another-step",
        "a step that changed since it was tuned keeps its values",
        "plan.tuning:_tuned",
        "if other:",
        "if other and step.control:",
        Test(f"{STUDY}::test_another_arm_than_was_tuned_is_refused"),
    ),
    Mutant(
        "tuning-linear-ranges",
        "ranges are taken over their values, not their logarithm",
        "tuning_points:Range.at",
        "if self.linear:",
        "if self.low:",
        Test(f"{POINTS}::test_sobol_points_are_spread_evenly[8]"),
    ),
]

LADDER = [
    Mutant(
        "ladder-of-any-ratio",
        "a size may have any ratio of attention to MLP",
        "plan.ladder:require_ratios",
        "> TOLERANCE * abs(full)",
        "> abs(full) / TOLERANCE",
        Test(f"{SIZES}::test_a_width_alone_is_another_study"),
    ),
    Mutant(
        "ladder-of-narrow-heads",
        "the heads of a size are not divided",
        "plan.ladder:_divided",
        "str(values[name] // divisor)",
        "str(values[name])",
        Test(f"{SIZES}::test_every_width_is_divided_and_heads_keep_theirs"),
    ),
    Mutant(
        "ladder-without-end",
        "a line goes two octaves past the largest size",
        "evidence.ladder:Trend.at",
        "<= OCTAVE * self.high:",
        "<= OCTAVE * OCTAVE * self.high:",
        Test(f"{TREND}::test_no_value_beyond_an_octave"),
    ),
    Mutant(
        "ladder-of-what-cannot-be-compared",
        "a size at which an arm lost a run is in its trend",
        "evidence.ladder:trend",
        "for point in points if not point.remark",
        "for point in points if point.differences",
        Test(f"{TREND}::test_a_size_that_cannot_be_compared_is_in_no_trend"),
    ),
]

SECTIONS = {"Tuning": TUNING, "Sizes": LADDER}
