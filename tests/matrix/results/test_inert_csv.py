"""No cell of a CSV is a formula, and no number is touched."""

import csv
import io
import math

import pytest

from matrix.published.table import Answer
from matrix.report.markdown import code, escape
from matrix.report.plots import common
from matrix.report.write import write
from matrix.results import inert_csv
from tests.matrix.synthetic import Cell

CALL = "cmd|' /C calc'!A0"
BEFORE = [
    "",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\u00a0",
    "\ufeff",
    "\u200b",
    "\x00",
    " \t ",
]
SIGNS = "=+-@＝＋－＠﹦﹢﹣﹫\N{MINUS SIGN}"
SPLITS = ["; ", ";", "\t", "\n", "\r", "a; b;"]


def opened(text: str, separators: str) -> list[str]:
    """The cells that a program finds which splits there, quotes or not."""
    for separator in separators:
        text = text.replace(separator, "\0")
    return [cell.strip(' "') for cell in text.split("\0")]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_formula_becomes_text(sign, before):
    value = f"{before}{sign}{CALL}"
    told = inert_csv.inert(value)
    assert told != value and told.lstrip(" \t\n\0\u00a0\ufeff\u200b")[0] == "'"
    assert told.replace("'", "") == value.replace("\r\n", "\n").replace(
        "\r", "\n"
    ).replace("'", "")


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_formula_behind_another_separator_becomes_text(sign, split):
    """Where lists are separated by semicolons, quotes inside a cell say nothing."""
    told = inert_csv.text([["step", f"a{split}{sign}{CALL}", 1.5]])
    assert not any(c[:1] and c[0] in SIGNS for c in opened(told, ";\t\n"))


@pytest.mark.parametrize(
    "value",
    [-1, -0.5, 0.0, 1e-300, -math.inf, math.nan, True, None, "", "-5", "+3.25", "-1e-5"]
    + [
        "a",
        "00-control",
        "a-b",
        "1-2",
        "'quoted'",
        "x=1",
        "a; -0.5",
        "é",
        "a, -b",
        ".",
    ],
)
def test_what_is_no_formula_stays(value):
    assert inert_csv.inert(value) is value or inert_csv.inert(value) == value
    (row,) = csv.reader(io.StringIO(inert_csv.text([[value, "x"]])))
    assert row == ["" if value is None else str(value), "x"]


@pytest.mark.parametrize(
    "value", ["-5+1", "--5", "-5\n=1", "-٣", "-inf", "-", "+", "1\t=1"]
)
def test_what_only_looks_like_a_number_does_not(value):
    assert inert_csv.inert(value) != value


def test_a_carriage_return_begins_no_row():
    found = list(
        csv.reader(io.StringIO(inert_csv.text([["a\r=b,c", "d"]]), newline=""))
    )
    assert found == [["a\n'=b,c", "d"]]


def test_values_that_are_no_text_are_told_first():
    class Odd:
        def __str__(self) -> str:
            return f"={CALL}"

    assert inert_csv.inert(Odd()) == f"'={CALL}"
    assert inert_csv.inert(["=1"]) == "['=1']"


def test_no_file_of_a_report_holds_a_formula(tmp_path, monkeypatch):
    """Steps, hosts, devices and the rest as a received study may name them."""
    monkeypatch.setattr(common, "png_bytes", lambda figure: b"")
    monkeypatch.setattr(common, "svg_text", lambda figure, name: "<svg ></svg>")
    odd = [f"{before}{sign}{CALL}" for before in ("", " ") for sign in "=+-@＝"]
    for seed, text in enumerate(odd, 1):
        text = text.replace("/", "")
        device = {"kind": "cpu", "name": text, "total_memory": None, "driver": text}
        summary = {"device": device, "torch": text, "python": text}
        cell = Cell(text, seed, (5.0, -4.0), (), summary=summary)
        cell.finish(tmp_path, "=demo")
    paths = write(tmp_path / "=demo")
    rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
    assert len(rows) == len(odd)
    for row in rows:
        told = {name: cell for name, cell in row.items() if cell}
        assert float(told["final_loss"]) == -4.0 and told["study"] == "'=demo"
        for name in ("step", "device", "driver", "torch"):
            assert told[name][0] == "'" and CALL.replace("/", "") in told[name]
        numbers = {"final_loss", "loss", "final_bits_per_byte"}
        for name in told.keys() - numbers:
            assert told[name].lstrip()[0] not in SIGNS, (name, told[name])


def test_no_answer_of_a_script_holds_a_formula():
    answer = Answer("=t", ("run", "loss"), [{"run": "=1+1", "loss": -0.5, "x": "="}])
    assert answer.csv() == "run,loss\n'=1+1,-0.5"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_begins_no_line_of_markdown(end):
    """A carriage return ends a line there as well."""
    for told in (escape(f"a{end}# b"), code(f"a{end}# b")):
        assert told == "a \\# b"
