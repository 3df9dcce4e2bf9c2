"""A study from its corpus to its report, and what goes wrong on the way."""

import re
from pathlib import Path

import pytest

HOT = '# Help: a rate that no model survives\nCONFIG_LEARNING_RATE="1e30"\n'


def test_from_corpus_to_report(checkout, starts):
    checkout.toy()
    missing = checkout.make("plan")
    assert missing.status == 0 and "`make data` packs the corpus" in missing.output
    assert "00-control/seed-1/?  unpacked" in missing.output
    assert checkout.make("data").status == 0
    checked = checkout.make("check")
    assert checked.status == 0 and "2 of 2 steps" in checked.output

    checkout.step("02-hot").write_text(HOT)
    first = checkout.make()
    assert first.status, first.output
    assert "toy: 3 cells (3 new)" in first.output
    assert re.search(r"^diverged 02-hot seed-1  \w+ loss ", first.output, re.M)
    cells = checkout.cells()
    hot = cells.pop("02-hot/seed-1")
    assert hot.state == "diverged" and hot.attempts[-1]["status"] == "diverged"
    assert set(cells) == {"00-control/seed-1", "01-latent/seed-1"}
    for cell in cells.values():
        assert cell.state == "done" and starts(cell) == 1
        assert [row["step"] for row in cell.train] == list(range(20))
        assert [row["step"] for row in cell.evals] == [0, 10, 20]
        assert cell.evals[-1]["loss"] < cell.evals[0]["loss"] - 1

    second = checkout.make()
    assert second.status and "(2 done, 1 diverged)" in second.output
    assert re.search(r"diverged: \w+ loss ", second.output)
    attempts = {name: starts(cell) for name, cell in checkout.cells().items()}
    assert attempts == {**dict.fromkeys(cells, 1), "02-hot/seed-1": 1}

    checkout.step("02-hot").unlink()
    third = checkout.make()
    assert third.status == 0 and "(2 done)" in third.output
    assert "start " not in third.output
    assert attempts == {name: starts(cell) for name, cell in checkout.cells().items()}

    report = checkout.root / "results" / "toy" / "report.md"
    report.unlink()
    reported = checkout.make("report")
    assert reported.status == 0, reported.output
    assert "01-latent" in report.read_text()

    exported = checkout.make("rerun", SEEDS="1")
    assert exported.status and "nothing was run again: `make rerun SEEDS=1` does" in (
        exported.output
    )
    assert attempts == {name: starts(cell) for name, cell in checkout.cells().items()}
    chosen = checkout.make("rerun", "STEPS=0", DRY_RUN="1")
    assert chosen.status == 0 and chosen.output.count("would move ") == 1
    dry = checkout.make(DRY_RUN="1", STEPS="1")
    assert dry.status == 0 and "check: 1 of 1 step" in dry.output, dry.output

    with open(checkout.root / "gpt2" / "model" / "gpt.py", "a") as model:
        model.write("# another word\n")
    plan = checkout.make("plan", TIME="60")
    assert plan.output.count("code changed: gpt2/model/gpt.py\n") == 2, plan.output
    assert "(2 new)" in plan.output
    assert "TIME=60 in the environment is not read: make TIME=60" in plan.output

    before = report.read_bytes()
    tried = checkout.make(MAX_ITERS="10", STEPS="0")
    assert tried.status == 0 and "Trial: MAX_ITERS=10 makes other" in tried.output
    assert report.read_bytes() == before
    assert "# Study toy (trial)" in report.with_name("report-trial.md").read_text()
    timed = checkout.make("plan", "TIME=60")
    assert "not read" not in timed.output and "MAX_TIME" in timed.output
    again = checkout.make("defconfig-toy", MAX_ITERS="10")
    assert "not written, one-shots count once: MAX_ITERS=10" in again.output
    assert "GPT2_MAX_ITERS=20\n" in (checkout.root / ".config").read_text()


def test_a_missing_corpus_stops_before_anything(checkout):
    checkout.toy()
    done = checkout.make()
    assert done.status and "make data" in done.output
    assert checkout.cells() == {}


def test_data_packs_what_make_asks_for(checkout):
    checkout.toy()
    assert checkout.make("data").status == 0
    fraction = {"CONFIG_VAL_FRACTION": "0.2"}
    asked = checkout.make("plan", **fraction)
    place = Path(re.search(r"(\S+)/dataset.json: not there", asked.output)[1])
    assert not place.exists()
    assert checkout.make("data", **fraction).status == 0
    assert place.exists()
    checkout.edit(".config", 'VAL_FRACTION="0.05"', 'VAL_FRACTION="0.3')
    assert checkout.make("data").status, "a broken .config was ignored"


def test_a_truncated_shard_is_an_error_before_the_first_step(checkout):
    checkout.toy()
    checkout.make("data")
    [shard] = (checkout.root / "data").glob("*/train-00000.bin")
    with open(shard, "r+b") as file:
        file.truncate(shard.stat().st_size - 2)
    done = checkout.make(STEPS="0")
    assert done.status and "train-00000.bin" in done.output
    [cell] = checkout.cells().values()
    assert cell.state == "failed" and "ShardError" in cell.failure["error"]
    assert not cell.train and not cell.evals
    assert "make data" in done.output


# Old and new line of a .config, and the line that the refusal ends with.
BAD_LINES = [
    ("CONFIG_MLP_DIM=128", "CONFIG_MPL_DIM=128", "did you mean CONFIG_MLP_DIM?"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM = 128", "spaces around"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM=128 # wide", "inline comment"),
    ("CONFIG_MLP_DIM=128", 'CONFIG_MLP_DIM="128"', "quoted"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM=0128", "is not an int"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM=-1", "out of range"),
    ("CONFIG_MLP_DIM=128", "MLP_DIM=128", "CONFIG_"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM=128\nCONFIG_MLP_DIM=128", "first time"),
    ("CONFIG_MLP_DIM=128", "CONFIG_MLP_DIM=128\nCONFIG_MLA_LATENT=16", "MLA"),
    ("CONFIG_MLP_DIM=128\n", "", "make olddefconfig"),
    ("CONFIG_GPT2_BIAS=y", "CONFIG_GPT2_BIAS=true", "is not a bool"),
    ("CONFIG_GPT2_BIAS=y", "#CONFIG_GPT2_BIAS is not set", "exactly"),
    ("CONFIG_MHA=y", "CONFIG_MHA=y\nCONFIG_MLA=y", "CONFIG_MLA"),
    ('CONFIG_GRAD_CLIP="1.0"', "CONFIG_GRAD_CLIP=1.0", "not quoted"),
    ('CONFIG_GRAD_CLIP="1.0"', 'CONFIG_GRAD_CLIP="one"', "CONFIG_GRAD_CLIP"),
]


def test_a_bad_config_runs_nothing(checkout):
    checkout.toy()
    checkout.make("data")
    good = (checkout.root / ".config").read_text()
    for old, new, cause in BAD_LINES:
        checkout.edit(".config", old, new)
        done = checkout.make()
        assert done.status, f"{new!r} was accepted:\n{done.output}"
        assert cause in done.output, f"{new!r}:\n{done.output}"
        assert "Traceback" not in done.output, done.output
        assert checkout.cells() == {}, f"{new!r} ran something"
        (checkout.root / ".config").write_text(good)
    assert checkout.make(SEEDS="1-").status
    assert checkout.make(STEPS="5").status
    assert checkout.make(CONFIG_MLP_DIMM="3").status
    assert checkout.cells() == {}


def test_cleaning_keeps_what_was_computed(checkout):
    checkout.toy()
    checkout.make("data")
    folder = "results/toy/00-control/seed-1/0123abcd"
    kept = [
        f"{folder}/{name}"
        for name in (".config", "config.py", "summary.json", "checkpoint/model.pt")
    ]
    kept += ["results/bench/a.json", "results/.code/01/gpt2/__pycache__/a.pyc"]
    kept += ["data/notes.txt", "corpus.txt"]
    gone = {
        "clean": ("gpt2/__pycache__/a.pyc", ".hypothesis/a"),
        "mrproper": (".config", ".config.old", "config.py", "defconfig"),
        "distclean": (".venv/bin/python",),
    }
    for name in (*kept, *gone["clean"], *gone["mrproper"], *gone["distclean"]):
        path = checkout.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    packed = sorted((checkout.root / "data").rglob("*"))
    assert len(packed) > 3
    for target, names in gone.items():
        assert checkout.make(target).status == 0
        assert not [name for name in names if (checkout.root / name).exists()]
        assert [name for name in kept if not (checkout.root / name).exists()] == []
        assert sorted((checkout.root / "data").rglob("*")) == packed
    assert (checkout.root / "defconfigs" / "toy").exists()


DRY = ("gpt2/train_ra_mla.py", "--dry-run", "--ra-mla-ablation-step")


def test_the_dry_run_needs_no_config(checkout):
    done = checkout.python(*DRY, "2", "--optimizer", "adamw", "--dataset", "stdlib")
    assert done.status == 0, done.output
    assert "02-golden-ratio" in done.output and "1 of 1 step " in done.output
    assert not (checkout.root / ".config").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, named",
    [
        (("77",), "has no step 77; its steps: 0, 1, "),
        (("x",), "'x' is not a number"),
        (("2", "--optimizer", "lion"), "CONFIG_OPTIMIZER_LION"),
        (("2", "--dataset", "pile"), "CONFIG_DATASET_PILE"),
    ],
)
def test_the_dry_run_refuses_unknown_names(checkout, arguments, named):
    done = checkout.python(*DRY, *arguments)
    assert done.status == 1, done.output
    assert named in done.output
    assert len(done.output.splitlines()) == 1, done.output


@pytest.mark.slow
def test_another_config_and_another_output(checkout):
    checkout.toy()
    (checkout.root / ".config").unlink()
    (checkout.root / "config.py").unlink()
    other = {"KCONFIG_CONFIG": "other.config", "OUTPUT": "elsewhere"}
    for target in ("defconfig-toy", "data", "all", "report"):
        done = checkout.make(target, **other)
        assert done.status == 0, f"{target}:\n{done.output}"
    assert {cell.state for cell in checkout.cells("elsewhere").values()} == {"done"}
    assert len(checkout.cells("elsewhere")) == 2
    assert (checkout.root / "elsewhere" / "toy" / "report.md").exists()
    for name in (".config", "config.py", "results/toy"):
        assert not (checkout.root / name).exists(), name
    assert "(2 done)" in checkout.make("plan", **other).output
