"""The report of a test matrix: pairs with the dense arm, sparsity, rates, exclusions."""

import struct

import numpy as np
import pytest

from matrix import units
from matrix.report.plots import common, learning_rates
from matrix.report.write import gather, render_terminal, write
from matrix.results.selection import Selection
from tests.matrix.report.test_report import markdown_row
from tests.matrix.synthetic import Cell

RATES = ("3e-4", "1e-3", "3e-3")
EXCLUDED = [
    ("sgd-state-50", "CONFIG_PRUNING_STATE cannot be set: needs M (now M=n)"),
    ("sgd-state-70", "CONFIG_PRUNING_STATE cannot be set: needs M (now M=n)"),
    ("odd", "another | reason"),
]
LOSS = {
    ("adamw", "none"): (3.30, 3.20, 3.40),
    ("adamw", "magnitude"): (3.36, 3.31, 3.55),
    ("muon", "none"): (3.25, 3.22, 3.21),
}


def name(optimizer: str, pruning: str, rate: str) -> str:
    pruned = "-magnitude-50" if pruning != "none" else ""
    return f"{optimizer}{pruned}-lr{rate}"


def loss(optimizer: str, pruning: str, rate: str, seed: int) -> float:
    return LOSS[optimizer, pruning][RATES.index(rate)] + 0.001 * seed * len(optimizer)


def build(output, seeds=(1, 2, 3), lacking=()):
    """Two optimizers at three rates, one of them pruned as well."""
    order = []
    for optimizer, pruning in LOSS:
        for rate in RATES:
            step = name(optimizer, pruning, rate)
            order.append(step)
            point = {"optimizer": optimizer, "pruning": pruning, "learning_rate": rate}
            dense, more = None, {}
            if pruning != "none":
                point["sparsity"] = "0.5"
                dense = name(optimizer, "none", rate)
            for seed in seeds:
                if pruning != "none":
                    share = {"covered": 0.5, "all": 0.1 * seed}
                    more = {"sparsity": share}
                more |= {"average_step_time": 0.01 * seed}
                more |= {"peak_memory_bytes": seed * 2**30}
                if (step, seed) not in lacking:
                    final = loss(optimizer, pruning, rate, seed)
                    arm = {"point": point, "dense": dense}
                    Cell(step, seed, (5.5, final), summary=more, arm=arm).finish(output)
    return output / "demo", tuple(order)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
    return build(tmp_path)


def test_a_pruned_arm_pairs_with_control_and_dense_arm(study):
    directory, order = study
    text = write(directory, Selection(order)).markdown.read_text()
    arm = "adamw-magnitude-50-lr1e-3"
    seeds = (1, 2, 3)
    mine = np.array([loss("adamw", "magnitude", "1e-3", k) for k in seeds])
    dense = np.array([loss("adamw", "none", "1e-3", k) for k in seeds])
    control = np.array([loss("adamw", "none", "3e-4", k) for k in seeds])
    assert markdown_row(text, "Arms", arm)[1:] == [
        f"{mine.mean():.4f}",
        f"{(mine - control).mean():+.5f}",
        f"{(mine - dense).mean():+.5f}",
        "3",
        "`adamw-lr1e-3`",
        "50.00 %",
        "20.00 %",
        "20.0 ms",
        "3.00 GiB",
        "[R5](#r5)",
    ]
    plain = markdown_row(text, "Arms", "muon-lr3e-3")
    assert plain[3:8] == ["–", "–", "", "–", "–"]
    assert markdown_row(text, "Arms", "adamw-lr3e-4")[2] == "control"


def test_every_cell_stands_on_a_line(study):
    directory, order = study
    text = write(directory, Selection(order)).markdown.read_text()
    block = text.split("\n## Arms, seed by seed\n")[1].split("\n## ")[0]
    lines = [
        x for x in block.splitlines() if x.startswith("| `adamw-magnitude-50-lr3e-3`")
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cell[1] for cell in cells] == ["1", "2", "3"]
    second = loss("adamw", "magnitude", "3e-3", 2)
    path = Cell("adamw-magnitude-50-lr3e-3", 2, ()).path(directory.parent)
    run_dir = path.relative_to(directory).as_posix()
    assert cells[1][2:] == [
        f"{second:.4f}",
        f"{second - loss('adamw', 'none', '3e-4', 2):+.5f}",
        f"{second - loss('adamw', 'none', '3e-3', 2):+.5f}",
        "50.00 %",
        "20.00 %",
        "20.0 ms",
        "2.00 GiB",
        f"`{run_dir}`",
    ]


def test_a_seed_that_the_dense_arm_lacks_is_no_pair(tmp_path):
    directory, order = build(tmp_path, lacking=[("adamw-lr1e-3", 2)])
    rows = {row.step: row for row in gather(directory, Selection(order)).rows}
    row = rows["adamw-magnitude-50-lr1e-3"]
    assert sorted(row.dense_differences) == [1, 3] and sorted(row.differences) == [
        1,
        2,
        3,
    ]


def test_excluded_combinations_are_listed_with_reasons(study):
    directory, order = study
    paths = write(directory, Selection(order, excluded=EXCLUDED))
    block = paths.markdown.read_text().split("\n## Excluded\n")[1].split("\n## ")[0]
    for combination, why in EXCLUDED:
        assert f"`{combination}`" in block
        assert why.split("|")[0].replace("_", r"\_").strip() in block
    shown = render_terminal(paths.report)
    assert "excluded: sgd-state-50, sgd-state-70: CONFIG_PRUNING_STATE cannot" in shown
    assert "another | reason" in paths.html.read_text()


def test_the_terminal_shows_what_a_matrix_is_about(study):
    directory, order = study
    lines = render_terminal(gather(directory, Selection(order))).splitlines()
    assert lines[2].split() == (
        [
            "arm",
            "seeds",
            "val",
            "loss",
            "diff",
            "vs",
            "dense",
            "sparsity",
            "step",
            "memory",
        ]
    )
    row = next(x for x in lines if x.startswith("adamw-magnitude-50-lr1e-3"))
    assert row.split()[1:] == (
        ["3/3", "3.3200", "+0.01000", "+0.11000", "50.00", "%", "20.0", "ms"]
        + ["3.00", "GiB"]
    )
    assert max(map(len, lines)) <= 100


def test_rates_make_lines(study):
    directory, order = study
    lines = learning_rates.series(gather(directory, Selection(order)).rows)
    assert [line.name for line in lines] == ["adamw", "adamw, magnitude 0.5", "muon"]
    assert [point[1] for point in lines[0].points] == list(RATES), "by rate"
    expected = np.mean([loss("adamw", "none", "1e-3", k) for k in (1, 2, 3)])
    assert lines[0].points[1][2] == pytest.approx(expected)
    assert lines[0].points[1][3] == tuple(
        loss("adamw", "none", "1e-3", k) for k in (1, 2, 3)
    )
    text = write(directory, Selection(order)).markdown.read_text()
    block = text.split("\n## Learning rate\n")[1].split("\n## ")[0]
    found = {}
    for line in block.splitlines():
        if line.startswith("| ") and "Lowest" not in line and "---" not in line:
            arm, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[arm] = cells
    assert found["adamw"][2] == "1e-3" and found["adamw"][4:] == ["", "[R2](#r2)"]
    assert found["muon"][2] == "3e-3" and "end of the range" in found["muon"][4]


def test_one_rate_has_no_plot(tmp_path):
    point = {"optimizer": "adamw", "pruning": "none", "learning_rate": "1e-3"}
    arm = {"point": point, "dense": None}
    Cell("adamw", 1, (5.5, 3.3), arm=arm).finish(tmp_path)
    paths = write(tmp_path / "demo")
    assert "learning-rates.png" not in [path.name for path in paths.pictures]
    assert "## Learning rate" not in paths.markdown.read_text()


def test_the_plot_is_in_both_reports(tmp_path):
    directory, order = build(tmp_path, seeds=(1, 2))
    paths = write(directory, Selection(order))
    picture = next(path for path in paths.pictures if "rates" in path.name)
    data = picture.read_bytes()
    at = data.index(b"pHYs") + 4
    x, _, unit = struct.unpack(">IIB", data[at : at + 9])
    assert picture.name == "learning-rates.png" and (round(x * 0.0254), unit) == (
        300,
        1,
    )
    assert "(learning-rates.png)" in paths.markdown.read_text()
    page = paths.html.read_text()
    assert page.count("<svg ") == 2 * len(paths.pictures) and "learning-rates-" in page


def test_the_plot_draws_every_run(tmp_path):
    directory, order = build(tmp_path, seeds=(1, 2))
    lines = learning_rates.series(gather(directory, Selection(order)).rows)
    (axes,) = learning_rates.figure(lines).axes
    assert axes.get_xscale() == "log"
    assert [list(line.get_xdata()) for line in axes.lines] == [[3e-4, 1e-3, 3e-3]] * 3
    dots = sum(len(each.get_offsets()) for each in axes.collections)
    assert dots == 3 * 3 * 2
    assert [label.get_text() for label in axes.get_xticklabels()] == list(RATES)


def test_many_rates_share_the_axis():
    points = tuple((n * 1e-3, f"{n}e-3", 3.0 + n, (3.0 + n,)) for n in range(1, 31))
    (axes,) = learning_rates.figure([learning_rates.Series("adamw", points)]).axes
    assert len(axes.get_xticks()) < 10


def test_a_study_of_steps_is_reported_as_before(tmp_path):
    Cell("00-base", 1, (5.5, 3.3)).finish(tmp_path)
    paths = write(tmp_path / "demo")
    text = paths.markdown.read_text()
    assert "## Arms" not in text and "## Excluded" not in text
    head = render_terminal(paths.report).splitlines()[2].split()
    assert head[:7] == ["step", "seeds", "val", "loss", "SD", "diff", "SD"]


def test_units():
    assert units.percent(0.12345) == "12.35 %" and units.percent(None) == "–"
    assert units.step_time(0.01234) == "12.3 ms"
    assert units.by_reason([("a", "x"), ("b", "y"), ("c", "x")]) == ["a, c: x", "b: y"]
