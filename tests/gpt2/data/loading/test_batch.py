"""What is asked for is what happens, or it is an error."""

import pytest

from gpt2.data.loading.batch import Batch, resolve
from kconf.bind import SettingsError


def never(micro):
    raise AssertionError("no estimate is needed")


def train(small, micro, accumulation, effective):
    return small(
        BATCH_SIZE=str(micro),
        GPT2_GRADIENT_ACCUMULATION=str(accumulation),
        EFFECTIVE_BATCH=str(effective),
    ).train


@pytest.mark.parametrize(
    "micro, accumulation, effective, ranks, wanted",
    [
        (8, 0, 0, 1, (8, 1)),
        (8, 3, 0, 2, (8, 3)),
        (8, 0, 64, 1, (8, 8)),
        (8, 0, 64, 4, (8, 2)),
        (8, 8, 64, 1, (8, 8)),
        (0, 4, 64, 2, (8, 4)),
    ],
)
def test_products(small, micro, accumulation, effective, ranks, wanted):
    batch = resolve(train(small, micro, accumulation, effective), ranks, 0, never)
    assert batch == Batch(*wanted, ranks)
    if effective:
        assert batch.effective == effective


@pytest.mark.parametrize(
    "micro, accumulation, effective, ranks, symbol",
    [
        (8, 4, 64, 1, "EFFECTIVE_BATCH"),
        (7, 0, 64, 1, "EFFECTIVE_BATCH"),
        (128, 0, 64, 1, "EFFECTIVE_BATCH"),
        (8, 0, 64, 3, "EFFECTIVE_BATCH"),
        (0, 3, 64, 1, "EFFECTIVE_BATCH"),
    ],
)
def test_refusals(small, micro, accumulation, effective, ranks, symbol):
    with pytest.raises(SettingsError) as caught:
        resolve(train(small, micro, accumulation, effective), ranks, 0, never)
    assert caught.value.symbol == symbol


@pytest.mark.parametrize("micro, accumulation", [(12, 4), (8, 4), (0, 5)])
def test_what_is_said_whole_is_refused_before_a_cell(small, micro, accumulation):
    with pytest.raises(SettingsError, match="EFFECTIVE_BATCH=96: is not .*follows"):
        train(small, micro, accumulation, 96)


def test_automatic_takes_the_largest_divisor_that_fits(small):
    settings = train(small, 0, 0, 24)
    batch = resolve(settings, 1, 1000, lambda micro: 100 * micro)
    assert (batch.micro, batch.accumulation) == (8, 3)
    batch = resolve(settings, 2, 1000, lambda micro: 100 * micro)
    assert (batch.micro, batch.accumulation) == (6, 2)


def test_automatic_says_when_nothing_fits(small):
    with pytest.raises(SettingsError, match="one sequence needs 2.0 GiB.*has 1.0 GiB"):
        resolve(train(small, 0, 0, 24), 1, 2**30, lambda micro: micro * 2**31)


def test_automatic_without_an_effective_batch_is_refused(small):
    with pytest.raises(SettingsError, match="CONFIG_BATCH_SIZE=0"):
        train(small, 0, 0, 0)
