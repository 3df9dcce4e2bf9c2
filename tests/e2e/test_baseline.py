"""BASELINE= through the real make: the control is trained once, for two studies."""

import shutil

import pytest


@pytest.mark.slow
def test_a_control_serves_two_studies(checkout):
    checkout.toy()
    assert checkout.make("data").status == 0
    assert checkout.make(STEPS="0").status == 0
    (control,) = checkout.cells().values()
    defconfigs = checkout.root / "defconfigs"
    shutil.copytree(defconfigs / "toy.d", defconfigs / "other.d")
    other = {"CONFIG_STUDY": "other", "BASELINE": "results/toy"}
    refused = checkout.make("plan", CONFIG_ADAM_BETA2="0.9", **other)
    assert refused.status and "is another cell than 00-control seed 1" in refused.output
    assert "CONFIG_ADAM_BETA2" in refused.output
    planned = checkout.make("plan", **other)
    assert f"reused from {control.dir.path}" in planned.output, planned.output
    ran = checkout.make(**other)
    assert ran.status == 0, ran.output
    assert "2 cells (1 done, 1 new)" in ran.output
    assert "start   01-latent seed-1" in ran.output
    assert "start   00-control" not in ran.output
    again = checkout.make("report", CONFIG_STUDY="other")
    assert again.status == 0, again.output
    report = (checkout.root / "results/other/report.md").read_text()
    name = f"../toy/00-control/seed-1/{control.dir.path.name}"
    assert f"`{name}`" in report and "1 control run reused" in report
