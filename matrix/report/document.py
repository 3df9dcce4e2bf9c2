"""What a report says, apart from how it is written down.

matrix/report/tables.py makes these blocks; matrix/report/html.py and matrix/report/markdown.py write
the same document in two formats. Text is plain: the writers escape it.
"""

from dataclasses import dataclass
from typing import Literal, Union

Kind = Literal["text", "code", "number", "ref", "anchor", "word"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A block that must not be overlooked."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column. "ref" cells link to the "anchor" cell with the same text; "word" cells
    hold verdicts.
    """

    title: str
    kind: Kind = "number"


@dataclass(frozen=True)
class Table:
    """Rows of finished strings, one per column. Without titles: label and value."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of {len(row)} cells in a table of {len(self.columns)} "
                    f"columns: {row}"
                )


@dataclass(frozen=True)
class Picture:
    """A plot: the PNG beside report.md; for report.html an SVG for a wide page and one
    for a narrow page.
    """

    file: str
    alt: str
    caption: str
    png: bytes
    svg: str
    narrow: str


Block = Union[Text, Notice, Table, Picture]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `folded` shows the heading until it is opened."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """A title and its sections; the first one has no heading of its own."""

    title: str
    sections: tuple[Section, ...]
