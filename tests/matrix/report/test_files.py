"""The files of a report: self-contained, escaped, the same every time."""

import random
import re
import shutil
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest

from matrix import units
from matrix.report.document import Column, Document, Notice, Section, Table, Text
from matrix.report.html import html
from matrix.report.markdown import markdown
from matrix.report.plots import common, learning_curves
from matrix.report.write import gather, render_terminal, write
from matrix.results.selection import Selection
from tests.matrix.synthetic import START, Cell

STEPS = [f"{n:02d}-a-long-name-of-a-step-{n}" for n in range(19)]
SEEDS = range(1, 7)
DESCRIBED = Selection(helps={STEPS[1]: 'what <b>&amp; "it" | is'})
FILES = ("report.md", "runs.csv", "report.html")
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Page(HTMLParser):
    """Every tag with its attributes, and the text; checks that tags close."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words, self.stack = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def build(output: Path) -> Path:
    """A study of 19 steps and 6 seeds."""
    noise = random.Random(1)
    for number, step in enumerate(STEPS):
        for seed in SEEDS:
            losses = [5.5 - 0.2 * k + noise.gauss(0, 0.01) for k in range(8)]
            finished = START + 100 * seed + number
            Cell(step, seed, tuple(losses), finished=finished).finish(output)
    return output / "demo"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The large study, reported."""
    study = build(tmp_path_factory.mktemp("large"))
    return write(study, DESCRIBED)


def test_the_page_needs_nothing_from_outside(large):
    text = large.html.read_text()
    page = Page(text)
    assert page.stack == []
    names = {tag for tag, _ in page.tags}
    assert {"table", "svg", "style"} <= names
    assert not names & {"script", "link", "iframe", "img", "object", "base"}
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target[1:] in ids and target[0] == "#", tag
    for word in ("@import", "url(http", "url(/", "<metadata"):
        assert word not in text


def test_ids_are_unique_and_references_meet_one(large):
    text = large.html.read_text()
    ids = [a["id"] for _, a in Page(text).tags if "id" in a]
    assert len(ids) == len(set(ids)) > len(STEPS)
    targets = set(re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', text))
    assert {one or other for one, other in targets} <= set(ids)
    assert any(one for one, _ in targets) and any(other for _, other in targets)


def test_text_is_escaped(large):
    page = large.html.read_text()
    assert "what &lt;b&gt;&amp;amp; &quot;it&quot; | is" in page
    assert 'what <b>&amp; "it" | is' in "".join(Page(page).words)
    assert r"what \<b\>\&amp; " in large.markdown.read_text()


def test_every_step_and_run_is_in_the_files(large):
    words = Page(large.html.read_text()).words
    for step in STEPS:
        assert words.count(step) >= 3
    assert len(large.csv.read_text().splitlines()) == 1 + len(STEPS) * len(SEEDS)


def test_pictures_are_300_dpi(large):
    for path in large.pictures[:2]:
        data = path.read_bytes()
        at = data.index(b"pHYs") + 4
        x, y, unit = struct.unpack(">IIB", data[at : at + 9])
        assert (round(x * 0.0254), round(y * 0.0254), unit) == (300, 300, 1)
        width = struct.unpack(">I", data[16:20])[0]
        assert width == round(common.WIDE.width * 300)
        assert f"({path.name})" in large.markdown.read_text()


def test_the_same_runs_give_the_same_bytes(large, tmp_path):
    copy = shutil.copytree(large.markdown.parent, tmp_path / "demo")
    for name in FILES:
        (copy / name).unlink()
    again = write(copy, DESCRIBED)
    for name in FILES:
        first = (large.markdown.parent / name).read_bytes()
        assert (again.markdown.parent / name).read_bytes() == first, name


def test_the_terminal_table_fits(large):
    lines = render_terminal(large.report).splitlines()
    assert max(map(len, lines)) <= 100
    starts = [line.split()[0] for line in lines if "6/6" in line]
    assert len(set(starts)) == len(STEPS)


def test_long_names_stay_apart_in_the_terminal(tmp_path):
    for latent in (128, 256):
        name = f"LEARNING_RATE=3e-4,MLP_DIM=3072,GPT2_WIDTH=768,MLA_LATENT={latent}"
        Cell(name, 1, (5.5, 3.3)).finish(tmp_path)
    lines = render_terminal(gather(tmp_path / "demo")).splitlines()
    assert max(map(len, lines)) <= 100
    assert len({line.split()[0] for line in lines if " 1/1 " in line}) == 2


def test_odd_names(tmp_path):
    names = ["LEARNING_RATE=3e-4", "LEARNING_RATE=3e-4,MLP_DIM=<1>&`a`|*"]
    for name in names:
        Cell(name, 1, (5.5, 3.3)).finish(tmp_path, "a_b+c<d>")
    paths = write(tmp_path / "a_b+c<d>")
    page = Page(paths.html.read_text())
    assert page.stack == [] and set(names) <= set(page.words)
    assert "Study a_b+c<d>" in page.words
    lines = paths.markdown.read_text().splitlines()
    assert lines[0] == r"# Study a\_b+c\<d\>"
    table = [line for line in lines if line.startswith("| ") and "R2" in line]
    assert len(table) == 8
    assert all(r"MLP\_DIM=\<1\>\&\`a\`\|\*" in line for line in table)


def test_arms_are_told_apart():
    styles = {(common.colour(n), common.dashes(n)) for n in range(40)}
    assert len(styles) == 40
    assert len({common.dashes(n) for n in range(5)}) == 5, "five without colours"
    assert len({(common.colour(n), common.marker(n)) for n in range(72)}) == 72


def test_curves_are_averaged_where_all_seeds_were_evaluated():
    low, mean, high = learning_curves.band(
        [{0: 5.0, 10: 3.0, 20: 2.0}, {0: 6.0, 10: 4.0}]
    )
    assert (low, mean, high) == ({0: 5, 10: 3}, {0: 5.5, 10: 3.5}, {0: 6, 10: 4})
    assert learning_curves.subtract({0: 5.0, 10: 3.0}, {10: 2.5, 20: 1.0}) == {10: 0.5}


def test_both_writers_show_all_blocks():
    columns = (Column("N", "number"), Column("C", "code"))
    table = Table(columns, (("1", "a`b"), ("20", "c|d")), caption="cap <t>")
    blocks = (Text("some *text* <i>"), Notice("look", ("one <1>",)), table)
    document = Document("T", (Section("", blocks),))
    assert markdown(document) == (
        "# T\n\nsome \\*text\\* \\<i\\>\n\n"
        "> [!WARNING]\n> **look**\n>\n> - one \\<1\\>\n\n"
        "cap \\<t\\>\n\n"
        "|   N | C       |\n| --: | ------- |\n|   1 | ``a`b`` |\n|  20 | c\\|d    |\n"
    )
    words = Page(html(document)).words
    for text in ("some *text* <i>", "look", "one <1>", "cap <t>", "a`b", "c|d"):
        assert text in words


def test_a_row_must_have_a_cell_per_column():
    with pytest.raises(ValueError, match="1 cells in a table of 2"):
        Table((Column("a"), Column("b")), (("x",),))


@pytest.mark.parametrize(
    "shown, expected",
    [
        (units.scaled(124_475_904), "124.48M"),
        (units.scaled(999_996), "1.00M"),
        (units.scaled(1.5e9, "KMGT"), "1.50G"),
        (units.scaled(12), "12"),
        (units.duration(4.24), "4.2s"),
        (units.duration(59.7), "1m 00s"),
        (units.duration(72), "1m 12s"),
        (units.duration(3599.9), "1h 00m"),
        (units.duration(7380), "2h 03m"),
        (units.duration(100_000), "1d 04h"),
        (units.memory(3 * 2**29), "1.50 GiB"),
        (units.memory(2**20), "1.0 MiB"),
        (units.numbers_in([3, 1, 2, 7, 9, 8]), "1-3, 7-9"),
        (units.signed(-0.00214), "-0.00214"),
        (units.count(None), "–"),
        (units.moment(0.0), "1970-01-01 00:00 UTC"),
    ],
)
def test_numbers_as_shown(shown, expected):
    assert shown == expected
