"""Mutants of a sequential study: the law of its looks, what stops an arm, what runs."""

from tests.mutants.mutant import Mutant, Test

CORE = "tests/matrix/evidence/test_sequential.py"
ORACLE = "tests/matrix/evidence/test_sequential_oracle.py"
CALIBRATION = "tests/matrix/evidence/test_sequential_calibration.py"
STUDY = "tests/matrix/plan/test_sequential_study.py"
MAKE = "tests/matrix/launch/test_looks.py"
STAGE = "tests/matrix/plan/test_stage.py"

LAW = [
    Mutant(
        "looks-no-weights",
        "every look is held against the same p",
        "evidence.sequential:_Standing.judge",
        "n / self.design.looks[-1]",
        "1.0",
        Test(
            f"{CORE}::test_the_repeated_interval_excludes_zero_where_the_repeated_p_is_small"
        ),
    ),
    Mutant(
        "looks-law-of-one-look",
        "the law is that of the last look alone",
        "evidence.sequential:laws",
        "two.append((2 * special.stdtr(df_K, -np.abs(t_XK)) / w_K).min(-1))",
        "two.append((2 * special.stdtr(df_K, -np.abs(t_XK)) / w_K)[..., -1])",
        Test(f"{CALIBRATION}::test_the_published_boundary[400000-0.03]"),
    ),
    Mutant(
        "looks-repeated-p-of-zero",
        "a repeated p can be 0",
        "evidence.sequential:Law.p",
        "(1 + below) / (self.q_N.size + 1)",
        "below / self.q_N.size",
        Test(f"{CORE}::test_a_repeated_p_is_never_zero_and_one_without_a_look"),
    ),
    Mutant(
        "looks-interval-of-the-last",
        "the repeated interval is that of the last look",
        "evidence.sequential:repeated_interval",
        "max(low for low, _ in ends)",
        "ends[-1][0]",
        Test(f"{ORACLE}::test_the_rule_and_the_oracle_agree"),
    ),
]
STOPS = [
    Mutant(
        "looks-claim-without-flips",
        "a claim needs no sign-flip test",
        "evidence.sequential:_Standing._claim",
        "if self.flip[at] <= alpha:",
        "if True:",
        Test(f"{CORE}::test_the_sign_flip_test_can_hold_a_claim_back"),
    ),
    Mutant(
        "looks-lost-arm-leaves",
        "an arm that lost a run keeps the p of its former looks",
        "evidence.sequential:replay",
        "now.q[here & (ready < n)] = np.inf",
        "now.q[here & (ready < n)] = 0.5",
        Test(f"{CORE}::test_a_lost_run_keeps_the_arm_in_the_family_with_p_one"),
    ),
    Mutant(
        "looks-stopped-is-settled",
        "an arm that was given up is never claimed",
        "evidence.sequential:_Standing._claim",
        "(LIVE, EQUAL, GIVEN_UP)",
        "(LIVE, EQUAL)",
        Test(f"{CORE}::test_an_arm_that_stopped_is_claimed_once_holm_allows_it"),
    ),
    Mutant(
        "looks-neutral-without-holm",
        "equality is not held over the arms",
        "evidence.sequential:_Standing.equivalence",
        "return holm_adjusted(np.where(dead, 1.0, each))",
        "return np.where(dead, 1.0, each)",
        Test(f"{ORACLE}::test_the_rule_and_the_oracle_agree"),
    ),
    Mutant(
        "looks-given-up-too-soon",
        "an arm is given up by the bound at 90 %",
        "evidence.sequential",
        "BOUND = 0.975",
        "BOUND = 0.9",
        Test(f"{ORACLE}::test_the_rule_and_the_oracle_agree"),
    ),
    Mutant(
        "looks-before-all-are-there",
        "a look is judged while an arm still runs",
        "evidence.sequential:replay",
        "waiting = (live & (ready < n) & ~lost).any(-1)",
        "waiting = (live & (ready < n) & ~lost).all(-1)",
        Test(f"{CORE}::test_a_look_is_judged_when_every_live_arm_has_its_seeds"),
    ),
]
RUNS = [
    Mutant(
        "looks-run-on",
        "an arm that stopped gets the seeds of the next look",
        "evidence.looks:judge",
        "following if alive else int(n)",
        "following",
        Test(f"{STUDY}::test_the_second_look_goes_on_with_what_lives"),
    ),
    Mutant(
        "looks-aa-to-the-end",
        "the A/A arm runs to the last look",
        "evidence.looks:judge",
        "{contrast.step: looks.at[0] for contrast in contrasts if contrast.aa}",
        "{contrast.step: following for contrast in contrasts if contrast.aa}",
        Test(f"{STUDY}::test_the_second_look_goes_on_with_what_lives"),
    ),
    Mutant(
        "looks-others-now",
        "looks may be changed while the study runs",
        "evidence.weigh:other_looks",
        "ranges(symbol, each)[:most] != now",
        "False",
        Test(f"{STUDY}::test_seeds_and_other_looks_are_refused"),
    ),
    Mutant(
        "looks-screening-is-fresh",
        "the screening's seeds are no others than the confirmation's",
        "matrix.settings:StudySettings._require_fresh_seeds",
        "if again and self.design != FIXED:",
        "if again and self.design == FIXED:",
        Test(
            f"{STUDY}::test_looks_that_cannot_be[symbols4-names 12, which CONFIG_SCREEN_SEEDS]"
        ),
    ),
    Mutant(
        "looks-fewer-than-can-flip",
        "six seeds are enough for a look at every level",
        "matrix.settings:StudySettings._require_looks",
        "fewest_supported(self.alpha)",
        "fewest_supported(0.05)",
        Test(f"{STUDY}::test_looks_that_cannot_be[symbols2-fewer than 8 seeds]"),
    ),
    Mutant(
        "looks-promoted-are-not-named",
        "arms named beforehand are not promoted",
        "promotion:promote",
        "[*sound[: settings.promote], *arms]",
        "sound[: settings.promote]",
        Test(f"{STUDY}::test_a_named_arm_is_promoted_whatever_it_shows"),
    ),
    Mutant(
        "looks-registered-number",
        "more may be promoted than was registered",
        "preregistration:_promoted",
        'promotion.ranked[: screening["promote"]]',
        "promotion.ranked",
        Test(f"{STUDY}::test_more_arms_than_registered_are_a_deviation"),
    ),
    Mutant(
        "looks-registered-pursuit",
        "what is pursued may change after the registration",
        "preregistration:_design",
        'zip(("looks", "pursue"), found)',
        'zip(("looks",), found)',
        Test(f"{STUDY}::test_what_is_sealed_with_its_screening"),
    ),
    Mutant(
        "looks-one-is-all",
        "LOOK=1 goes on to the end",
        "matrix.run:_run",
        "(one_look and tried.settings.stage == CONFIRM)",
        "(one_look and tried.settings.stage == SCREEN)",
        Test(f"{MAKE}::test_one_look_and_no_more"),
    ),
    Mutant(
        "looks-failed-is-lost",
        "a failed cell counts as a lost one",
        "evidence.weigh:_lost_for_good",
        "and cell.state == DIVERGED",
        "",
        Test(f"{MAKE}::test_a_failed_cell_is_waited_for"),
    ),
]
EDGE = "tests/matrix/plan/test_looks_at_the_edges.py"
BENT = [
    Mutant(
        "looks-seeds-sorted-afterwards",
        "the seeds of the looks may be put in another order",
        "evidence.weigh:other_looks",
        '("CONFIRM_SEEDS", last, terms.looks.seeds),',
        "",
        Test(
            f"{EDGE}::test_the_order_of_the_seeds_cannot_be_changed_after_the_first_look"
        ),
    ),
    Mutant(
        "looks-planned-afterwards",
        "runs that were planned without looks are judged at looks",
        "evidence.weigh:other_looks",
        'run.config.get("DESIGN_SEQUENTIAL", True) is not True',
        "False",
        Test(f"{EDGE}::test_a_confirmation_cannot_be_judged_again_at_looks"),
    ),
    Mutant(
        "looks-confirmed-twice",
        "a confirmation that failed is followed by another",
        "promotion:promote",
        "    if confirmed:",
        "    if False:",
        Test(f"{EDGE}::test_a_confirmation_that_failed_is_not_thrown_away"),
    ),
    Mutant(
        "looks-later-runs-count",
        "what is wrong with a later look's runs spoils an earlier one",
        "evidence.weigh:_at_look",
        "terms.looks.seeds[:n]",
        "terms.looks.seeds",
        Test(f"{EDGE}::test_a_later_look_takes_no_claim_back"),
    ),
    Mutant(
        "looks-registered-ranking",
        "fewer may be promoted than the registered screening chooses",
        "preregistration:_promoted",
        '{*best, *screening["named"]}, promotion.promoted',
        "promotion.promoted, promotion.promoted",
        Test(f"{EDGE}::test_fewer_arms_than_the_registered_screening_chooses"),
    ),
    Mutant(
        "looks-registered-metric",
        "a screening may rank by another metric than the registered one",
        "preregistration:_promoted",
        "if promotion.metric not in (None, ranked_by):",
        "if False:",
        Test(f"{EDGE}::test_another_metric_that_ranked"),
    ),
]
SECTIONS = {
    "Looks: the law": LAW,
    "Looks: what stops an arm": STOPS,
    "Looks: what runs": RUNS,
    "Looks: what somebody bends": BENT,
}
