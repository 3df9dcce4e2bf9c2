"""make compare-commits, on two commits of a copy of this repository."""

import subprocess

import pytest

from gpt2.measure.commit_comparison import Difference, differences, table

ONE = "gpt2-attention-ablation/07-sliding"


def test_what_differs_and_what_was_declared():
    old = {"flops_per_token": 5, "losses": [1.0, 2.0], "logits": "ab"}
    new = {"flops_per_token": 4, "losses": [1.0, 2.5], "logits": "ab"}
    found = differences("n", old, new, other_flops=False)
    assert found == [
        Difference("n", "flops_per_token", 5, 4, wanted=False),
        Difference("n", "losses", [1.0, 2.0], [1.0, 2.5], wanted=False),
    ]
    assert "losses[1]" in table(found) and "2.0 -> 2.5" in table(found)
    declared = differences("n", old, new, other_flops=True)
    assert [one.wanted for one in declared] == [True, False]
    (same,) = differences("n", old, old, other_flops=True)
    assert not same.wanted and "declared to differ" in table([same])
    assert differences("n", old, old, other_flops=False) == []


@pytest.mark.slow
def test_a_changed_decay_is_found(checkout):
    """The networks are equal, their training is not, and nothing else is said."""

    def commit() -> None:
        for words in (["add", "-A"], ["commit", "-qm", "x"]):
            who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
            subprocess.run(["git", *who, *words], cwd=checkout.root, check=True)

    subprocess.run(["git", "init", "-q"], cwd=checkout.root, check=True)
    commit()
    checkout.edit(
        "gpt2/optim/build.py",
        '"weight_decay": settings.weight_decay,',
        '"weight_decay": 2 * settings.weight_decay,',
    )
    commit()
    words = {"OLD": "HEAD~1", "ONLY": ONE}
    equal = checkout.make("-s", "compare-commits", NEW="HEAD~1", **words)
    assert equal.status == 0 and equal.output.endswith("\nequal\n"), equal.output
    changed = checkout.make("-s", "compare-commits", NEW="HEAD", **words)
    assert changed.status and f"{ONE:48} losses[1]" in changed.output, changed.output
    assert "logits" not in changed.output and "flops" not in changed.output
    undeclared = checkout.make(
        "-s", "compare-commits", NEW="HEAD~1", EXPECT_FLOPS=ONE, **words
    )
    assert undeclared.status and "declared to differ" in undeclared.output
