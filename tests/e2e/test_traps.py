"""Arms that were really trained and cannot be compared: make report says why."""

import json

import pytest

from records import atomic, jsonl

SEEDS = "1-3"
STEPS = {
    "00-control": "# Help: the base\n",
    "01-batch": "# Help: twice the batch\nCONFIG_EFFECTIVE_BATCH=8\n",
    "02-windows": "# Help: fewer windows\nCONFIG_GPT2_EVAL_WINDOWS=4\n",
    "03-text": '# Help: another text\nCONFIG_LOCAL_PATH="other.txt"\n',
    "04-code": "# Help: a wider MLP\nCONFIG_MLP_DIM=192\n",
    "05-torch": "# Help: latents\nCONFIG_MLA=y\nCONFIG_MLA_LATENT=16\n",
    "06-device": "# Help: a gate\nCONFIG_OUTPUT_GATE_ELEMENTWISE=y\n",
    "07-compile": "# Help: reciprocal attention\nCONFIG_RA=y\n",
    "08-time": "# Help: softpick\nCONFIG_SOFTPICK=y\n",
}
TRAPS = {
    "01-batch": "different effective batch: 8 in 01-batch",
    "02-windows": "different evaluation windows: 4 in 02-windows",
    "03-text": "different dataset:",
    "04-code": "different code hash:",
    "05-torch": "05-torch seed 2 was resumed under another torch:",
    "06-device": "different device: NVIDIA A10G in 06-device (seed 2)",
    "07-compile": "different compile: True in 07-compile (seed 2)",
    "08-time": "different end of training: time in 08-time (seed 2)",
}


@pytest.mark.slow
def test_traps_in_a_trained_study(checkout):
    checkout.toy(STEPS, EFFECTIVE_BATCH="4", BATCH_SIZE="4", JOBS="2")
    text = (checkout.root / "corpus.txt").read_text()
    (checkout.root / "other.txt").write_text(text[1000:])
    for path in ("corpus.txt", "other.txt"):
        done = checkout.make("data", CONFIG_LOCAL_PATH=path)
        assert done.status == 0, done.output
    ran = checkout.make(SEEDS=SEEDS, STEPS="0-3,5-8")
    assert ran.status == 0, ran.output
    block = checkout.root / "gpt2/block.py"
    block.write_text(block.read_text() + "# edited between two arms\n")
    ran = checkout.make(SEEDS=SEEDS, STEPS="4")
    assert ran.status == 0, ran.output
    plant(checkout)
    done = checkout.python("scripts/make_report.py", "results/toy")
    assert done.status == 0, done.output
    shown = " ".join(done.output.split())
    report = (checkout.root / "results/toy/report.md").read_text()
    for step, reason in TRAPS.items():
        assert f"{step}: NON_DIAGNOSTIC" in shown, shown
        assert reason in shown
        line = next(x for x in report.splitlines() if f"| `{step}`" in x and "NON" in x)
        assert "SUPPORTED" not in line and "LIMITED" not in line


def plant(checkout) -> None:
    """What this machine cannot do is written into the records of seed 2."""

    def summary(step: str, path: tuple[str, ...], value: object) -> None:
        cell = checkout.cells()[f"{step}/seed-2"]
        record = json.loads(cell.dir.summary.read_text())
        place = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        atomic.write_json(cell.dir.summary, record)

    summary("06-device", ("device", "name"), "NVIDIA A10G")
    summary("07-compile", ("facts", "compile"), True)
    summary("08-time", ("stopped_by",), "time")
    cell = checkout.cells()["05-torch/seed-2"]
    again = {**cell.attempts[0], "attempt": 2, "torch": "2.11.0"}
    with jsonl.open_append(cell.dir.attempts) as attempts:
        attempts.append(again)
