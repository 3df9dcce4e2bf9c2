"""MFU is of all devices of a run: their tokens over all their peaks."""

import json

import pytest

from tests.conftest import ROOT
from tests.gpt2.ranks import finish, launch, rows

SCRIPT = ROOT / "tests" / "gpt2" / "train_at_peak.py"
PEAK = 1e11  # FLOP/s of each device


@pytest.mark.parametrize("ranks", [1, 2])
def test_mfu_by_the_stated_peak(cell, corpus, ranks):
    """From the records of a run: tokens a second of all ranks together, the FLOPs of
    each, over the peak of as many devices; and as its log says it.
    """
    directory = cell(GPUS_PER_RUN=str(ranks), EFFECTIVE_BATCH="8", GPT2_MAX_ITERS="6")
    process = launch(ranks, SCRIPT, PEAK, corpus, directory)
    log = finish(process)
    assert process.returncode == 0, log
    (facts,) = rows(directory, "facts")
    assert facts["ranks"] == ranks and facts["tokens_per_step"] == 8 * 16
    timed = [r for r in rows(directory, "train") if r["tokens_per_s"]]
    assert len(timed) > 3
    for last, row in zip(timed, timed[1:]):
        taken = row["time"] - last["time"]
        assert row["tokens_per_s"] == pytest.approx(8 * 16 / taken)
        done = row["tokens_per_s"] * facts["flops_per_token"]
        assert row["mfu"] == pytest.approx(done / (ranks * PEAK))
    assert f"MFU {100 * timed[-1]['mfu']:.1f} %" in log
    told = f" for each of {ranks} ranks"
    assert (told in log) == (ranks > 1)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["device"]["peak_flops"] == PEAK
