"""Writes a document as one HTML file: style and plots inside, no script, no network."""

from html import escape
from pathlib import Path
from string import Template

from matrix.report.document import Block, Column, Document, Notice, Picture, Section
from matrix.report.document import Table, Text

HERE = Path(__file__).parent
LONG = {"text": 24, "code": 48}
"""Characters from which a cell gets a wide column and its text more than one line."""
DIRECTIONS = ("better", "worse")
"""Words of a verdict that have a colour."""


def html(document: Document) -> str:
    """The document as a whole page, self-contained."""
    body = [_section(section) for section in document.sections]
    page = Template((HERE / "report.html").read_text(encoding="utf-8"))
    style = (HERE / "report.css").read_text(encoding="utf-8").rstrip()
    title = escape(document.title)
    return page.substitute(title=title, style=style, body="\n".join(body))


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    blocks = [_block(block) for block in section.blocks]
    if not section.folded:
        return "\n".join([heading, *blocks] if heading else blocks)
    summary = f"<summary>{heading}</summary>"
    return "\n".join(["<details>", summary, *blocks, "</details>"])


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Notice):
        items = "".join(f"<li>{escape(line)}</li>\n" for line in block.lines)
        title = f"<strong>{escape(block.title)}</strong>"
        return f'<div class="notice">{title}\n<ul>\n{items}</ul></div>'
    if isinstance(block, Picture):
        drawn = "\n".join(
            svg.replace(
                "<svg ",
                f'<svg class="{page}" role="img" aria-label="{escape(block.alt)}" ',
                1,
            )
            for page, svg in (("wide", block.svg), ("narrow", block.narrow))
        )
        caption = f"<figcaption>{escape(block.caption)}</figcaption>"
        return f"<figure>\n{drawn}\n{caption}\n</figure>"
    return _table(block)


def _table(table: Table) -> str:
    """On a narrow page every row is a card, whose cells name their columns."""
    titled = any(column.title for column in table.columns)
    lines = [f'<p class="caption">{escape(table.caption)}</p>'] if table.caption else []
    kinds = {column.kind for column in table.columns}
    kind = "answers" if "word" in kinds else "" if titled else "facts"
    lines.append(f'<div class="scroll"><table{_class(kind)}>')
    if titled:
        heads = (f'<th class="{c.kind}">{escape(c.title)}</th>' for c in table.columns)
        lines.append(f"<thead><tr>{''.join(heads)}</tr></thead>")
    lines.append("<tbody>")
    for row in table.rows:
        cells = (_cell(column, text) for column, text in zip(table.columns, row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""


def _cell(column: Column, text: str) -> str:
    shown, name = escape(text), escape(text.lower())
    names = [column.kind]
    if column.kind == "code" and text:
        shown = f"<code>{shown}</code>"
    elif column.kind == "ref" and text:
        shown = f'<a href="#{name}">{shown}</a>'
    elif column.kind == "anchor" and text:
        shown = f'<span id="{name}">{shown}</span>'
    elif column.kind == "word":
        names += [word for word in text.split() if word in DIRECTIONS]
    names += ["long"] * (len(text) > LONG.get(column.kind, len(text)))
    title = f' data-title="{escape(column.title)}"' if column.title else ""
    return f"<td{_class(' '.join(names))}{title}>{shown}</td>"
