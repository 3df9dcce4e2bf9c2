"""The study mqar through the real make: data, tune, train, recall, verdict."""

import json

import pytest

SHORT = {
    "MAX_ITERS": "4",
    "CONFIG_RECALL_ROWS": "400",
    "CONFIG_GPT2_WARMUP_STEPS": "1",
    "CONFIG_GPT2_EVAL_INTERVAL": "4",
    "CONFIG_GPT2_EVAL_WINDOWS": "8",
    "CONFIG_TUNE": "LEARNING_RATE=1e-3,1e-2",
}
TASKS = ("kablate_recall_8", "kablate_recall_40")


@pytest.mark.slow
def test_the_study_from_its_rows_to_a_verdict(checkout):
    assert checkout.make("defconfig-mqar").status == 0
    packed = checkout.make("data", **SHORT)
    assert packed.status == 0, packed.output
    assert "recall version 1, seed 1, rows of 2,4,8,40 pairs" in packed.output
    assert "up to date" in checkout.make("data", **SHORT).output
    early = checkout.make(SEEDS="1-2", **SHORT)
    assert early.status == 2 and "make tune first" in early.output
    tuned = checkout.make("tune", **SHORT)
    assert tuned.status == 0, tuned.output
    ran = checkout.make(SEEDS="1-2", **SHORT)
    assert ran.status == 0, ran.output
    ask = {"STUDY": "results/mqar", "TASKS": ",".join(TASKS), "DEVICE": "cpu"}
    asked = checkout.make("eval", LIMIT="4", **ask)
    assert asked.status == 0 and "4 runs to evaluate" in asked.output, asked.output
    for path in checkout.root.glob("results/mqar/*/seed-*/*/evaluations.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["name"] for row in rows] == list(TASKS)
        assert [row["counts"]["requests"] for row in rows] == [4 * 8, 4 * 23]
    again = checkout.make("eval", LIMIT="4", **ask)
    assert "4 are evaluated already" in again.output
    metric = {"METRIC": "eval:kablate_recall_40/acc", "SMALLEST": "0.05"}
    judged = checkout.make("verdict", SEEDS="1-2", **metric, **SHORT)
    assert judged.status == 0, judged.output
    assert "01-linear against 00-baseline" in judged.output
