"""make tune and make ladder, with real runs at the smallest scale."""

import json

TUNE = {"CONFIG_TUNE": "LEARNING_RATE=1e-3,1e-2", "MAX_ITERS": "10"}


def test_tuned_then_run(checkout, starts):
    checkout.toy()
    assert checkout.make("data").status == 0
    early = checkout.make(**TUNE)
    assert early.status == 2 and "make tune first" in early.output
    tuned = checkout.make("tune", **TUNE)
    assert tuned.status == 0, tuned.output
    assert "tried 2 points in 2 runs on seeds 901" in tuned.output
    record = json.loads((checkout.root / "results/toy/tuning.json").read_text())
    for arm in record["arms"].values():
        losses = {t["values"]["LEARNING_RATE"]: t["metric"] for t in arm["trials"]}
        assert arm["chosen"]["LEARNING_RATE"] == min(losses, key=losses.get) == "1e-2"
    again = checkout.make("tune", **TUNE)
    assert again.status == 0 and record["sha256"] in again.output
    trials = [cell for name, cell in checkout.cells().items() if "learning" in name]
    assert len(trials) == 4 and {starts(cell) for cell in trials} == {1}

    ran = checkout.make(SEEDS="1-2", **TUNE)
    assert ran.status == 0, ran.output
    cells = {n: c for n, c in checkout.cells().items() if "learning" not in n}
    assert len(cells) == 4
    for cell in cells.values():
        assert 'CONFIG_LEARNING_RATE="1e-2"' in cell.dir.dotconfig.read_text()
    report = (checkout.root / "results/toy/report-trial.md").read_text()
    assert "## Tuning" in report and "equal budgets" in report


def test_a_ladder_of_three_sizes(checkout):
    checkout.toy()
    assert checkout.make("data").status == 0
    given = {"CONFIG_LADDER": "4 2 1", "SEEDS": "1", "MAX_ITERS": "4"}
    planned = checkout.make("ladder", DRY_RUN="1", **given)
    assert planned.status == 0, planned.output
    first = checkout.make(
        "ladder", DRY_RUN="1", **given, CONFIG_TUNE=TUNE["CONFIG_TUNE"]
    )
    assert first.status == 0, first.output
    assert "toy.ladder-4.tuning: 4 cells (4 new)" in first.output
    assert checkout.cells() == {}
    ran = checkout.make("ladder", **given)
    assert ran.status == 0, ran.output
    results = checkout.root / "results"
    for study in ("toy", "toy.ladder-2", "toy.ladder-4"):
        assert len(list(results.glob(f"{study}/*/seed-*/*/summary.json"))) == 2
        assert (results / study / "report-trial.md").exists()
        assert not (results / study / "report.md").exists()
    report = (results / "toy.ladder-trial.md").read_text()
    assert "A description, no verdict" in report and "## Trend" in report
    assert "Trial: MAX\\_ITERS=4 makes" in report
    assert report.count("toy.ladder-4/report-trial.md") == 1
    assert (results / "toy.ladder-trial.html").exists()
    assert (results / "toy.ladder-trial.png").read_bytes().startswith(b"\x89PNG")
    assert not [*results.glob("toy.ladder.*")]

    narrow = checkout.root / "defconfigs/fragments/narrow.config"
    narrow.write_text("# Help: narrow\nCONFIG_GPT2_WIDTH=32\n")
    refused = checkout.make("ladder", **given | {"CONFIG_LADDER": "narrow ."})
    assert refused.status == 2
    assert "the size narrow is another study" in refused.output
    assert "01-latent: attn_mlp_ratio is 1:" in refused.output
