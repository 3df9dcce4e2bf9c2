"""What a user has set is honoured by the real `make`, and nothing is left elsewhere."""

import os
from pathlib import Path

from tests.e2e.conftest import Checkout

MASKS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def test_variables_of_other_tools(checkout, monkeypatch):
    """Said by the plan or refused by name, before anything is trained or waited for."""
    for name in MASKS:
        monkeypatch.delenv(name, raising=False)
    checkout.toy(LEARNING_RATE='"99"')
    asked = "CONFIG_LEARNING_RATE=99: CONFIG_OPTIMIZER_ADAMW is used with 1e-07 to 0.1"
    loaded = checkout.make("defconfig-toy")
    assert loaded.status == 0 and f"\nwarning: {asked}" in loaded.output
    assert checkout.make("data").status == 0
    assert [path.name for path in (checkout.root / "data").glob(".*")] == []

    mirrored = {"TRACKER": "wandb", "WANDB_MODE": "dryrun", "WANDB_PROJECT": "mine"}
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "DEVICE": "auto"}
    plan = checkout.make("plan", **mirrored, **hidden, CONFIG_TRACKER_PROJECT="ours")
    assert plan.status == 0, plan.output
    for line in (
        f"warning: {asked}: is it meant? (docs/optimizers.md)",
        "DEVICE=auto is cpu on this machine: CUDA_VISIBLE_DEVICES=-1 hides every GPU",
        "wandb: mode by WANDB_MODE=dryrun, not CONFIG_WANDB_MODE=online",
        "wandb: CONFIG_TRACKER_PROJECT=ours beats WANDB_PROJECT=mine",
    ):
        assert line in plan.output.splitlines(), plan.output

    hub = {"CONFIG_DATASET_TINYSTORIES": "y", "HF_ENDPOINT": "http://127.0.0.1:9"}
    for target, given, why in (
        (
            "all",
            {"TRACKER": "wandb", "WANDB_MODE": "never"},
            "WANDB_MODE=never: is none",
        ),
        (
            "plan",
            {**hidden, "CUDA_VISIBLE_DEVICES": "cpu"},
            "CUDA_VISIBLE_DEVICES=cpu: ",
        ),
        ("plan", {**hidden, "DEVICE": "cuda"}, "cuda: CUDA_VISIBLE_DEVICES=-1 hides"),
        (
            "data",
            {**hub, "TRANSFORMERS_OFFLINE": "1"},
            "TRANSFORMERS_OFFLINE=1, so the",
        ),
        ("list-defconfigs", {}, "toy.d/02-broken.config:1: the first line must be"),
    ):
        checkout.step("02-broken").write_text("CONFIG_MLA=y\n")
        if target != "list-defconfigs":
            checkout.step("02-broken").unlink()
        refused = checkout.make(target, **given)
        assert refused.status == 2 and why in refused.output, refused.output
        assert "Traceback" not in refused.output
    assert "  gpt2-ratio-ablation " in refused.output
    assert not (checkout.root / "results" / "toy").exists()


def files(folder: Path) -> set[str]:
    """The files below a folder; of our own cache of code and kernels its root alone."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    own = {path for path in found if path.parts[:2] == (".cache", "kablate")}
    return {path.as_posix() for path in found - own} | ({"OWN"} if own else set())


def test_nothing_is_left_elsewhere(checkout: Checkout, tmp_path_factory):
    """In the home, the temporary folder and the checkout: docs/operations.md lists it.

    And a study that has nothing left to run reports without its tracker's package.
    """
    home, temporary = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tmp")
    given = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": ""}
    checkout.toy({"00-control": "# Help: the base\n"}, GPT2_MAX_ITERS="2")
    before = files(checkout.root)
    assert checkout.make("data", **given).status == 0
    done = checkout.make(**given)
    assert done.status == 0, done.output
    [cell] = checkout.cells().values()
    words = {"RUN": str(cell.dir.path), "PROMPT": "a", "TOKENS": "2"}
    assert checkout.make("generate", **given, **words).status == 0
    again = checkout.make(**given, TRACKER="wandb")
    assert again.status == 0 and "report.html" in again.output, again.output
    assert "wandb: no cell is to be run, none is mirrored" in again.output

    left = files(checkout.root) - before
    assert {name.split("/")[0] for name in left} == {"data", "results"}
    assert not [
        name for name in left if name.endswith(".lock") and "/mirror/" not in name
    ]
    insisted = {".cache/matplotlib"}  # its list of fonts
    assert {os.path.dirname(name) or name for name in files(home)} == {"OWN", *insisted}
    own = {f"kablate-{os.getuid()}"}
    assert {path.name for path in temporary.iterdir()} == own
