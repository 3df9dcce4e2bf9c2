"""What a newcomer types first, and what is said then."""

import random
import re

import pytest

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
    assert f"  results/{STUDY}/report.html\n" in shown
    assert "make generate RUN=newest" in shown and "make new-study NAME=" in shown

    verdicts = re.search("Verdicts: .*", done.output)[0]
    reported = checkout.make("report")
    assert reported.status == 0 and verdicts in reported.output
    planned = checkout.make("plan").output
    assert f"{STUDY}: 2 cells (2 done)\nin results/{STUDY}\n" in planned
    for path in (checkout.root / "results" / STUDY).glob("*/*/????????"):
        name = "/".join(path.parts[-3:])
        assert re.search(rf"^{name} +done +done, 6 steps$", planned, re.M), planned
    names(checkout)


def names(checkout) -> None:
    """A run, a step and a study by what one types, through make."""
    made = checkout.make("generate", RUN="8/seed-1", TOKENS="3")
    assert made.status == 0 and "3 tokens: " in made.output, made.output
    steps = checkout.make("compare", A=f"{STUDY}/00", B="08-mla")
    assert steps.status == 0 and "means of seeds 1 " in steps.output, steps.output
    assert "  CONFIG_MLA: n | y\n" in steps.output
    watched = checkout.make("watch", STUDY=STUDY, ONCE="1")
    assert watched.status == 0 and "2 done" in watched.output
    absent = checkout.make("watch", STUDY="quick")
    assert f"STUDY=quick: no such study; results holds {STUDY}\n" in absent.output


@pytest.mark.slow
def test_a_study_of_ones_own(checkout):
    """From a text file to a verdict, by what new-study prints."""
    shrink(checkout)
    words = random.Random(0).choices("the cat and a dog saw one bird".split(), k=4000)
    (checkout.root / "novel.txt").write_text(" ".join(words))
    source = {"FROM": "gpt2-ratio-ablation+tiny+text", "TEXT": "novel.txt"}
    page = checkout.make("new-study", NAME="mine", **source)
    assert page.status == 0, page.output
    again = checkout.make("new-study", NAME="mine", **source)
    assert again.status == 2 and "NAME=mine: defconfigs/mine is there" in again.output
    assert checkout.make("defconfig-mine").status == 0
    checked = checkout.make("check")
    assert checked.status == 0 and "check: 2 of 2 steps" in checked.output
    planned = checkout.make("plan", SEEDS="1-6")
    assert planned.status == 0 and "12 unpacked" in planned.output
    for target in ("data", "prereg", "all"):
        done = checkout.make(target, SEEDS="1-6")
        assert done.status == 0, done.output
    assert "SUPPORTED is possible" in done.output and "(preregistered)" in done.output
    verdict = checkout.make("verdict", SEEDS="1-6", STEP="1")
    assert (
        verdict.status == 0
        and "01-without-biases against 00-baseline" in verdict.output
    )
    absent = checkout.make("generate", RUN="9/seed-1")
    assert absent.status == 2 and "Traceback" not in absent.output
    assert "RUN=9/seed-1: no such run; there are\n  mine/00-b" in absent.output
    exported = checkout.make("export", RUN="newest", FORMAT="native")
    assert exported.status == 0, exported.output
    evaluated = checkout.make("eval", STUDY="mine", TEXT="novel.txt")
    assert evaluated.status == 0 and "12 runs to evaluate" in evaluated.output


def test_the_anchor_trains(checkout):
    """Two steps of it: its configuration is whole, and its loss is named."""
    (checkout.root / "t.txt").write_text("To be, or not to be: that is it.\n" * 9000)
    done = checkout.make("anchor", "TEXT=t.txt", "MAX_ITERS=2")
    assert "anchor-cpu: best validation loss " in done.output, done.output
    assert "NOT reached" in done.output and done.status == 2
