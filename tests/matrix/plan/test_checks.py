"""What would fail in every cell is found in the plan, once, with its place."""

import re
import sys

import pytest

from kconf.bind import SettingsError
from kconf.strict import ConfigError
from matrix import run
from matrix.plan.checks import PlanError
from matrix.plan.device import DeviceError


def test_a_refused_override_is_shown_as_it_was_written(checkout):
    status, output = checkout.run("plan", CONFIG_VAL_FRACTION="2")
    assert status == 2
    place = "CONFIG_VAL_FRACTION=2 (environment): CONFIG_VAL_FRACTION"
    assert output.startswith(f'error: {place}: "2": ') and "out of range" in output
    assert len(output.splitlines()) == 1, "once, not once per step"


def test_a_refused_value_names_the_line_of_the_config(checkout):
    checkout.configure('CONFIG_ADAM_BETA1="1.5"')
    lines = (checkout.root / ".config").read_text().splitlines()
    number = lines.index('CONFIG_ADAM_BETA1="1.5"') + 1
    with pytest.raises(ConfigError) as caught:
        checkout.plan()
    (finding,) = caught.value.findings  # once, not once per step
    assert (finding.line, finding.symbol) == (number, "ADAM_BETA1")
    assert finding.path.endswith(".config")


def test_a_refused_value_of_a_step_names_its_file(checkout):
    checkout.step("09-x", '# Help: x\nCONFIG_LEARNING_RATE="fast"\n')
    with pytest.raises(ConfigError, match=r"09-x\.config:2: .*is not a number"):
        checkout.plan()


def test_two_steps_that_only_write_a_value_differently(checkout):
    checkout.step("09-x", '# Help: x\nCONFIG_LEARNING_RATE="0.001"\n')
    with pytest.raises(PlanError, match="08-hot and 09-x are the same .*written diff"):
        checkout.plan()


@pytest.mark.parametrize("overlays", ["../../x", "a/b", "tiny+", "+tiny", "tiny+..x"])
def test_overlays_stay_in_the_results_directory(checkout, overlays):
    with pytest.raises(SettingsError, match="CONFIG_STUDY_OVERLAYS=.*fragments"):
        checkout.plan(CONFIG_STUDY_OVERLAYS=overlays)
    assert checkout.plan(CONFIG_STUDY_OVERLAYS="tiny+x.2").settings.label[3:] == (
        "+tiny+x.2"
    )


def test_a_vocabulary_smaller_than_the_corpus(checkout):
    with pytest.raises(ConfigError, match="VOCAB_SIZE: 100: .* vocabulary of 257"):
        checkout.plan(CONFIG_GPT2_VOCAB_SIZE="100")


def test_a_context_longer_than_a_split(checkout):
    checkout.pack(checkout.plan().cells[0].values, tokens=1024)
    with pytest.raises(
        PlanError, match="BLOCK_SIZE=1024: the train split .* 1,024 tokens.* needs 1025"
    ):
        checkout.plan()
    assert checkout.plan(CONFIG_GPT2_BLOCK_SIZE="1023").cells


def test_more_threads_than_cores(checkout):
    with pytest.raises(DeviceError, match="CPU_THREADS=3: this process may use 2"):
        checkout.plan(CONFIG_CPU_THREADS="3", JOBS="1")


@pytest.mark.parametrize("answer, status", [("cpu", 2), ("cuda", 0)])
def test_a_gpu_is_asked_for_once_before_anything_starts(
    checkout, monkeypatch, answer, status
):
    asked = []
    monkeypatch.setattr(run.device, "probe", lambda p: asked.append(p) or answer)
    monkeypatch.setattr(run, "pooled", lambda plan, *_: (plan, None))
    found, output = checkout.run("plan", DEVICE="cuda")
    assert (found, asked) == (status, [sys.executable])
    assert ("torch finds no GPU" in output) == (answer == "cpu")


def test_the_difference_to_the_base_is_recorded(checkout):
    checkout.step("09-latent", "# Help: x\nCONFIG_MLA=y\n")
    cells = checkout.plan(MAX_ITERS="9", SEEDS="1").cells
    changes = {cell.step: set(cell.changes) for cell in cells}
    assert changes["00-control"] == set()
    assert changes["02-wide"] == {"MLP_DIM"}
    assert changes["09-latent"] > {"MLA", "MLA_LATENT"}
    assert not changes["09-latent"] & {"MAX_ITERS", "SEED", "DEVICE_CPU"}


def test_a_directory_that_cannot_be_written(checkout):
    blocked = checkout.root / "file"
    blocked.touch()
    for command in ("plan", "run"):
        status, output = checkout.run(command, OUTPUT="file/results")
        assert status == 2 and re.match("error: .*file.*OUTPUT=", output), output
