"""The needle's measurement: what chooses, against the oracle, and what it finds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2.measure.needle import NEEDLES, Blocks, Needle, choose_blocks, measure
from tests.oracles.nsa.blocks import block_scores, choice, compressed_blocks
from tests.oracles.nsa.blocks import group_scores
from tests.oracles.nsa.layer import probabilities

ROOT = Path(__file__).resolve().parents[3]
ONE, FOUR, EIGHT, LONG = NEEDLES.values()


@pytest.mark.parametrize(
    "T, H, G, sizes",
    [
        (61, 6, 2, (4, 2, 4, 5)),
        (70, 3, 1, (8, 4, 8, 4)),
        (64, 4, 4, (6, 2, 8, 3)),
        (33, 2, 1, (1, 1, 1, 4)),
        (9, 2, 1, (4, 4, 8, 3)),
        (3, 2, 1, (4, 2, 4, 5)),
    ],
)
def test_the_choice_is_the_oracle_s(T, H, G, sizes):
    l, d, b, n = sizes
    stream = torch.Generator().manual_seed(T)
    q_BHD = torch.randn(2, H, 4, generator=stream, dtype=torch.float64)
    k_BTGD = torch.randn(2, T, G, 4, generator=stream, dtype=torch.float64)
    chosen_BGn = choose_blocks(q_BHD, k_BTGD, Blocks(*sizes))
    for r in range(2):
        for g in range(G):
            rows = []
            for h in range(g * H // G, (g + 1) * H // G):
                starts = [i * d for i in range(compressed_blocks(T, l, d))]
                keys = [k_BTGD[r, s : s + l, g].mean(0) for s in starts]
                p = probabilities(q_BHD[r, h], keys).tolist()
                rows.append(block_scores(p, (T - 1) // b + 1, l, d, b))
            wanted = choice(group_scores(rows), n, forced=True)
            assert chosen_BGn[r, g].tolist() == wanted


def test_of_equal_scores_the_lower_index():
    q_BHD, k_BTGD = torch.ones(1, 1, 8), torch.zeros(1, 65536, 1, 8)
    chosen_BGn = choose_blocks(q_BHD, k_BTGD, Blocks())
    assert chosen_BGn[0, 0].tolist() == [*range(14), 1022, 1023]


def test_found_at_4k():
    """62 %: a key of ordinary norm is no needle for mean φ. Eight, or four times the
    norm, are found always.
    """
    one = measure(ONE, 4096, 800, place="middle")
    assert abs(one.share - 0.62) < 0.05 and one.error < 0.02
    assert measure(EIGHT, 4096, 100).share >= 0.99
    assert measure(LONG, 4096, 100).share >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("T, share", [(16384, 0.30), (65536, 0.14)])
def test_found_in_long_rows(T, share):
    one = measure(ONE, T, 1000, place="middle").share
    assert abs(one - share) < 0.05
    assert one > measure(ONE, T, 1000).share > one - 0.1
    assert measure(EIGHT, T, 300).share >= 0.99
    assert measure(LONG, T, 300).share >= 0.99


def only_forced(q_BHD, k_BTGD, blocks):
    """The first block and the last two."""
    last = (k_BTGD.shape[1] - 1) // blocks.b
    return torch.tensor([0, last - 1, last]).expand(q_BHD.shape[0], 1, 3)


def a_block_too_late(q_BHD, k_BTGD, blocks):
    """What the reference chooses, one further on."""
    return choose_blocks(q_BHD, k_BTGD, blocks) + 1


def test_what_chooses_is_measured():
    """3 of 64 blocks by chance; dense where n b >= T; not the block beside it."""
    assert 0.02 < measure(ONE, 4096, 200, choose=only_forced).share < 0.08
    assert measure(ONE, 1024, 50).share == 1
    late = measure(EIGHT, 4096, 100, choose=a_block_too_late).share
    assert late < 0.5
    double = measure(ONE, 4096, 50, choose=choose_blocks, dtype=torch.float64)
    assert double == measure(ONE, 4096, 50)


def test_a_trial_is_of_its_seed():
    assert measure(ONE, 2048, 64, seed=1) == measure(ONE, 2048, 64, seed=1)
    shares = {measure(ONE, 2048, 64, seed=seed).share for seed in range(4)}
    assert len(shares) > 1


def test_what_is_refused():
    with pytest.raises(ValueError, match="l <= b"):
        Blocks(l=64, d=16, b=32)
    with pytest.raises(ValueError, match="n >= 3"):
        Blocks(n=2)
    with pytest.raises(ValueError, match="copies=9.* has no place .anywhere. in 8"):
        measure(Needle(copies=9), 8, 1)
    with pytest.raises(ValueError, match="no place .middle. in 4096 tokens"):
        measure(ONE, 4096, 1, blocks=Blocks(b=32), place="middle")
    with pytest.raises(ValueError, match="'end': anywhere or middle"):
        measure(ONE, 4096, 1, place="end")


def test_the_script():
    command = ["scripts/nsa_needle.py", "--tokens=1024,2048", "--trials=8", "--n=4"]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].split()[-2:] == ["1,024", "2,048"]
    assert [line[:28].strip() for line in lines[1:]] == list(NEEDLES)
    assert lines[3].split()[-6:] == ["100.0", "±", "0.0"] * 2
