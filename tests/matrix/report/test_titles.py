"""The titles of a report's tables, each above the column that holds it."""

import pytest

from matrix.report import arm_tables, tables
from matrix.report.plots import attention_statistics, learning_rates, loss_against_cost
from tests.matrix.test_positions import HOT, ROWS, WHOLE, WIDE

NUMBERED = {
    tables.loss_table: "Seeds, Validation loss, nats/token, SD, Bits/byte, Difference, "
    "SD of difference, Pairs",
    tables.size_table: "Parameters, Without embeddings, FLOPs/token, "
    "Cache/token, one layer, Cache/token, all layers",
    tables.cache_table: "1k tokens, 16k tokens, 64k tokens",
    tables.speed_table: "Tokens/s, Training time, Wall time, Peak memory, Energy, J/token",
}


@pytest.mark.parametrize("table", NUMBERED, ids=lambda table: table.__name__)
def test_the_titles_of_the_numbers(table):
    """Above the column that holds them, between the step and its runs."""
    found = table(ROWS, 3) if table is tables.loss_table else table(ROWS)
    titles = [(column.title, column.kind) for column in found.columns]
    assert (titles[0], titles[-1]) == (("Step", "code"), ("Runs", "ref"))
    assert {kind for _, kind in titles[1:-1]} == {"number"}
    assert ", ".join(title for title, _ in titles[1:-1]) == NUMBERED[table]


def test_the_titles_of_other_tables():
    line = learning_rates.Series("adamw", ((1e-3, "1e-3", 3.0, (3.0,)),), ("R1",))
    panel = attention_statistics.Panel(WIDE, "R2", ({0: (1.0, 1.0, 1.0)},))
    cost = (
        loss_against_cost.COSTS[2],
        loss_against_cost.points(ROWS, loss_against_cost.COSTS[2]),
    )
    assert [
        [f"{column.title}:{column.kind}" for column in found.columns]
        for found in (
            tables.runs_table(ROWS),
            tables.open_table(WHOLE),
            tables.steps_table(ROWS),
            arm_tables.arms_table(ROWS),
            arm_tables.seeds_table(ROWS),
            learning_rates.table([line]),
            attention_statistics.table({"entropy": [panel], "kurtosis": [panel]}),
            loss_against_cost.table(ROWS, [cost]),
        )
    ] == [
        ["Runs:anchor", "Step:code", "Seed:number", "Validation loss:number"]
        + ["Difference:number", "Run directory:code"],
        ["Step:code", "Seed:number", "State:text", "Cause:text", "Run directory:code"],
        ["Step:code", "Description:text", "Changes:text", "Implied:text"],
        ["Arm:code", "Validation loss, nats/token:number", "Minus control:number"]
        + ["Minus dense arm:number", "Pairs:number", "Dense arm:code"]
        + ["Sparsity:number", "Of all parameters:number", "Step time:number"]
        + ["Peak memory:number", "Runs:ref"],
        ["Arm:code", "Seed:number", "Validation loss:number", "Minus control:number"]
        + ["Minus dense arm:number", "Sparsity:number", "Of all parameters:number"]
        + ["Step time:number", "Peak memory:number", "Run directory:code"],
        ["Arm:text", "Rates:number", "Lowest validation loss:number", "At rate:number"]
        + ["Worst minus lowest:number", ":text", "Runs:ref"],
        ["Step:code", "entropy:number", "kurtosis:number", "Runs:ref"],
        ["Step:code", "Validation loss, nats/token:number", "Parameters:number"]
        + ["On the front of:text", "Runs:ref"],
    ]


def test_every_cell_of_an_arm():
    """Sparsity, step time and memory of an arm and of each of its runs."""
    _, _, hot = arm_tables.arms_table(ROWS).rows
    assert hot[6:] == ("70.00 %", "7.00 %", "10.0 ms", "12.00 GiB", "R3")
    lines = [line for line in arm_tables.seeds_table(ROWS).rows if line[0] == HOT]
    assert [line[5:] for line in lines] == [
        ("50.00 %", "5.00 %", "8.0 ms", "8.00 GiB", f"{HOT}/seed-5/00000000"),
        ("90.00 %", "9.00 %", "12.0 ms", "12.00 GiB", f"{HOT}/seed-9/00000000"),
    ]
