"""A sparse mixer that reads everything says so."""

import pytest

from kconf.dense import reads_all
from kconf.overrides import Overrides

NSA = {"MIXER_NSA": "y", "GPT2_BLOCK_SIZE": "1024"}
EVERY = "16 (CONFIG_NSA_TOP) of 64 tokens (CONFIG_NSA_BLOCK / divisor) hold CONFIG_GPT2"


@pytest.mark.parametrize(
    "symbols, dense",
    [
        ({}, False),
        (NSA, True),  # the paper's sizes: 16 · 64 = 1024
        ({**NSA, "GPT2_BLOCK_SIZE": "1025"}, False),
        ({**NSA, "NSA_TOP": "15"}, False),
        ({**NSA, "LENGTH_DIVISOR": "2"}, False),
        ({**NSA, "NSA_BRANCHES_CMP_WIN": "y"}, False),
        ({**NSA, "NSA_BRANCHES_CMP_SEL": "y"}, True),
        ({**NSA, "NSA_BRANCHES_SEL": "y", "NSA_SHARED_KV": "y"}, True),
        ({**NSA, "NSA_BRANCHES_SEL_WIN": "y", "NSA_SHARED_KV": "y"}, True),
    ],
)
def test_what_reads_all(real, symbols, dense):
    told = reads_all(real.resolve([Overrides(symbols)]).values)
    assert [EVERY in line for line in told] == [True] * dense
