"""Mutants of the report: energy, fronts, reused controls, what must match."""

from tests.mutants.mutant import Mutant, Test

ENERGY_TESTS = "tests/matrix/results/test_energy.py"
COSTS_TESTS = "tests/matrix/report/test_loss_against_cost.py"
BASELINE_TESTS = "tests/matrix/plan/test_reused_controls.py"
TRAPS = "tests/matrix/evidence/test_traps.py"

NUMBERS = [
    Mutant(
        "energy-gap-filled",
        "energy is invented where no sample was taken",
        "energy:measure",
        "if end - start > LONGEST:",
        "if False:",
        Test(f"{ENERGY_TESTS}::test_a_gap_is_reported_and_not_integrated"),
    ),
    Mutant(
        "energy-left-sum",
        "power is taken from the beginning of every interval",
        "energy:measure",
        "(first + last) / 2",
        "first",
        Test(f"{ENERGY_TESTS}::test_a_trapezoid_by_hand"),
    ),
    Mutant(
        "energy-between-attempts",
        "attempts are integrated as one",
        "energy:measure",
        'taken.setdefault(row["attempt"], _Samples())',
        "taken.setdefault(1, _Samples())",
        Test(f"{ENERGY_TESTS}::test_attempts_are_measured_apart"),
    ),
    Mutant(
        "front-of-either",
        "lower in one of loss and cost is enough to dominate",
        "loss_against_cost:_dominates",
        "return cost <= its_cost and loss <= its_loss and one.at != other.at",
        "return (cost < its_cost or loss < its_loss) and one.at != other.at",
        Test(f"{COSTS_TESTS}::test_a_front_by_hand"),
    ),
    Mutant(
        "front-of-the-control-again",
        "an A/A arm can be on a front",
        "loss_against_cost:front",
        "[point for point in found if not point.aa]",
        "list(found)",
        Test(f"{COSTS_TESTS}::test_the_control_again_is_on_no_front"),
    ),
    Mutant(
        "cache-that-only-grows",
        "the bytes of the cache leave out what does not grow",
        "cache_size:cache_bytes",
        'return (context * grows + constant - wide) * size + wide * BYTES["fp32"]',
        "return context * grows * size",
        Test(f"{COSTS_TESTS}::test_the_cache_in_bytes"),
    ),
    Mutant(
        "cache-of-the-context-alone",
        "caches at 1k, 16k and 64k tokens are that of the study's context",
        "cache_size:cache_bytes",
        'tokens or run.value("context")',
        'run.value("context")',
        Test(f"{COSTS_TESTS}::test_the_cache_of_layers_that_differ"),
    ),
    Mutant(
        "undefined-is-zero",
        "a statistic that is not defined counts as 0",
        "attention_statistics:_numbers",
        "return [v for v in (value if _listed(value) else [value]) if v is not None]",
        "return [v or 0.0 for v in (value if _listed(value) else [value])]",
        Test(
            "tests/matrix/report/test_attention_statistics.py::test_what_is_not_defined_is_left_out"
        ),
    ),
]

COMPARABLE = [
    Mutant(
        "baseline-threads-unread",
        "a control run may have had other threads",
        "reasons:changed_parts",
        'if old.get("threads") != subject.identity["threads"]:',
        "if False:",
        Test(f"{BASELINE_TESTS}::test_other_threads_are_refused"),
    ),
    Mutant(
        "baseline-changes-of-its-own",
        "what another study's control changes is allowed to differ here",
        "results.run:_read",
        'own = {"control": True, "changes": list(place.changes)}',
        'own = {"control": True}',
        Test(
            f"{BASELINE_TESTS}::"
            "test_a_control_that_knows_other_symbols_hides_no_difference"
        ),
    ),
    Mutant(
        "compile-may-differ",
        "one arm may be compiled and the other not",
        "fairness",
        '    ("compile", "compile"),\n',
        "",
        Test(f"{TRAPS}::test_a_property_that_must_match[all seeds-compile]"),
    ),
    Mutant(
        "resumed-under-anything",
        "a run may change its torch halfway",
        "fairness:resumed_elsewhere",
        "            if len(values) > 1:\n                order",
        "            if False:\n                order",
        Test(f"{TRAPS}::test_a_run_resumed_under_another_torch"),
    ),
]

SHOWN = [
    Mutant(
        "axis-to-the-largest-dot",
        "an axis from 0 ends at the largest dot, which is cut",
        "plots.common:from_zero",
        "places[-1] * 1.02",
        "most",
        Test("tests/matrix/report/test_axes.py::test_axes_reach_their_dots[wide]"),
    ),
    Mutant(
        "longest-name-whole",
        "a long name pushes a table over the edge",
        "records.text_table:fitted",
        "shortened(name, max(NAME, room))",
        "name",
        Test("tests/matrix/test_widths.py::test_the_plan"),
    ),
    Mutant(
        "suggestion-from-afar",
        "a name that shares nothing is suggested",
        "records.spelling:closest",
        "d is not None and d <= slips",
        "d is not None",
        Test("tests/records/test_spelling.py::test_nothing_from_far_away[HEIGHT]"),
    ),
    Mutant(
        "speeds-on-the-first-screen",
        "a shared device is said beside a verdict on a loss",
        "report.overview:section",
        "line not in report.shared or evidence.terms.metric.timed",
        "True",
        Test(
            "tests/matrix/report/test_answers.py::"
            "test_a_warning_about_speeds_stands_with_the_speeds"
        ),
    ),
    Mutant(
        "largest-norm-lost",
        "a spike of the gradient norm is averaged away",
        "training_curve:thinned",
        "largest = max(known, default=None)",
        "largest = _mean(norms)",
        Test(
            "tests/matrix/report/test_training_curves.py::"
            "test_rows_are_put_together_by_powers_of_two"
        ),
    ),
    Mutant(
        "half-lives-of-the-first-evaluation",
        "the report shows what recurrent layers kept at the first evaluation",
        "report.half_lives:shares",
        "run.attention[-1]",
        "run.attention[0]",
        Test("tests/matrix/report/test_half_lives.py::test_shares_by_hand"),
    ),
]

SECTIONS = {
    "Numbers of a report": NUMBERS,
    "What is compared": COMPARABLE,
    "What is shown": SHOWN,
}
