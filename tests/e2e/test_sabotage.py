"""make check finds what a step must not do, in the real source files."""

import re
import time

import pytest

LOADED = "defconfig-gpt2-ratio-ablation+tiny"
EVERY = ("00-baseline", "02-golden-ratio", "08-mla", "09-mla-golden-ratio")
BUILT = "built as configured"

STEPS_CHECKED = "STEP=0,2,8-9"

# id: file, its line, what becomes of it, the steps that break, their promise
SABOTAGE = {
    "no causal mask": (
        "gpt2/model/mixers/attention/attention.py",
        "is_causal=mask_TT is None",
        "is_causal=False",
        EVERY,
        "causality",
    ),
    "a frozen parameter": (
        "gpt2/model/mixers/attention/latent.py",
        "        self.v_up = nn.Linear(L, up, bias=False)\n",
        "        self.v_up = nn.Linear(L, up, bias=False).requires_grad_(False)\n",
        ("08-mla", "09-mla-golden-ratio"),
        "gradients",
    ),
    "MLP_DIM ignored": (
        "gpt2/model/mlp/mlp.py",
        "        super().__init__()\n",
        "        super().__init__()\n"
        "        from dataclasses import replace\n"
        "        dim = 4 * settings.width\n"
        "        settings = replace(settings, mlp=replace(settings.mlp, dim=dim))\n",
        ("02-golden-ratio", "09-mla-golden-ratio"),
        BUILT,
    ),
    "a tensor kept": (
        "gpt2/model/block.py",
        "        attention, mlp = cache or (None, None)\n",
        "        attention, mlp = cache or (None, None)\n        self.last = x_BnE\n",
        EVERY,
        "no state",
    ),
}


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
@pytest.mark.parametrize("sabotage", SABOTAGE.values(), ids=SABOTAGE)
def test_sabotage_is_found(checkout, sabotage):
    file, old, new, steps, promise = sabotage
    assert checkout.make(LOADED).status == 0
    checkout.edit(file, old, new)
    done = checkout.make("check", STEPS_CHECKED)
    assert done.status == 2 and "Error 1" in done.output, done.output
    found = re.findall(r"^✗ gpt2-ratio-ablation (\S+): (.+)$", done.output, re.M)
    assert found == [(step, promise) for step in steps], done.output
    kept = len(EVERY) - len(steps)
    assert f"check: {kept} of {len(EVERY)} steps" in done.output
    again = re.findall(r"rerun only this: make (check) (STEP=\d+)$", done.output, re.M)
    assert again == [("check", f"STEP={int(step[:2])}") for step in steps]

    alone = checkout.make(*again[0])
    assert alone.status
    assert f"✗ gpt2-ratio-ablation {steps[0]}: {promise}" in alone.output
    assert "check: 0 of 1 steps" in alone.output
