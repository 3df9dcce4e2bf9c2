"""make check finds what a step must not do, in the real source files."""

import re
import time

import pytest

LOADED = "defconfig-gpt2-ratio-ablation+tiny"
EVERY = ("00-baseline", "02-golden-ratio", "08-mla", "09-mla-golden-ratio")
BUILT = "built as configured"

STEPS_CHECKED = "STEP=0,2,8-9"

MLP = "gpt2/model/mlp/mlp.py"
PLAIN = "        super().__init__()\n"
IGNORED = PLAIN + (
    "        from dataclasses import replace\n"
    "        dim = 4 * settings.width\n"
    "        settings = replace(settings, mlp=replace(settings.mlp, dim=dim))\n"
)
"""CONFIG_MLP_DIM does not arrive: two of the four steps are not what they say."""


@pytest.mark.slow
def test_the_untouched_study_passes(checkout):
    assert checkout.make(LOADED).status == 0
    began = time.monotonic()
    done = checkout.make("check", STEPS_CHECKED)
    seconds = time.monotonic() - began
    print(f"\nmake check: {seconds:.1f} s for {len(EVERY)} steps")
    assert done.status == 0, done.output
    assert f"{len(EVERY)} of {len(EVERY)} steps keep every promise" in done.output
    assert seconds < 60


@pytest.mark.slow
def test_sabotage_is_found(checkout):
    assert checkout.make(LOADED).status == 0
    checkout.edit(MLP, PLAIN, IGNORED)
    done = checkout.make("check", STEPS_CHECKED)
    assert done.status == 2 and "Error 1" in done.output, done.output
    found = re.findall(r"^✗ gpt2-ratio-ablation (\S+): (.+)$", done.output, re.M)
    assert found == [(step, BUILT) for step in EVERY[1::2]], done.output
    assert "check: 2 of 4 steps" in done.output
    again = re.findall(r"rerun only this: make (check) (STEP=\d+)$", done.output, re.M)
    assert again == [("check", "STEP=2"), ("check", "STEP=9")]

    alone = checkout.make(*again[0])
    assert alone.status
    assert f"✗ gpt2-ratio-ablation 02-golden-ratio: {BUILT}" in alone.output
    assert "check: 0 of 1 step " in alone.output
