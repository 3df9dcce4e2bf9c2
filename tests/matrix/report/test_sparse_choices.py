"""What sparse attention chooses, in a report: means by hand, maps, damaged rows."""

import pytest

from matrix.report.plots import sparse_choices
from matrix.report.write import gather, write
from tests.matrix.report.test_attention_statistics import row, study
from tests.matrix.report.test_report import markdown_row

MAP = {"0": [[0.0, 0.0], [1.0, 0.0]], "3": [[0.0, 0.0], [0.5, 0.5]]}


def test_shares_by_hand(tmp_path):
    """The mean over layers and seeds, at the last evaluation; layers without a choice
    do not count.
    """
    place = study(
        tmp_path,
        base1=[row(0, entropy=[[1.0]])],
        ra1=[
            row(0, choice_distance=[[1.0, 0.0, 0.0]]),
            row(100, choice_distance=[[0.0, 0.25, 0.75], [None, None, None]]),
        ],
        ra2=[row(100, choice_distance=[[0.0, 0.75, 0.25], [0.0, 0.5, 0.5]])],
    )
    (found,) = sparse_choices.choices(gather(place).rows)
    assert found.step == "01-ra" and found.shares == pytest.approx((0, 0.5, 0.5))
    paths = write(place)
    text = paths.markdown.read_text()
    cells = markdown_row(text, "What sparse attention chooses", "01-ra")
    assert cells[1:4] == ["0.0 %", "50.0 %", "50.0 %"]


def test_reads_by_hand(tmp_path):
    """The mean over layers and seeds; layers that do not choose are left out, and so is
    a branch that is not there.
    """
    first = row(9, reads_cmp=[5.0, None, 6.0], reads_all=[20.5, None, 20.5])
    second = row(9, reads_cmp=[8.0, None, 5.0], reads_win=[3.0], reads_all=[20.5])
    place = study(tmp_path, ra1=[row(0, reads_cmp=[1.0]), first], ra2=[second])
    text = write(place).markdown.read_text()
    cells = markdown_row(text, "What sparse attention chooses", "01-ra")
    assert cells[1:6] == ["6.0", "–", "3.0", "9.0", "20.5"]


def test_maps_are_drawn(tmp_path):
    maps = {"compressed": MAP, "selected": {"0": [[1.0]]}}
    place = study(tmp_path, ra1=[row(0, choice_distance=[[1.0]], maps=maps)])
    paths = write(place)
    text = paths.markdown.read_text()
    assert "choices-compressed.png" in text and "choices-selected.png" in text
    figure = sparse_choices.figure(
        "compressed", sparse_choices.choices(gather(place).rows)
    )
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert titles == ["layer 1", "layer 4"]
    assert figure.axes[1].images[0].get_array().tolist() == MAP["3"]


@pytest.mark.parametrize(
    "damaged",
    [
        {"choice_distance": 1.0},
        {"choice_distance": [1.0, [None]]},
        {"maps": {"compressed": {"0": [[1.0], [1.0, 2.0]]}}},
        {"maps": {"compressed": {"0": []}}},
        {"maps": {"compressed": {"0": [[]]}}},
        {"reads_cmp": [3.0]},
        {"reads_cmp": 3.0, "reads_all": [None]},
    ],
)
def test_what_cannot_be_drawn_is_left_out(tmp_path, damaged):
    place = study(tmp_path, ra1=[row(0, **damaged)])
    assert sparse_choices.choices(gather(place).rows) == []


def test_distances():
    names = [sparse_choices.distance(place) for place in range(5)]
    assert names == ["0", "1", "2–3", "4–7", "8–15"]
