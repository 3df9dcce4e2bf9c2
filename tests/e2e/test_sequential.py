"""A sequential study through the real make, trained: a true arm and two null arms."""

import json

import pytest

NULL = '# Help: the control again\nCONFIG_INIT_SALT="{}"\nCONFIG_ATTENTION_IMPL_REFERENCE=y\n'
STEPS = {
    "00-control": "# Help: two layers\n",
    "01-deep": "# Help: four layers\nCONFIG_GPT2_LAYERS=4\n",
    "02-null": NULL.format("b"),
    "03-null": NULL.format("c"),
}
"""Measured before with four seeds: 01-deep is 0.042 nats/token better, six standard
deviations of its differences. The null arms change the kernel beside the salt, so that
they are no A/A arms and count in the family."""
SYMBOLS = {
    "GPT2_MAX_ITERS": "60",
    "GPT2_EVAL_WINDOWS": "64",
    "GPT2_EVAL_INTERVAL": "60",
    "CHECKPOINT_INTERVAL": "0",
    "BATCH_SIZE": "16",
    "LEARNING_RATE": '"1e-3"',
    "MIN_LEARNING_RATE": '"1e-4"',
    "GPT2_WARMUP_STEPS": "5",
    "SAVE_MODEL": "n",
    "DESIGN_SEQUENTIAL": "y",
    "CONFIRM_SEEDS": '"11-22"',
    "SMALLEST_EFFECT": '"0.03"',
    "ASSUMED_SD": '"0.01"',
}
FIXED = 12 * len(STEPS)
"""Runs of the fixed design with as many seeds as the last look."""


@pytest.mark.slow
def test_a_true_arm_stops_early_and_a_null_arm_is_equal(checkout):
    checkout.toy(STEPS, **SYMBOLS)
    assert checkout.make("data").status == 0
    sealed = checkout.make("prereg")
    assert sealed.status == 0 and "found with probability" in sealed.output
    planned = checkout.make("plan")
    assert (
        "runs: 24 at best" in planned.output and f"{FIXED} at worst" in planned.output
    )
    first = checkout.make(LOOK="1")
    assert first.status == 0, first.output
    done = checkout.make()
    assert done.status == 0, done.output
    told = " ".join(done.output.split())
    assert "01-deep: SUPPORTED better (preregistered)" in told
    assert "stopped early: exaggerated" in told
    assert "0 deviations" not in told and "deviation:" not in told
    assert "NEUTRAL (preregistered)" in told
    runs = list((checkout.root / "results/toy").glob("*/seed-*/*/summary.json"))
    assert len(runs) < FIXED, told
    deep = [path for path in runs if path.parts[-4] == "01-deep"]
    assert len(deep) in (6, 8, 10), "nothing is run beyond its stop"
    record = json.loads(
        (checkout.root / "results/toy/preregistration.json").read_text()
    )
    assert record["looks"] == [6, 8, 10, 12]
    again = checkout.make("plan")
    assert "decided after look" in again.output
