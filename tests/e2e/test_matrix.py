"""A test matrix through make: check, plan, a selection, the rest, the report."""

import json
import re

import pytest

MATRIX = {
    "RA_MLA_ABLATION_MODE": "n",
    "TEST_MATRIX_MODE": "y",
    "MATRIX_OPTIMIZERS": '"adamw,adamwspam"',
    "MATRIX_PRUNING": '"none,magnitude"',
    "MATRIX_SPARSITIES": '"0.75"',
    "MATRIX_AXES": '"CONFIG_MLA=y,n;CONFIG_MLA_LATENT=16"',
}
TAIL = "mla-y-mla-latent-16"
CONTROL = f"adamw-{TAIL}"
ARMS = [CONTROL, f"adamw-magnitude-75-{TAIL}"]
ARMS += [arm.replace("adamw", "adamwspam") for arm in ARMS]


def test_from_axes_to_report(checkout, starts):
    checkout.toy(**MATRIX)
    assert checkout.make("data").status == 0
    checked = checkout.make("check", ARMS="*spam-magnitude*")
    assert checked.status == 0 and "1 of 1 step " in checked.output, checked.output
    assert re.search(r"^ *adamwspam-m\S*latent-16 ", checked.output, re.M)
    shown = checkout.make("show", ARMS=ARMS[1])
    assert shown.status == 0 and "PRUNING_MAGNITUDE n -> y" in shown.output

    plan = checkout.make("plan")
    assert plan.status == 0 and "toy: 4 cells (4 new)" in plan.output, plan.output
    why = "CONFIG_MLA_LATENT cannot be set: needs MLA (now MLA=n)"
    assert f"excluded: {ARMS[0].replace('-y-', '-n-')}, " in plan.output
    assert why in plan.output

    one = checkout.make(ARMS=ARMS[3])
    assert one.status == 0, one.output
    assert set(checkout.cells()) == {f"{ARMS[3]}/seed-1"}
    done = checkout.make("all", "MAX_ITERS=20")
    assert done.status == 0 and "(3 new, 1 done)" in done.output, done.output
    cells = checkout.cells()
    assert set(cells) == {f"{arm}/seed-1" for arm in ARMS}
    assert {starts(cell) for cell in cells.values()} == {1}
    for name, cell in cells.items():
        run = json.loads((cell.dir.path / "run.json").read_text())["cell"]
        sparsity = cell.summary.get("sparsity", {"covered": 0.0})["covered"]
        assert abs(sparsity - ("magnitude" in name) * 0.75) < 1e-3, name
        assert run["arm"]["point"]["MLA_LATENT"] == "16"
        assert run["fragment"].startswith("# Help: optimizer adamw")
    dense = json.loads((cells[f"{ARMS[3]}/seed-1"].dir.path / "run.json").read_text())
    assert dense["cell"]["arm"]["dense"] == ARMS[2]

    report = (checkout.root / "results" / "toy" / "report.md").read_text()
    for heading in ("## Arms", "## Arms, seed by seed", "## Excluded"):
        assert f"\n{heading}\n" in report
    assert report.count("75.00 %") == 4
    assert "needs MLA" in report

    again = checkout.make("report", AXES="CONFIG_MLP_DIMM=1,2")
    assert again.status and "did you mean CONFIG_MLP_DIM?" in again.output
    steps = checkout.make("check", STEP="1")
    assert steps.status and "ARMS=NAME" in steps.output


@pytest.mark.slow
def test_rates_on_the_command_line_make_the_plot(checkout):
    one = '"CONFIG_MLP_DIM=128"'
    checkout.toy(RA_MLA_ABLATION_MODE="n", TEST_MATRIX_MODE="y", MATRIX_AXES=one)
    checkout.make("data")
    before = (checkout.root / ".config").read_bytes()
    done = checkout.make(AXES="CONFIG_LEARNING_RATE=1e-2,3e-3")
    assert done.status == 0, done.output
    cells = checkout.cells()
    assert set(cells) == {"lr1e-2/seed-1", "lr3e-3/seed-1"}
    run = json.loads((cells["lr3e-3/seed-1"].dir.path / "run.json").read_text())
    assert run["overrides"] == {"MATRIX_AXES": "CONFIG_LEARNING_RATE=1e-2,3e-3"}
    assert (checkout.root / "results/toy/learning-rates.png").exists()
    assert "## Learning rate" in (checkout.root / "results/toy/report.md").read_text()
    assert (checkout.root / ".config").read_bytes() == before
