"""How long recurrent layers remember, in a report: means by hand, damaged rows."""

import pytest

from matrix.report import half_lives
from matrix.report.write import gather, write
from tests.matrix.report.test_attention_statistics import row, study
from tests.matrix.report.test_report import markdown_row


def bins(**shares):
    return [shares.get(f"at{place}", 0.0) for place in range(half_lives.BINS)]


def test_shares_by_hand(tmp_path):
    """The mean over layers and seeds, at the last evaluation, bins added up."""
    first = row(9, half_life=[bins(at0=0.5, at1=0.5), [None] * 16, None])
    second = row(9, half_life=[bins(at2=0.25, at3=0.25, at15=0.5)])
    place = study(
        tmp_path, ra1=[row(0, half_life=[bins(at7=1.0)]), first], ra2=[second]
    )
    text = write(place).markdown.read_text()
    cells = markdown_row(text, "What recurrent layers keep", "01-ra")
    none = "0.0 %"
    assert cells[1:9] == ["25.0 %", "37.5 %", "12.5 %", *[none] * 4, "25.0 %"]


def test_every_bin_is_in_one_column():
    places = [
        p for first, last in half_lives.COLUMNS.values() for p in range(first, last)
    ]
    assert places == list(range(half_lives.BINS))


@pytest.mark.parametrize("damaged", [1.0, [1.0], [[1.0]], [[None] * 16]])
def test_what_is_no_share_is_left_out(tmp_path, damaged):
    place = study(tmp_path, ra1=[row(0, half_life=damaged)])
    assert not any(half_lives.shares(each) for each in gather(place).rows)
