"""Records that code of before the rooms wrote stay readable: former.tar.xz.

Made by commit bc2e909 through `make`, with the configuration CHOSEN, as a study of four
cells (weights of 16-everything seed 1 alone, CONFIG_SAVE_MODEL=n for the rest) and
`make export FORMAT=native` of that one. They are not to be made anew: that other code
reads them is what they are for. Commands only: what lies behind them moves.
"""

import tarfile
from pathlib import Path

import pytest
from safetensors.torch import load_file

FORMER = Path(__file__).with_name("former.tar.xz")
RUN = "results/former/study/16-everything/seed-1/9da1ae9b"
EXPORT = "results/former/export.safetensors"
BASE = "gpt2-ratio-ablation+tiny"
CHOSEN = {
    "WIDTH_DIVISOR": "32",
    "GPT2_HEADS": "4",
    "GPT2_LAYERS": "2",
    "GPT2_BLOCK_SIZE": "32",
    "DATASET_SYNTHETIC": "y",
    "SYNTHETIC_MB": "1",
    "GPT2_MAX_ITERS": "40",
    "GPT2_WARMUP_STEPS": "4",
    "GPT2_EVAL_INTERVAL": "20",
    "GPT2_EVAL_WINDOWS": "32",
    "LOG_INTERVAL": "5",
    "LOG_ATTENTION_STATS": "y",
    "LEARNING_RATE": "1e-2",
    "MIN_LEARNING_RATE": "1e-3",
}
# What that commit printed; the same under the instruction sets default, avx2, avx512.
SAID = "the   byyrwjxxdxfifi vuii jtyrjur"
TEXT = "the cat and a dog saw one very long black bird over there\n" * 20
LOSS = 3.24292


@pytest.fixture
def former(checkout):
    """The copy, with those records in results/former."""
    with tarfile.open(FORMER) as packed:
        packed.extractall(checkout.root / "results", filter="data")
    return checkout


def succeeds(checkout, *arguments: str) -> str:
    done = checkout.python(*arguments)
    assert done.status == 0, done.output
    return done.output


def test_the_run_and_its_export_say_what_they_said(former):
    how = ("--prompt=the ", "--tokens=40", "--seed=3", "--device=cpu")
    for place in (RUN, EXPORT):
        said = succeeds(former, "scripts/generate.py", place, *how)
        assert f"{SAID}\n" in said, said


def test_the_run_has_the_loss_that_it_had(former):
    (former.root / "held-out.txt").write_text(TEXT)
    how = ("--text=held-out.txt", "--device=cpu")
    output = succeeds(former, "scripts/eval.py", "--run", RUN, *how)
    found = float(output.partition("held-out.txt: loss ")[2].split()[0])
    assert found == pytest.approx(LOSS, abs=2e-5), output
    assert "1,160 tokens" in output


def test_the_run_leaves_as_it_left(former):
    succeeds(former, "scripts/export.py", "--format=native", "--out=again.st", RUN)
    again = load_file(former.root / "again.st")
    then = load_file(former.root / EXPORT)
    assert again.keys() == then.keys() and len(then) > 30
    for name, value in then.items():
        assert again[name].equal(value), name


def test_the_study_is_reported(former):
    short = succeeds(former, "scripts/make_report.py", "results/former/study")
    assert "00-baseline      2/2    3.2030  0.00119" in short
    assert "16-everything    2/2    3.2029  0.00134  -0.00006" in short
    report = (former.root / "results/former/study/report.md").read_text()
    assert "4 of 4 runs finished: 2 steps × 2 seeds (1-2)." in report
    assert "damaged" not in report
    assert (former.root / "results/former/study/attention-reciprocity.png").exists()


def test_the_control_is_that_of_other_code(former):
    """In nothing but the code: the configuration then is the one of now, with symbols
    that came later at what they mean for it.
    """
    with open(former.root / "gpt2/optim/schedule.py", "a") as file:
        file.write("\n\nOTHER_CODE = True\n")
    chosen = {f"CONFIG_{name}": value for name, value in CHOSEN.items()}
    chosen["CONFIG_LENGTH_DIVISOR"] = "1"  # which tiny has set to 16 since
    for target in (f"defconfig-{BASE}", "data"):
        done = former.make(target, **chosen)
        assert done.status == 0, done.output
    planned = {"STEPS": "0", "SEEDS": "1", "BASELINE": "results/former/study"}
    refused = former.make("plan", **chosen, **planned)
    assert refused.status, refused.output
    (line,) = [x for x in refused.output.splitlines() if "is another cell" in x]
    _, _, why = line.partition("is another cell than 00-baseline seed 1: ")
    reasons = why.partition(". Only the same cell is reused")[0].split("; ")
    assert len(reasons) == 1 and reasons[0].startswith("code"), line
