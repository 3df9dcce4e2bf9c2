"""What a newcomer types first, and what is said then."""

import random
import re

# tiny, so small that a run takes a second
SMALLER = {"MAX_ITERS=400": "MAX_ITERS=6", "EVAL_WINDOWS=128": "EVAL_WINDOWS=8"}
SMALLER |= {"INTERVAL=100": "INTERVAL=3", "STEPS=40": "STEPS=2"}
SMALLER |= {"LAYERS=4": "LAYERS=1", 'SEEDS="1-3"': 'SEEDS="1"'}
STUDY = "gpt2-ratio-ablation+tiny+quick+text"
CELLS = ["00-baseline/seed-1", "08-mla/seed-1"]


def shrink(checkout) -> None:
    """The overlays tiny and quick, for a test."""
    for old, new in SMALLER.items():
        checkout.edit("defconfigs/fragments/tiny.config", old, new)
    checkout.edit("defconfigs/fragments/quick.config", "0,2,8-9", "0,8")


def test_quickstart_on_a_text(checkout):
    """On one's own file; the report, the plan and make then speak of its steps."""
    shrink(checkout)
    refused = checkout.make("quickstart", TEXT="absent.txt")
    assert refused.status == 2 and "TEXT=absent.txt: no such file" in refused.output
    words = random.Random(0).choices("the cat and a dog saw one bird".split(), k=4000)
    (checkout.root / "my text.txt").write_text(" ".join(words))
    done = checkout.make("quickstart", TEXT="my text.txt")
    assert done.status == 0, done.output
    assert "check: 2 of 2 steps keep every promise" in done.output
    assert sorted(checkout.cells()) == CELLS
    shown = done.output.partition("\nnext:\n")[2]
    assert f"  open results/{STUDY}/report.html\n" in shown
    assert "make generate RUN=newest" in shown and "make new-study NAME=" in shown

    verdicts = re.search("Verdicts: .*", done.output)[0]
    reported = checkout.make("report")
    assert reported.status == 0 and verdicts in reported.output
    assert f"{STUDY}: 2 cells (2 done)" in checkout.make("plan").output
