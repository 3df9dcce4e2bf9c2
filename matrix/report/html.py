"""Writes a document as one HTML file: style and plots inside, no script, no network."""

from html import escape

from matrix.report.document import Block, Column, Document, Notice, Picture, Table, Text

LONG = 24  # characters of a text that gets a wide column
STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: #fff; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .6rem 0; }
code { font: .875em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.scroll { overflow-x: auto; margin: .8rem 0; background:
  linear-gradient(to right, #fff 40%, #fff0) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, #fff 40%, #fff0) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, #0003, #0000) left / .7rem 100% no-repeat scroll,
  linear-gradient(to left, #0003, #0000) right / .7rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .875rem; overflow-wrap: normal; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; line-height: 1.25;
  border-bottom: 2px solid var(--soft); }
th:first-child, td:first-child { padding-left: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
td.code { white-space: nowrap; }
td.text { min-width: 5rem; }
td.code + td.text:last-child { min-width: 12rem; }
td.long { min-width: 16rem; }
.facts td { border: 0; padding-top: .1rem; padding-bottom: .1rem; }
.facts td:first-child { color: var(--soft); white-space: nowrap; min-width: 0; }
.facts td:last-child { overflow-wrap: anywhere; }
.caption, figcaption { color: var(--soft); font-size: .875rem; }
.caption { margin-bottom: -.2rem; }
.notice { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .7rem 1rem;
  margin: 1rem 0; }
.notice strong { display: block; }
.notice ul { margin: .3rem 0 0; padding-left: 1.1rem; }
figure { margin: 1rem 0; max-width: 50rem; }
figure .scroll { margin: 0; }
figure svg { width: 100%; height: auto; display: block;
  mix-blend-mode: multiply; }
a { color: #0050a0; }
:target { background: #fff4c2; }
@media (max-width: 40rem) { body { font-size: .95rem; padding: 1rem .8rem 3rem; }
  th, td { padding: .3rem .5rem; }
  figure svg { min-width: 32rem; } }
@media print { .scroll { overflow: visible; } }
""".strip()


def html(document: Document) -> str:
    """The document as a whole page, self-contained."""
    body = []
    for section in document.sections:
        heading = [f"<h2>{escape(section.title)}</h2>"] if section.title else []
        body += [*heading, *(_block(block) for block in section.blocks)]
    title = escape(document.title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>\n{STYLE}\n</style></head>",
            f"<body>\n<h1>{title}</h1>",
            *body,
            "</body></html>\n",
        ]
    )


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
    long = " long" if column.kind == "text" and len(text) > LONG else ""
    return f'<td class="{column.kind}{long}">{shown}</td>'
