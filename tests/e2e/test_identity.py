"""What an edit of the code does to a finished study."""

from tests.gpt2.data.sources.test_hub import words, write_folder

# Of every room that trains nothing, and of what a packed corpus is not read by.
ASIDE = (
    "docs/records.md",
    "gpt2/check/command_line.py",
    "gpt2/check/proofs/causality.py",
    "gpt2/data/loading/feeder.py",
    "gpt2/data/packing/prepare.py",
    "gpt2/evaluation/text.py",
    "gpt2/export/gguf.py",
    "gpt2/generation/generate.py",
    "gpt2/measure/race.py",
    "kconf/strict.py",
    "kernels/aot.py",
    "matrix/plan/cells.py",
    "matrix/report/html.py",
    "records/read.py",
    "scripts/eval.py",
)
LIVE = {
    "CONFIG_DATASET_FINEWEBEDU": "y",
    "CONFIG_HF_PATH": "hub",
    "CONFIG_SHUFFLE_BUFFER": "64",
    "CONFIG_DATA_ON_THE_FLY": "y",
    "CONFIG_DATA_VAL_TOKENS": "1024",
    "CONFIG_VAL_SPLIT_DOCUMENT": "y",
    "MAX_ITERS": "10",
    "STEPS": "0",
}


def remark(checkout, *names: str) -> None:
    """Another line in each of these files."""
    for name in names:
        with open(checkout.root / name, "a") as file:
            file.write("\n# a remark\n")


def trained(checkout, **variables: str) -> str:
    """`make`, and what `make plan` then says."""
    for target in ("data", "all"):
        done = checkout.make(target, **variables)
        assert done.status == 0, done.output
    return checkout.make("plan", **variables).output


def test_a_finished_study_stays_done_until_what_it_trains_with_changes(checkout):
    checkout.toy()
    assert "toy: 2 cells (2 done)" in trained(checkout)
    remark(checkout, *ASIDE)
    assert "toy: 2 cells (2 done)" in checkout.make("plan").output
    remark(checkout, "gpt2/training/trainer.py")
    plan = checkout.make("plan").output
    assert plan.count("code changed: gpt2/training/trainer.py\n") == 2, plan


def test_a_study_that_reads_on_the_fly_is_trained_by_its_feeder_too(checkout):
    checkout.toy()
    write_folder(checkout.root / "hub", words(500))
    assert "toy: 1 cell (1 done)" in trained(checkout, **LIVE)
    remark(checkout, "gpt2/check/proofs/causality.py", "gpt2/data/packing/prepare.py")
    assert "toy: 1 cell (1 done)" in checkout.make("plan", **LIVE).output
    remark(checkout, "gpt2/data/loading/feeder.py", "gpt2/data/tokenization/bpe.py")
    plan = " ".join(checkout.make("plan", **LIVE).output.split())
    changed = "code changed: gpt2/data/loading/feeder.py, gpt2/data/tokenization/bpe.py"
    assert changed in plan, plan
