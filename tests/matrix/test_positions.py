"""Steps 7, 12, 3 and seeds 5, 2, 9: no number is taken for a position.

Every table, plot and file of a report is compared with numbers by hand, which differ
for every step, seed, layer and optimizer step, so that any two exchanged show.
"""

import csv
import io
import math
from dataclasses import replace

import pytest

from matrix.report import arm_tables, compare
from matrix.report import evaluation_section
from matrix.report import tables
from matrix.report.plots import attention_statistics, common, loss_against_cost
from matrix.report.plots import final_losses, learning_curves, learning_rates
from matrix.report.plots import sparsity, speed_memory
from matrix.report.write import render_terminal
from matrix.results import evaluations, fairness
from matrix.results import runs_csv
from matrix.results.cache_size import cache_bytes
from matrix.results.recorded import IN_CSV
from matrix.results.rows import make_rows
from matrix.results.run import Run
from matrix.results.selection import Selection, Terms
from matrix.results.study import Open
from tests.matrix.imagined import STEPS, evidence, report, run, study

CONTROL, WIDE, HOT = "07-control", "12-wide", "03-hot"
SEEDS = (5, 2, 9)
LOSS = {
    CONTROL: {5: 3.10, 2: 3.25, 9: 3.47},
    WIDE: {5: 3.01, 2: 3.20, 9: 3.33},
    HOT: {9: 3.50, 5: 3.05},
}
RISE = {CONTROL: 0.0, WIDE: 0.02, HOT: 0.05}


def earlier(step: str, seed: int) -> list[float]:
    """The evaluations of a run at STEPS; before the last they lie further apart."""
    final = LOSS[step][seed]
    return [9.0 + final, 5 * final, 2 * final + RISE[step] * seed, final]


def facts(step: str, seed: int) -> dict:
    """What a run measured; each number by its step and seed."""
    size = 1000 * int(step[:2])
    return {
        "run": {"cell": {"stage": f"stage {seed}", "changes": []}},
        "config": {"GPT2_LAYERS": 3, "GPT2_BLOCK_SIZE": 16},
        "energy": {"joules": 100.0 * seed + int(step[:2]), "per_token": 0.5 * seed},
        "summary": {
            "tokens_per_s": 100.0 * seed + int(step[:2]),
            "train_time": 10.0 * seed,
            "total_time_all_attempts": 20.0 * seed,
            "average_step_time": 0.001 * (seed + int(step[:2])),
            "peak_memory_bytes": (seed + int(step[:2])) * 2**30,
            "sparsity": {"covered": 0.1 * seed, "all": 0.01 * seed},
            "facts": {
                "parameters": size + 1,
                "parameters_no_embedding": size + 2,
                "flops_per_token": 1000 * size,
                "cache_per_token_layer": size // 100,
                "cache_constant_layer": 4 if step == HOT else 0,
                "dtype": "fp32" if step == HOT else "bf16",
            },
        },
    }


def made(**more) -> tuple:
    """The study and its rows."""
    base = study({CONTROL: {}, WIDE: {}, HOT: {}}, seeds=SEEDS)
    counted = {
        (step, seed): run(step, seed, earlier(step, seed), **facts(step, seed))
        for step, losses in LOSS.items()
        for seed in losses
    }
    counted = {key: change(key, each, more) for key, each in counted.items()}
    whole = replace(base, runs=tuple(counted.values()), counted=counted)
    return whole, make_rows(whole)


def change(key, each: Run, more: dict) -> Run:
    """A run with what `more` says for its step and seed."""
    return replace(each, **{name: of(*key) for name, of in more.items()})


WHOLE, ROWS = made()
REFS = {CONTROL: "R1", WIDE: "R2", HOT: "R3"}


def average(values) -> float:
    return math.fsum(values) / len(values)


def spread(values) -> float:
    middle = average(values)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in values) / (len(values) - 1))


def less(step: str) -> dict[int, float]:
    """Arm minus control by seed, in their order."""
    both = LOSS[step].keys() & LOSS[CONTROL].keys()
    return {k: LOSS[step][k] - LOSS[CONTROL][k] for k in sorted(both)}


# -- rows and tables


def test_rows():
    assert [row.step for row in ROWS] == [CONTROL, WIDE, HOT]
    for row in ROWS:
        mine = LOSS[row.step]
        assert (row.ref, dict(row.losses)) == (REFS[row.step], mine)
        assert list(row.runs) == list(row.losses) == sorted(mine)
        assert all(row.runs[k].seed == k and row.runs[k].step == row.step for k in mine)
        assert (row.mean, row.sd) == approx(
            average(mine.values()), spread(mine.values())
        )
        expected = {} if row.step == CONTROL else less(row.step)
        assert row.differences == pytest.approx(expected)
        assert row.bits == pytest.approx(average(mine.values()) / 2)
    assert ROWS[1].difference == pytest.approx(average(less(WIDE).values()))
    assert ROWS[1].difference_sd == pytest.approx(spread(less(WIDE).values()))


def approx(*values):
    return tuple(map(pytest.approx, values))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_mean_of_the_last_evaluations(k):
    """The last k in the order of their steps, without the one at step 0."""
    for row in make_rows(WHOLE, Selection(terms=Terms(last_evals=k))):
        for seed, loss in row.losses.items():
            last = earlier(row.step, seed)[1:][-k:]
            assert loss == pytest.approx(average(last))


def test_the_table_of_losses():
    found = tables.loss_table(ROWS, 3).rows
    for line, (step, seeds) in zip(
        found, [(CONTROL, "3"), (WIDE, "3"), (HOT, "2 of 3")]
    ):
        mine, first = LOSS[step].values(), step == CONTROL
        d = less(step).values()
        assert line == (
            *(step, seeds, f"{average(mine):.4f}", f"{spread(mine):.5f}"),
            f"{average(mine) / 2:.4f}",
            "control" if first else f"{average(d):+.5f}",
            "–" if first else f"{spread(d):.5f}",
            "–" if first else str(len(d)),
            REFS[step],
        )


def test_the_tables_of_sizes_and_speeds():
    assert tables.size_table(ROWS).rows == (
        (CONTROL, "7.00K", "7.00K", "7.00M", "70", "210", "R1"),
        (WIDE, "12.00K", "12.00K", "12.00M", "120", "360", "R2"),
        (HOT, "3.00K", "3.00K", "3.00M", "30 + 4", "90 + 12", "R3"),
    )
    assert tables.speed_table(ROWS).rows == (
        (CONTROL, "540", "53s", "1m 47s", "16.00 GiB", "540 J", "2.67", "R1"),
        (WIDE, "545", "53s", "1m 47s", "21.00 GiB", "545 J", "2.67", "R2"),
        (HOT, "703", "1m 10s", "2m 20s", "12.00 GiB", "703 J", "3.5", "R3"),
    )


def test_the_table_of_runs():
    """A line per run; the anchor stands at the first of a step."""
    expected = []
    for step in (CONTROL, WIDE, HOT):
        for seed in sorted(LOSS[step]):
            d = less(step).get(seed) if step != CONTROL else None
            expected.append(
                (
                    REFS[step] if seed == min(LOSS[step]) else "",
                    step,
                    str(seed),
                    f"{LOSS[step][seed]:.4f}",
                    "–" if d is None else f"{d:+.5f}",
                    f"{step}/seed-{seed}/00000000",
                )
            )
    assert tables.runs_table(ROWS).rows == tuple(expected)


def test_cells_that_are_open():
    """Of one cause together, by seed."""
    lost = [
        Open(WIDE, 9, "failed", "x", None),
        Open(HOT, 12, "failed", "x", None),
        Open(WIDE, 7, "failed", "x", None),
        Open(WIDE, 8, "failed", "x", None),
        Open(WIDE, 3, "missing", "never ran", "d"),
    ]
    assert tables.open_table(replace(WHOLE, open=tuple(lost))).rows == (
        (WIDE, "7-9", "failed", "x", ""),
        (HOT, "12", "failed", "x", ""),
        (WIDE, "3", "missing", "never ran", "d"),
    )


def test_the_terminal():
    lines = render_terminal(report(WHOLE, evidence(()))).splitlines()
    assert [line.split()[:4] for line in lines[3:6]] == [
        [CONTROL, "3/3", f"{average(LOSS[CONTROL].values()):.4f}"]
        + [f"{spread(LOSS[CONTROL].values()):.5f}"],
        [WIDE, "3/3", f"{average(LOSS[WIDE].values()):.4f}"]
        + [f"{spread(LOSS[WIDE].values()):.5f}"],
        [HOT, "2/3", f"{average(LOSS[HOT].values()):.4f}"]
        + [f"{spread(LOSS[HOT].values()):.5f}"],
    ]
    d = less(HOT).values()
    assert lines[5].split()[4:] == [
        *(f"{average(d):+.5f}", f"{spread(d):.5f}", "2", "3.00K", "703", "2m", "20s")
    ]
    assert lines[3].split()[4:7] == ["control", "–", "–"]


def test_runs_csv():
    """By the header, a line per run directory in the study's order; unrounded."""
    lost = run("99-lost", 7, [1.0])
    whole = replace(WHOLE, runs=(*WHOLE.runs, lost), left_out=(lost,))
    lines = list(csv.DictReader(io.StringIO(runs_csv.csv_text(whole, 2))))
    keys = [(line["step"], int(line["seed"])) for line in lines]
    assert keys == [*((s, k) for s, losses in LOSS.items() for k in losses)] + [
        ("99-lost", 7)
    ]
    for line, (step, seed) in zip(lines[:-1], keys):
        assert float(line["final_loss"]) == LOSS[step][seed]
        assert float(line["loss"]) == average(earlier(step, seed)[-2:])
        assert line["run_dir"] == f"{step}/seed-{seed}/00000000"
        assert line["stage"] == f"stage {seed}" and line["counted"] == "yes"
        assert line["energy_joules"] == str(100.0 * seed + int(step[:2]))
        assert line["energy_per_token"] == str(0.5 * seed)
        assert line["tokens_per_s"] == str(100.0 * seed + int(step[:2]))
        assert line["sparsity"] == str(0.1 * seed)
        assert line["sparsity_of_all"] == str(0.01 * seed)
        assert line["parameters"] == str(1000 * int(step[:2]) + 1)
        assert (line["layers"], line["context"]) == ("3", "16")
    assert (lines[-1]["counted"], lines[-1]["loss"]) == ("left out", "")


def test_every_column_of_runs_csv():
    """Each holds what stands at its place and nothing else does."""
    documents: dict = {"operational": ()}
    for number, (name, path) in enumerate(IN_CSV.items()):
        *parents, last = path.split(".")
        inner = documents
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = f"{number} {name}"
    one = replace(WHOLE.runs[0], documents=documents, why="w", state="failed")
    text = runs_csv.csv_text(replace(WHOLE, runs=(one,), counted={}), 1)
    (line,) = csv.DictReader(io.StringIO(text))
    for number, name in enumerate(IN_CSV):
        assert line[name] == f"{number} {name}"
    rest = {key: line[key] for key in line if key not in IN_CSV}
    assert rest == {
        **{"study": "demo", "step": CONTROL, "seed": "5", "hash": "00000000"},
        **{"run_dir": f"{CONTROL}/seed-5/00000000", "reused": "no", "state": "failed"},
        **{"counted": "no", "loss": "", "error": "w"},
    }
    assert {name for _, name in fairness.MUST_MATCH} - {*IN_CSV} == {"documents_apart"}
    with pytest.raises(KeyError, match="tokens_per_second"):
        one.value("tokens_per_second")


# -- plots


def tokens(step: int) -> int:
    return 50 * step


def test_the_learning_curves():
    """Means over the seeds at the tokens of the evaluations; differences by seed."""
    top, bottom = learning_curves.figure(ROWS).axes
    thick = [line for line in top.lines if line.get_linewidth() == 1.5]
    assert [line.get_label() for line in thick] == [CONTROL, WIDE, HOT]
    for line, step in zip(thick, (CONTROL, WIDE, HOT)):
        runs = [earlier(step, seed) for seed in LOSS[step]]
        assert list(line.get_xdata()) == [tokens(at) for at in STEPS]
        means = [average(values) for values in zip(*runs)]
        assert list(line.get_ydata()) == pytest.approx(means)
    thin = [line for line in top.lines if line.get_linewidth() == 0.5]
    lows = [min(v) for v in zip(*(earlier(WIDE, k) for k in SEEDS))]
    highs = [max(v) for v in zip(*(earlier(WIDE, k) for k in SEEDS))]
    assert list(thin[2].get_ydata()) == lows and list(thin[3].get_ydata()) == highs
    drawn = [line for line in bottom.lines if line.get_linewidth() == 1.5]
    for line, step in zip(drawn, (WIDE, HOT)):
        pairs = [
            [a - b for a, b in zip(earlier(step, k), earlier(CONTROL, k))]
            for k in less(step)
        ]
        assert list(line.get_ydata()) == pytest.approx(
            [average(v) for v in zip(*pairs)]
        )
    assert len(drawn) == 2, "the control has no difference to itself"


def test_evaluations_that_not_all_have():
    """By their tokens, not by their place in the file."""
    a, b = {0: 9.0, 150: 4.0, 350: 3.0}, {0: 8.0, 350: 2.0, 600: 1.0}
    assert learning_curves.subtract(a, b) == {0: 1.0, 350: 1.0}
    low, middle, high = learning_curves.band([a, b])
    assert (low, middle, high) == (
        *({0: 8.0, 350: 2.0}, {0: 8.5, 350: 2.5}),
        {0: 9.0, 350: 3.0},
    )
    assert learning_curves.band([]) == ({}, {}, {})
    assert WHOLE.counted[HOT, 9].curve("tokens") == list(
        zip(map(tokens, STEPS), earlier(HOT, 9))
    )


def test_the_final_losses():
    """A dot per run at its step's height; lines join the runs of a seed."""
    left, right = final_losses.figure(ROWS).axes
    joined = [line for line in left.lines if line.get_color() == common.GREY]
    for line, seed in zip(joined, sorted(SEEDS)):
        have = [step for step in (CONTROL, WIDE, HOT) if seed in LOSS[step]]
        assert list(line.get_xdata()) == [LOSS[step][seed] for step in have]
        places = [[CONTROL, WIDE, HOT].index(step) for step in have]
        assert list(line.get_ydata()) == places
    for axes, values in ((left, LOSS), (right, {s: less(s) for s in (WIDE, HOT)})):
        steps = [step for step in (CONTROL, WIDE, HOT) if step in values]
        for dots, step in zip(axes.collections, steps):
            places = {y for _, y in dots.get_offsets()}
            assert places == {[CONTROL, WIDE, HOT].index(step)}
            found = sorted(x for x, _ in dots.get_offsets())
            assert found == pytest.approx(sorted(values[step].values()))
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == [CONTROL, WIDE, HOT]
    left, _ = final_losses.figure([ROWS[0], ROWS[2], ROWS[1]]).axes
    joined = [line for line in left.lines if line.get_color() == common.GREY]
    assert [list(line.get_ydata()) for line in joined] == [[0, 2], [0, 1, 2], [0, 1, 2]]


def test_speed_and_memory():
    left, right = speed_memory.figure(ROWS).axes
    for axes, path in ((left, "tokens_per_s"), (right, "peak_memory_bytes")):
        for y, (dots, step) in enumerate(zip(axes.collections, LOSS)):
            expected = [facts(step, k)["summary"][path] for k in sorted(LOSS[step])]
            assert [x for x, _ in dots.get_offsets()] == pytest.approx(expected)
            assert {at for _, at in dots.get_offsets()} == {y}
    assert [label.get_text() for label in left.get_yticklabels()] == [*LOSS]


def test_sparsity_by_optimizer_step():
    """At steps 3, 7 and 12, from where all runs have one; a share holds until the next."""
    shares = {
        (WIDE, 5): ((3, 0.1), (12, 0.5)),
        (WIDE, 2): ((7, 0.3), (9, 0.4)),
        (HOT, 9): ((3, 0.7), (7, 0.9)),
    }
    _, rows = made(sparsity=lambda step, seed: shares.get((step, seed), ()))
    assert sparsity.pruned(rows) == [1, 2] and sparsity.pruned(ROWS) == []
    (axes,) = sparsity.figure(rows, [1, 2]).axes
    thick = {x.get_label(): x for x in axes.lines if x.get_linewidth() == 1.5}
    assert list(thick) == [WIDE, HOT]
    assert list(thick[WIDE].get_xdata()) == [7, 9, 12]
    assert list(thick[WIDE].get_ydata()) == pytest.approx([0.2, 0.25, 0.45])
    assert list(thick[HOT].get_xdata()) == [3, 7]
    assert list(thick[HOT].get_ydata()) == [0.7, 0.9]
    assert thick[HOT].get_color() == common.colour(2)
    curve = shares[WIDE, 5]
    assert [sparsity.share_at(curve, at) for at in (3, 11, 12, 13)] == [
        0.1,
        0.1,
        0.5,
        0.5,
    ]


def test_statistics_by_layer_and_step():
    """Layers of a list by layer, steps by their number, from the runs that have both."""

    def statistics(step, seed):
        if step == CONTROL or seed == 2:
            return ()
        at = (0, 7, 12) if seed == 5 else (12, 0, 3)
        return tuple(
            {
                "step": n,
                "entropy": [[seed + n, 1.0], [2.0 * seed + n, None]],
                "kurtosis": [10.0 * seed + n, 0.0],
            }
            for n in at
        )

    found = attention_statistics.panels(make_rows(made(attention=statistics)[0]))
    assert list(found) == ["entropy", "kurtosis"]
    wide, hot = found["entropy"]
    assert (wide.step, wide.ref, hot.step, hot.ref) == (WIDE, "R2", HOT, "R3")
    assert list(wide.layers[0]) == [0, 12]
    assert wide.layers[0][12] == (average([17, 1, 21, 1]), 1.0, 21)
    assert wide.layers[1] == {0: (14.0, 10.0, 18.0), 12: (26.0, 22.0, 30.0)}
    assert wide.last == pytest.approx([10.0, 26.0])
    assert found["kurtosis"][0].layers == (
        {0: (70.0, 50.0, 90.0), 12: (82.0, 62.0, 102.0)},
        {0: (0.0, 0.0, 0.0), 12: (0.0, 0.0, 0.0)},
    )
    assert attention_statistics.table(found).rows == (
        (WIDE, "18.000", "41.000", "R2"),
        (HOT, "18.000", "41.000", "R3"),
    )
    axes, *_ = attention_statistics.figure("entropy", found["entropy"]).axes
    assert [line.get_label() for line in axes.lines] == ["layer 1", "layer 2"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 12]] * 2
    assert attention_statistics.banded(12) == [
        0,
        6,
        11,
    ] and attention_statistics.banded(1) == [0]
    assert attention_statistics.banded(2) == [0, 1]


# -- costs, rates, evaluations, comparisons


def test_loss_against_cost(monkeypatch):
    """A point is its step's mean cost and mean loss; fronts by their values."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "")
    for cost in loss_against_cost.COSTS:
        found = loss_against_cost.points(ROWS, cost, (WIDE,))
        assert [(p.step, p.number, p.aa) for p in found] == [
            *((CONTROL, 0, False), (WIDE, 1, True), (HOT, 2, False))
        ]
        for point in found:
            runs = {k: WHOLE.counted[point.step, k] for k in sorted(LOSS[point.step])}
            assert point.costs == tuple(cost.of(each) for each in runs.values())
            assert point.losses == tuple(LOSS[point.step][k] for k in runs)
            assert point.at == approx(average(point.costs), average(point.losses))
    one = WHOLE.counted[HOT, 9]
    assert cache_bytes(one) == 3 * (16 * 30 + 4) * 4
    assert cache_bytes(WHOLE.counted[WIDE, 9]) == 3 * 16 * 120 * 2
    section = loss_against_cost.section(report(WHOLE, evidence((), aa=(WIDE,))))
    lines = [(line[0], line[1], line[-2], line[-1]) for line in section.blocks[1].rows]
    three = "cache of a full context, step time, parameters"
    assert lines == [
        (CONTROL, "3.2733", f"{three}, energy", "R1"),
        (WIDE, "3.1800", "", "R2"),
        (HOT, "3.2750", three, "R3"),
    ]
    assert section.blocks[1].rows[2][2:6] == ("5.7 KiB", "10.0 ms", "3.00K", "703 J")


def rated(step, rate, seeds, dense=None):
    """A row of a test matrix."""
    point = {"optimizer": "adamw", "pruning": "none", "learning_rate": rate}
    arm = {"run": {"cell": {"arm": {"point": point, "dense": dense}}}}
    return {(step, k): run(step, k, [x], **arm) for k, x in seeds.items()}


def test_rates_by_their_value():
    """As numbers: 3e-4, 0.001, 1e-2; the best by its loss, its reference beside it."""
    losses = {
        "1e-2": {9: 3.9, 2: 3.7},
        "3e-4": {9: 3.3, 2: 3.6},
        "0.001": {9: 3.0, 2: 3.1},
    }
    counted = {}
    for rate, seeds in losses.items():
        counted |= rated(f"lr{rate}", rate, seeds, "lr1e-2" if rate == "3e-4" else None)
    steps = tuple(f"lr{rate}" for rate in losses)
    base = study({step: {} for step in steps}, seeds=(9, 2))
    whole = replace(base, counted=counted, runs=tuple(counted.values()))
    rows = make_rows(whole)
    (line,) = learning_rates.series(rows)
    assert [point[:2] for point in line.points] == [
        *((3e-4, "3e-4"), (1e-3, "0.001"), (1e-2, "1e-2"))
    ]
    assert [point[2] for point in line.points] == pytest.approx([3.45, 3.05, 3.8])
    assert [point[3] for point in line.points] == [(3.6, 3.3), (3.1, 3.0), (3.7, 3.9)]
    assert line.refs == ("R2", "R3", "R1") and line.name == "adamw"
    assert learning_rates.table([line]).rows == (
        ("adamw", "3", "3.0500", "0.001", "+0.75000", "", "R3"),
    )
    worst = replace(line, points=line.points[1:], refs=line.refs[1:])
    (shown,) = learning_rates.table([worst]).rows
    assert (
        shown[3] == "0.001" and shown[5].startswith("at the end") and shown[6] == "R3"
    )
    table = {row[0]: row for row in arm_tables.arms_table(rows).rows}
    assert table["lr3e-4"][1:6] == ("3.4500", "-0.35000", "-0.35000", "2", "lr1e-2")
    assert table["lr1e-2"][1:6] == ("3.8000", "control", "–", "–", "")
    each = [line[:5] for line in arm_tables.seeds_table(rows).rows]
    assert each[2:4] == [
        ("lr3e-4", "2", "3.6000", "-0.10000", "-0.10000"),
        ("lr3e-4", "9", "3.3000", "-0.60000", "-0.60000"),
    ]


def test_evaluations_by_seed_and_name():
    """Two texts, three numbers; pairs by seed and protocol."""

    def measured(step, seed):
        value = 0.01 * seed * int(step[:2])
        settings = {"shots": 1 if seed == 9 and step == WIDE else 0}
        rows = {
            name: {"sha256": name, "settings": settings, "metrics": metrics}
            for name, metrics in {
                "b": {"acc": value, "loss": 5 * value},
                "a": {"acc": 3 * value},
            }.items()
        }
        documents = dict(WHOLE.counted[step, seed].documents)
        return {**documents, "evaluations": rows if (step, seed) != (HOT, 5) else {}}

    whole, _ = made(documents=measured)
    section = evaluation_section.section(report(whole, evidence(())))
    lines = {line[:3]: line[3:] for line in section.blocks[1].rows}
    assert list(lines)[::3] == [
        *(("a", "acc", CONTROL), ("b", "acc", CONTROL), ("b", "loss", CONTROL))
    ]
    assert lines["b", "loss", CONTROL] == (
        *("3", "1.8667", f"{spread([0.7, 1.75, 3.15]):.5g}", "control", "–", "–", "R1"),
    )
    paired = [0.05 * k * 5 for k in (2, 5)]
    assert lines["b", "loss", WIDE] == (
        *("3", "–", "–", f"{average(paired):+.5g}", f"{spread(paired):.5g}", "2", "R2"),
    )
    assert lines["a", "acc", HOT] == ("1", "0.81", "–", "-1.08", "–", "1", "R3")
    counted = list(whole.counted.values())
    assert evaluations.different_protocols(counted, "b") == [
        f"evaluations of b differ in shots: 1 in {WIDE} (seed 9); 0 elsewhere"
    ]


def test_two_studies_side_by_side(monkeypatch, tmp_path):
    """By step and seed; columns are A, B and B − A."""
    other = study({WIDE: {9: [3.0], 2: [3.5], 7: [9.0]}, "15-new": {5: [1.0]}})
    found = {"a": WHOLE, "b": other}
    monkeypatch.setattr(compare, "load", lambda path: found[path.name])
    lines = compare.compare(tmp_path / "a", tmp_path / "b").split("\nSteps\n")[1]
    shown = [line.split() for line in lines.splitlines()[1:5]]
    d = [3.0 - LOSS[WIDE][9], 3.5 - LOSS[WIDE][2]]
    assert shown[0] == [CONTROL, "3.2733", "–", "–", "0", "shared", "seeds"]
    assert shown[1] == [
        WIDE,
        "3.1800",
        "5.1667",
        f"{average(d):+.5f}",
        "2",
        "shared",
    ] + [*("seeds,", "SD", f"{spread(d):.5f}")]
    assert shown[2] == [HOT, "3.2750", "–", "–", "0", "shared", "seeds"]
    assert shown[3] == ["15-new", "–", "1.0000", "–", "0", "shared", "seeds"]
