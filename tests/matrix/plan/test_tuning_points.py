"""CONFIG_TUNE read: lists are crossed, ranges give Sobol points, the rest is refused."""

import math

import pytest

from kconf.bind import SettingsError
from matrix.evidence.tuning import OPTIMIZER
from matrix.plan.tuning_points import MENU, at_edge, points_of, trial_id
from matrix.settings import TuningSettings


def read(tree, symbols, points=0):
    return points_of(tree, TuningSettings(symbols, points, "901"))


def test_lists_are_crossed_in_their_order(tree):
    found = read(tree, "CONFIG_LEARNING_RATE=3e-4, 6e-4;GPT2_WARMUP_STEPS=10,20")
    assert [tuple(point.values()) for point in found] == [
        ("3e-4", "10"),
        ("3e-4", "20"),
        ("6e-4", "10"),
        ("6e-4", "20"),
    ]
    assert list(found[0]) == ["LEARNING_RATE", "GPT2_WARMUP_STEPS"]
    name = "02-wide-learning-rate-3e-4-gpt2-warmup-steps-10"
    assert trial_id("02-wide", found[0]) == name


RANGES = "LEARNING_RATE=1e-5..1e-2;ADAM_BETA2=0.9..0.99:linear"


@pytest.mark.parametrize("count", [4, 8, 16])
def test_sobol_points_are_spread_evenly(tree, count):
    """One in each of `count` equal parts: of the logarithm, or of the range itself."""
    found = read(tree, RANGES, count)
    rates = [math.log10(float(p["LEARNING_RATE"])) for p in found]
    betas = [float(p["ADAM_BETA2"]) for p in found]
    for values, low, high in ((rates, -5.0, -2.0), (betas, 0.9, 0.99)):
        parts = [int(count * (x - low) / (high - low)) for x in sorted(values)]
        inner = [part for part, x in zip(parts, sorted(values)) if low < x < high]
        assert len(inner) == count
        assert max(abs(part - n) for n, part in enumerate(parts)) <= 1
    assert found == read(tree, RANGES, count)


def test_a_range_of_whole_numbers(tree):
    found = read(tree, "GPT2_WARMUP_STEPS=10..1000", 4)
    assert all(10 <= int(point["GPT2_WARMUP_STEPS"]) <= 1000 for point in found)


@pytest.mark.parametrize(
    "symbols, points, why",
    [
        ("LEARNING_RATE", 0, "neither SYMBOL=value,value nor"),
        ("LEARNING_RATE=3e-4", 0, "has 1 points: a tuning tries 2"),
        ("LEARNING_RATE=3e-4,x", 0, "'x' is not a number"),
        ("LEARNING_RATE=3e-4,1_0", 0, "'1_0' is not a number"),
        ("LEARNING_RATE=3e-4,٣", 0, "'٣' is not a number"),
        ("LEARNING_RATE=3e-4,0.0003", 0, "names a number twice"),
        ("LEARNING_RATE=3e-4,6e-4;LEARNING_RATE=1,2", 0, "names CONFIG_LEARNING_RATE"),
        ("LEARNING_RAT=3e-4,6e-4", 0, "did you mean CONFIG_LEARNING_RATE"),
        ("MLP_DIM=64,128", 0, "is not of the menu 'Optimizer'"),
        ("GPT2_MAX_ITERS=5,10", 0, "is not of the menu 'Optimizer'"),
        ("OPTIMIZER_SGD=0,1", 0, "is no number"),
        ("LEARNING_RATE=3e-4,6e-4", 4, "is for ranges"),
        ("LEARNING_RATE=1e-4..1e-3", 0, "is no power of two"),
        ("LEARNING_RATE=1e-4..1e-3", 6, "is no power of two"),
        ("LEARNING_RATE=1e-3..1e-4", 4, "the range 1e-3..1e-4 is empty"),
        ("WEIGHT_DECAY=0..0.1", 4, "write 0..0.1:linear"),
        ("LEARNING_RATE=1e-4..1e-3;WEIGHT_DECAY=0,0.1", 4, "lists and ranges"),
        ("GPT2_WARMUP_STEPS=1..2", 8, "has two equal points"),
    ],
)
def test_what_has_no_meaning_is_refused(tree, symbols, points, why):
    with pytest.raises(SettingsError) as caught:
        read(tree, symbols, points)
    assert why in str(caught.value)


def test_an_edge_is_the_first_or_last_number_tried():
    points = [{"A": a, "B": "1"} for a in ("1e-2", "3e-3", "0.1")]
    assert at_edge(points, {"A": "1e-2", "B": "1"}) == []
    assert at_edge(points, {"A": "3e-3", "B": "1"}) == [
        "CONFIG_A=3e-3 is the lowest tried"
    ]
    assert at_edge(points, {"A": "0.1", "B": "1"}) == [
        "CONFIG_A=0.1 is the highest tried"
    ]


def test_the_optimizers_symbols_are_all_there(tree):
    """A new one must be seen by whoever asks whose rate was set for it alone."""
    menu = {
        symbol
        for symbol in tree.symbols
        if tree.menus(symbol)[:1] == (MENU,)
        and not tree.siblings(symbol)
        and tree.prompt(symbol)
    }
    assert menu == set(OPTIMIZER)
