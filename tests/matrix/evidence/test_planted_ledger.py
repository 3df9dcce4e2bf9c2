"""Planted studies: what the runs computed with differs, or only seems to."""

from pathlib import Path

import pytest

from matrix.evidence.gather import gather
from matrix.results.selection import Terms
from tests.matrix.evidence.test_weigh import SEEDS, evidence, noise
from tests.matrix.synthetic import Cell

GPU = {"kind": "cuda", "name": "H200", "driver": "CUDA 13.0"}
GPU |= {"kernel_driver": "580.95.05"}
SUMMARY = {"triton": "3.6.0", "numeric_environment": {}, "device": GPU}
FACTS = {"param_dtype": "fp32", "loss_impl": "chunked", "update_impl": "one_pass"}
DRIVER = {"device": {**GPU, "kernel_driver": "570.1"}}
RUNTIME = {"device": {**GPU, "driver": "CUDA 12.8"}}
TF32 = {"numeric_environment": {"NVIDIA_TF32_OVERRIDE": "0"}}


def study(output: Path, summary=SUMMARY, facts=FACTS, budget="tokens", arm={}) -> Path:
    """An arm that is better; `arm` changes its summary, facts and values."""
    for number, step in enumerate(("00-base", "01-arm")):
        other = arm if number else {}
        for seed, x in zip(SEEDS, noise(len(SEEDS), number + 3)):
            Cell(
                step,
                seed,
                (5.5, 3.4, 3.3 - 0.01 * number + x),
                values={"INIT_SALT": "", "OPTIMIZER_ADAMW": True}
                | other.get("values", {}),
                changes=tuple(other.get("values", ())),
                facts={**facts, "budget": budget, **other.get("facts", {})},
                summary={
                    **summary,
                    "stopped_by": budget,
                    **other.get("summary", {}),
                },
            ).finish(output)
    return output / "demo"


def word(output: Path) -> tuple[str, tuple[str, ...]]:
    (verdict,) = evidence(output, Terms()).verdicts
    return verdict.outcome, verdict.reasons


def test_what_computed_was_the_same(tmp_path):
    study(tmp_path)
    assert word(tmp_path) == ("SUPPORTED", ())


@pytest.mark.parametrize(
    "arm, line",
    [
        ({"summary": DRIVER}, "driver: 570.1 in 01-arm; 580.95.05 elsewhere"),
        ({"summary": RUNTIME}, "runtime: CUDA 12.8 in 01-arm; CUDA 13.0 elsewhere"),
        ({"summary": {"triton": "3.7"}}, "triton: 3.7 in 01-arm; 3.6.0 elsewhere"),
        (
            {"summary": TF32},
            "environment: NVIDIA_TF32_OVERRIDE=0 in 01-arm; none set elsewhere",
        ),
        (
            {"facts": {"param_dtype": "bf16"}},
            "dtype of the parameters: bf16 in 01-arm; fp32 elsewhere",
        ),
        (
            {"facts": {"loss_impl": "plain"}},
            "loss computation: plain in 01-arm; chunked elsewhere",
        ),
        ({"facts": {"update_impl": "torch"}}, "update: torch in 01-arm; one_pass else"),
        ({"facts": {"micro_batch": 8}}, "micro-batch: 8 in 01-arm; 16 elsewhere"),
    ],
)
def test_what_computed_was_another(tmp_path, arm, line):
    study(tmp_path, arm=arm)
    outcome, reasons = word(tmp_path)
    assert (outcome, len(reasons)) == ("NON_DIAGNOSTIC", 1)
    assert reasons[0].startswith(f"different {line}")


def test_older_records_are_equal_among_themselves_alone(tmp_path):
    """Nobody knows under which driver the older half of such a study ran."""
    older = {"device": {k: v for k, v in GPU.items() if k != "kernel_driver"}}
    study(tmp_path / "old", older, {})
    assert word(tmp_path / "old")[0] == "SUPPORTED"
    newer = {"summary": SUMMARY, "facts": FACTS}
    study(tmp_path / "mixed", older, {}, arm=newer)
    outcome, reasons = word(tmp_path / "mixed")
    assert outcome == "NON_DIAGNOSTIC" and len(reasons) == 6
    assert "different environment: none set in 01-arm; not recorded els" in reasons[-1]


def test_another_optimizer_takes_its_steps_otherwise(tmp_path):
    """That is the step's; the control's kind of step is no line of it."""
    values = {"OPTIMIZER_ADAMW": False, "OPTIMIZER_SGD": True}
    study(tmp_path, arm={"values": values, "facts": {"update_impl": "torch"}})
    assert word(tmp_path) == ("SUPPORTED", ())


@pytest.mark.parametrize("budget, told", [("tokens", "SUPPORTED"), ("time", "NON_DIA")])
def test_processors_beside_gpus(tmp_path, budget, told):
    """They are printed, and decide where time does."""
    place = study(tmp_path, budget=budget)
    for path in place.glob("01-arm/seed-*/*/run.json"):
        text = path.read_text()
        path.write_text(text.replace('"A Processor"', '"Another", "cores": 8'))
    assert word(tmp_path)[0].startswith(told)
    line = "processors: Another, cores: 8 in 01-arm; A Processor, cores: not recorded"
    assert any(note.startswith(line) for note in gather(place).notes)
