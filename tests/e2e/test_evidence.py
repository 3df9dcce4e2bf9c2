"""Preregistration, verdicts and screening through the real make."""

import pytest


def test_registered_run_and_judged(checkout):
    checkout.toy()
    assert checkout.make("data").status == 0
    sealed = checkout.make("prereg", SEEDS="1-2")
    assert sealed.status == 0 and "sha256 " in sealed.output, sealed.output
    again = checkout.make("prereg", SEEDS="1-2")
    assert again.status and "a study is registered once" in again.output
    ran = checkout.make(SEEDS="1-2")
    assert ran.status == 0, ran.output
    assert "01-latent: NON_DIAGNOSTIC (preregistered), n = 2" in ran.output

    told = checkout.make(
        "verdict", "STEP=1", "CONTROL=0", "METRIC=val_loss", SEEDS="1-2"
    )
    assert told.status == 0, told.output
    assert "01-latent against 00-control: NON_DIAGNOSTIC" in told.output
    assert "no deviation" in told.output and "00-control/seed-2/" in told.output
    other = checkout.make("verdict", "METRIC=bits_per_byte", SEEDS="1-2")
    assert "registered val_loss, now bits_per_byte" in other.output
    assert checkout.make("verdict", "STEP=9").status
    assert checkout.make("verdict", "METRIC=charm").status

    runs = sorted((checkout.root / "results/toy").glob("*/seed-1/*/summary.json"))
    both = [f"{name}={run.parent}" for name, run in zip("AB", runs)]
    compared = checkout.make("compare", *both)
    assert compared.status == 0, compared.output
    assert "CONFIG_MLA: n | y" in compared.output
    assert checkout.make("compare", both[0]).status

    (checkout.root / "held.txt").write_text("a dog saw the long bird\n" * 9)
    evaluate = ["eval", "STUDY=results/toy", "TEXT=held.txt"]
    evaluated = checkout.make(*evaluate, DEVICE="cpu")
    assert evaluated.status == 0, evaluated.output
    assert "4 runs to evaluate" in evaluated.output
    again = checkout.make(*evaluate, DEVICE="cpu")
    assert "4 are evaluated already" in again.output
    metric = "METRIC=eval:held.txt/loss"
    judged = checkout.make("verdict", metric, SEEDS="1-2")
    assert judged.status == 0, judged.output
    assert "01-latent against 00-control: NON_DIAGNOSTIC" in judged.output
    assert "held.txt/loss in nats/token" in judged.output
    assert checkout.make("report", SEEDS="1-2").status == 0
    report = (checkout.root / "results/toy/report.md").read_text()
    assert "## Evaluations" in report and "`held.txt`" in report


@pytest.mark.slow
def test_screen_then_confirm(checkout):
    checkout.toy(DESIGN_SCREEN_CONFIRM="y", PROMOTE="1", CONFIRM_SEEDS='"11-13"')
    checkout.step("02-wide").write_text("# Help: wide\nCONFIG_MLP_DIM=192\n")
    checkout.make("data")
    early = checkout.make(STAGE="confirm")
    assert early.status and "promotion.json is not there" in early.output
    screened = checkout.make(STAGE="screen", SEEDS="1-2")
    assert screened.status == 0, screened.output
    assert "claims nothing about any of them" in screened.output
    promoted = checkout.make("promote", SEEDS="1-2")
    assert promoted.status == 0 and "promoted" in promoted.output, promoted.output
    assert checkout.make("prereg", STAGE="confirm").status == 0
    again = checkout.make(STAGE="confirm", CONFIG_CONFIRM_SEEDS="2-4")
    assert again.status and "seeds 2 were used before" in again.output
    confirmed = checkout.make(STAGE="confirm")
    assert confirmed.status == 0, confirmed.output
    assert "toy: 6 cells (6 new)" in confirmed.output
    assert "3 seeds, 1 arm in the family: LIMITED at most" in confirmed.output
    used = checkout.make("verdict", DESIGN="fixed", SEEDS="1-2")
    assert "seeds 11-13 ran and are left out" in used.output
