"""Writes a document as GitHub Markdown, its pictures as links to PNG files."""

import re

from matrix.report.document import Block, Column, Document, Notice, Picture, Table, Text
from records.text_table import padded

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def markdown(document: Document) -> str:
    """The document as Markdown; ends with a newline."""
    parts = [f"# {escape(document.title)}"]
    for section in document.sections:
        if section.title:
            parts.append(f"## {escape(section.title)}")
        blocks = [_block(block) for block in section.blocks]
        if section.folded:
            blocks = ["<details>\n<summary>Show</summary>", *blocks, "</details>"]
        parts += blocks
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that GitHub shows as it is written."""
    return SPECIAL.sub(r"\\\1", re.sub(r"\r\n?|\n", " ", text))


def code(text: str) -> str:
    """A code span, also inside a table, where | would end the cell."""
    if not text or "|" in text or "\n" in text or "\r" in text:
        return escape(text)
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return escape(block.text)
    if isinstance(block, Notice):
        items = [f"> - {escape(line)}" for line in block.lines]
        return "\n".join(["> [!WARNING]", f"> **{escape(block.title)}**", ">", *items])
    if isinstance(block, Picture):
        link = f"![{escape(block.alt)}]({block.file})"
        return f"{link}\n\n{escape(block.caption)}"
    return _table(block)


def _table(table: Table) -> str:
    """The source is padded, so that it reads as a table too."""
    rows = [[escape(column.title) for column in table.columns]]
    for row in table.rows:
        rows.append([_cell(c, text) for c, text in zip(table.columns, row)])
    numbers = {n for n, c in enumerate(table.columns) if c.kind == "number"}
    head, *body = padded(rows, numbers, least=3)
    rule = [
        "-" * (len(title) - 1) + (":" if number in numbers else "-")
        for number, title in enumerate(head)
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, rule, *body]]
    caption = [escape(table.caption), ""] if table.caption else []
    return "\n".join([*caption, *lines])


def _cell(column: Column, text: str) -> str:
    if column.kind == "code":
        return code(text)
    if column.kind == "ref":
        return f"[{escape(text)}](#{text.lower()})" if text else ""
    if column.kind == "anchor":
        return f'<a id="{text.lower()}"></a>{escape(text)}' if text else ""
    return escape(text)
