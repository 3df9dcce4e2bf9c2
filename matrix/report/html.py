"""Writes a document as one HTML file: style and plots inside, no script, no network."""

from html import escape
from pathlib import Path
from string import Template

from matrix.report.document import Block, Column, Document, Notice, Picture, Table, Text

HERE = Path(__file__).parent
LONG = {"text": 24, "code": 48}
"""Characters from which a cell gets a wide column and its text more than one line."""


def html(document: Document) -> str:
    """The document as a whole page, self-contained."""
    body = []
    for section in document.sections:
        heading = [f"<h2>{escape(section.title)}</h2>"] if section.title else []
        body += [*heading, *(_block(block) for block in section.blocks)]
    page = Template((HERE / "report.html").read_text(encoding="utf-8"))
    style = (HERE / "report.css").read_text(encoding="utf-8").rstrip()
    title = escape(document.title)
    return page.substitute(title=title, style=style, body="\n".join(body))


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Notice):
        items = "".join(f"<li>{escape(line)}</li>\n" for line in block.lines)
        title = f"<strong>{escape(block.title)}</strong>"
        return f'<div class="notice">{title}\n<ul>\n{items}</ul></div>'
    if isinstance(block, Picture):
        label = f'role="img" aria-label="{escape(block.alt)}"'
        svg = block.svg.replace("<svg ", f"<svg {label} ", 1)
        caption = f"<figcaption>{escape(block.caption)}</figcaption>"
        return f'<figure>\n<div class="scroll">{svg}</div>\n{caption}\n</figure>'
    return _table(block)


def _table(table: Table) -> str:
    titled = any(column.title for column in table.columns)
    lines = [f'<p class="caption">{escape(table.caption)}</p>'] if table.caption else []
    kind = "" if titled else ' class="facts"'
    lines.append(f'<div class="scroll"><table{kind}>')
    if titled:
        heads = (f'<th class="{c.kind}">{escape(c.title)}</th>' for c in table.columns)
        lines.append(f"<thead><tr>{''.join(heads)}</tr></thead>")
    lines.append("<tbody>")
    for row in table.rows:
        cells = (_cell(column, text) for column, text in zip(table.columns, row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(column: Column, text: str) -> str:
    shown, name = escape(text), escape(text.lower())
    if column.kind == "code" and text:
        shown = f"<code>{shown}</code>"
    elif column.kind == "ref" and text:
        shown = f'<a href="#{name}">{shown}</a>'
    elif column.kind == "anchor" and text:
        shown = f'<span id="{name}">{shown}</span>'
    long = " long" if len(text) > LONG.get(column.kind, len(text)) else ""
    return f'<td class="{column.kind}{long}">{shown}</td>'
