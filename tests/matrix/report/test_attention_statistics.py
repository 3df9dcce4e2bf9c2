"""Attention statistics of a report: means and bands by hand, what is not defined."""

import pytest

from matrix.report.plots import attention_statistics, common
from matrix.report.write import gather, write
from tests.matrix.report.test_report import markdown_row
from tests.matrix.synthetic import Cell


def row(step: int, **statistics) -> dict:
    return {"kind": "attention", "step": step, "windows": 8, **statistics}


def study(output, **rows):
    """Runs named base1, base2, ra1: two steps, their rows of statistics."""
    for name, mine in rows.items():
        step = {"base": "00-base", "ra": "01-ra"}[name[:-1]]
        Cell(step, int(name[-1]), (5, 4, 3), rows=mine).finish(output)
    return output / "demo"


def test_means_and_bands_by_hand(tmp_path):
    """Layer 1 at step 100: heads 1 and 3 in seed 1, 5 and 7 in seed 2."""
    place = study(
        tmp_path,
        base1=[row(0, entropy=[[4, 4], [2, 2]]), row(100, entropy=[[1, 3], [2, 2]])],
        base2=[row(0, entropy=[[4, 4], [2, 2]]), row(100, entropy=[[5, 7], [2, 4]])],
    )
    (panel,) = attention_statistics.panels(gather(place).rows)["entropy"]
    assert panel.layers[0] == {0: (4, 4, 4), 100: (4, 1, 7)}
    assert panel.layers[1] == {0: (2, 2, 2), 100: (2.5, 2, 4)}
    assert panel.last == [4, 2.5] and (panel.step, panel.ref) == ("00-base", "R1")


def test_what_is_not_defined_is_left_out(tmp_path):
    """A head without a value, a layer without any, a gate that is never defined."""
    mine = row(0, entropy=[[None, 3.0], [None, None]], gate=[[None], [None]])
    found = attention_statistics.panels(gather(study(tmp_path, base1=[mine])).rows)
    assert set(found) == {"entropy"}
    (panel,) = found["entropy"]
    assert panel.layers == ({0: (3.0, 3.0, 3.0)}, {})
    assert panel.last == [3.0]


def test_a_statistic_by_layer(tmp_path):
    place = study(tmp_path, base1=[row(0, kurtosis=[0.5, None])])
    (panel,) = attention_statistics.panels(gather(place).rows)["kurtosis"]
    assert panel.layers == ({0: (0.5, 0.5, 0.5)}, {})


def test_evaluations_that_all_runs_have(tmp_path):
    """And only the runs that recorded statistics; the last attempt's row counts."""
    again = [row(50, entropy=[[9.0]]), {**row(50, entropy=[[1.0]]), "attempt": 2}]
    place = study(
        tmp_path,
        base1=[row(0, entropy=[[3.0]]), *again],
        base2=[row(50, entropy=[[2.0]])],
        base3=[],
    )
    (panel,) = attention_statistics.panels(gather(place).rows)["entropy"]
    assert panel.layers == ({50: (1.5, 1.0, 2.0)},)


def test_rows_beyond_the_end_of_a_run_do_not_count(tmp_path):
    place = study(
        tmp_path, base1=[row(100, entropy=[[3.0]]), row(150, entropy=[[1.0]])]
    )
    (panel,) = attention_statistics.panels(gather(place).rows)["entropy"]
    assert panel.layers == ({100: (3.0, 3.0, 3.0)},)


@pytest.fixture
def no_drawing(monkeypatch):
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")


def test_the_section_of_a_report(tmp_path, no_drawing):
    two = [row(0, entropy=[[2.0, 3.0]], sparsity=[[0.0, 0.0]])]
    more = [row(0, entropy=[[1.0, 2.0]], sparsity=[[0.0, 0.0]], ra_alpha=[[0.3, 0.4]])]
    paths = write(study(tmp_path, base1=two, ra1=more))
    text = paths.markdown.read_text()
    title = "Attention over training"
    assert markdown_row(text, title, "00-base")[1:] == [
        "2.500",
        "0.000",
        "–",
        "[R1](#r1)",
    ]
    assert markdown_row(text, title, "01-ra")[1:] == [
        "1.500",
        "0.000",
        "0.350",
        "[R2](#r2)",
    ]
    assert "Not drawn: sparsity is 0 everywhere" in text
    names = [p.name for p in paths.pictures if p.name.startswith("attention")]
    assert names == ["attention-entropy.png", "attention-ra-alpha.png"]
    assert "layers 1" in text


def test_without_statistics_there_is_no_section(tmp_path, no_drawing):
    paths = write(study(tmp_path, base1=[], ra1=[]))
    assert "Attention over training" not in paths.markdown.read_text()


def test_what_is_drawn():
    """Twelve layers: all as lines, bands for three, one scale for all panels."""
    layer = {0: (1.0, 0.5, 1.5), 100: (2.0, 1.0, 3.0)}
    each = [
        attention_statistics.Panel(f"{n:02d}", "R1", (layer,) * 12) for n in range(4)
    ]
    drawn = attention_statistics.figure("entropy", each)
    shown = [axes for axes in drawn.axes if axes.get_visible()]
    assert [len(axes.lines) for axes in shown] == [12] * 4
    assert [len(axes.collections) for axes in shown] == [3] * 4
    assert len({axes.get_ylim() for axes in shown}) == 1
    assert attention_statistics.banded(12) == [
        0,
        6,
        11,
    ] and attention_statistics.banded(1) == [0]


def test_layers_are_told_apart_without_colours():
    """From dark to light, and no two with the same dashes."""
    looks = [attention_statistics.line_style(n, 12) for n in range(12)]
    red_green_blue = [
        [int(x["color"][k : k + 2], 16) for k in (1, 3, 5)] for x in looks
    ]
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in red_green_blue]
    assert light == sorted(light) and light[0] < 60 < 160 < light[-1]
    assert len({x["linestyle"] for x in looks}) == 12
