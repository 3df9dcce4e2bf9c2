"""Arms that were trained and cannot be compared; tests/matrix/evidence/test_traps.py has all."""

import pytest

from records import jsonl

SEEDS = "1-3"
STEPS = {
    "00-control": "# Help: the base\n",
    "01-batch": "# Help: twice the batch\nCONFIG_EFFECTIVE_BATCH=8\n",
    "02-windows": "# Help: fewer windows\nCONFIG_GPT2_EVAL_WINDOWS=4\n",
    "03-text": "# Help: a narrower MLP\nCONFIG_MLP_DIM=96\n",
    "04-code": "# Help: a wider MLP\nCONFIG_MLP_DIM=192\n",
    "05-torch": "# Help: latents\nCONFIG_MLA=y\nCONFIG_MLA_LATENT=16\n",
}
TRAPS = {
    "01-batch": "different effective batch: 8 in 01-batch",
    "02-windows": "different evaluation windows: 4 in 02-windows",
    "03-text": "different dataset:",
    "04-code": "different code hash:",
    "05-torch": "05-torch seed 2 was resumed under another torch:",
}


@pytest.mark.slow
def test_traps_in_a_trained_study(checkout):
    checkout.toy(STEPS, EFFECTIVE_BATCH="4", BATCH_SIZE="4", JOBS="2")
    text = (checkout.root / "corpus.txt").read_text()
    (checkout.root / "other.txt").write_text(text[1000:])
    for path in ("corpus.txt", "other.txt"):
        done = checkout.make("data", CONFIG_LOCAL_PATH=path)
        assert done.status == 0, done.output
    for more in (
        {"STEPS": "0-2,5"},
        {"STEPS": "3", "CONFIG_LOCAL_PATH": "other.txt"},
    ):
        ran = checkout.make(SEEDS=SEEDS, **more)
        assert ran.status == 0, ran.output
    block = checkout.root / "gpt2/model/block.py"
    block.write_text(block.read_text() + "# edited between two arms\n")
    ran = checkout.make(SEEDS=SEEDS, STEPS="4")
    assert ran.status == 0, ran.output
    resumed(checkout)
    done = checkout.python("scripts/make_report.py", "results/toy")
    assert done.status == 0, done.output
    shown = " ".join(done.output.split())
    report = (checkout.root / "results/toy/report.md").read_text()
    for step, reason in TRAPS.items():
        assert f"{step}: NON_DIAGNOSTIC" in shown, shown
        assert reason in shown
        line = next(x for x in report.splitlines() if f"| `{step}`" in x and "NON" in x)
        assert "SUPPORTED" not in line and "LIMITED" not in line


def resumed(checkout) -> None:
    """This machine has one torch: the second one is written into the records."""
    cell = checkout.cells()["05-torch/seed-2"]
    again = {**cell.attempts[0], "attempt": 2, "torch": "2.11.0"}
    with jsonl.open_append(cell.dir.attempts) as attempts:
        attempts.append(again)
