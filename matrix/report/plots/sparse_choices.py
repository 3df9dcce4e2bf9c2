"""What native sparse attention reads and chooses: how many keys, how far back, and maps
of where queries look.

From the rows of kind `attention` (docs/records.md): `reads_NAME` and `choice_distance`
by layer, `maps` by name and layer, of a run's last evaluation.
"""

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Picture, Section, Table, Text
from matrix.report.plots.common import STYLE, WIDE, Page, picture
from matrix.results.rows import Row, mean

LONGEST_NAME = 24  # characters of a step beside a map
BRANCHES = {"cmp": "Compressed", "sel": "Selected", "win": "Window"}
TITLES = {"compressed": "p^c: compression blocks", "selected": "p^s: selection blocks"}


@dataclass(frozen=True)
class Choices:
    """Of one step. reads: keys that a query reads by branch, and "all" that it could,
    and shares: of the chosen blocks by distance, both the mean over layers and runs;
    maps: {name: {layer: rows}} of the run with the lowest seed.
    """

    step: str
    ref: str
    reads: Mapping[str, float]
    shares: tuple[float, ...]
    maps: Mapping[str, Mapping[str, Any]]


def choices(rows: Sequence[Row]) -> list[Choices]:
    """The steps that recorded any, in their order."""
    found = []
    for row in rows:
        last = [row.runs[seed].attention for seed in sorted(row.runs)]
        ends = [heads[-1] for heads in last if heads]
        layers = [layer for end in ends for layer in _shares(end)]
        maps = _maps(ends[0]) if ends else {}
        reads = _reads(ends)
        if layers or maps or reads:
            shares = tuple(mean(each) for each in zip(*layers))
            found.append(Choices(row.step, row.ref, reads, shares, maps))
    return found


def _reads(ends: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of every branch over the layers of all runs; nothing without "all"."""
    found = {}
    for name in (*BRANCHES, "all"):
        lists = [end.get(f"reads_{name}") for end in ends]
        numbers = [x for each in lists if isinstance(each, list) for x in each]
        numbers = [x for x in numbers if type(x) in (int, float)]
        if numbers:
            found[name] = mean(numbers)
    return found if "all" in found else {}


def _shares(row: Mapping[str, Any]) -> list[list[float]]:
    """By distance, of every layer that has them."""
    layers = row.get("choice_distance")
    lists = layers if isinstance(layers, list) else []
    return [x for x in lists if isinstance(x, list) and x and None not in x]


def _maps(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those that have as many columns in every row."""
    found: dict[str, dict[str, Any]] = {}
    for name, layers in row.get("maps", {}).items():
        for layer, lines in layers.items():
            if len({len(line) for line in lines}) == 1 and lines[0]:
                found.setdefault(name, {})[layer] = lines
    return found


def section(report: Report) -> Section | None:
    """The table and the maps; None where no step chooses blocks."""
    found = choices(report.rows)
    if not found:
        return None
    text = (
        "At the last evaluation, on a few fixed windows of the validation text; "
        "docs/mechanisms.md has the formulas. Chosen blocks are those that no rule "
        "forces, of the queries that leave a block out; their distance is that of the "
        "query's own block. They describe what the heads do and claim nothing."
    )
    blocks: list = [Text(text)]
    counted = [each for each in found if each.reads]
    if counted:
        blocks.append(reads_table(counted))
    chosen = [each for each in found if each.shares]
    if chosen:
        blocks.append(table(chosen))
    for name in dict.fromkeys(name for each in found for name in each.maps):
        blocks.append(_picture(name, [each for each in found if name in each.maps]))
    return Section("What sparse attention chooses", tuple(blocks))


def reads_table(found: Sequence[Choices]) -> Table:
    """A row per step: keys per query by branch, together, and of dense attention."""
    columns = (
        Column("Step", "code"),
        *(Column(title) for title in BRANCHES.values()),
        Column("Together"),
        Column("Dense"),
        Column("Runs", "ref"),
    )
    lines = []
    for each in found:
        read = [each.reads[name] for name in BRANCHES if name in each.reads]
        cells = [
            f"{each.reads[name]:.1f}" if name in each.reads else units.DASH
            for name in BRANCHES
        ]
        together, dense = f"{sum(read):.1f}", f"{each.reads['all']:.1f}"
        lines.append((each.step, *cells, together, dense, each.ref))
    caption = (
        "Keys that a query reads, counted where they are read, the mean over queries, "
        "layers and runs; dense attention reads all tokens up to the query's own."
    )
    return Table(columns, tuple(lines), caption)


def table(found: Sequence[Choices]) -> Table:
    """A row per step, a column per distance."""
    most = max(len(each.shares) for each in found)
    columns = (
        Column("Step", "code"),
        *(Column(distance(place)) for place in range(most)),
        Column("Runs", "ref"),
    )
    lines = []
    for each in found:
        shares = [f"{100 * share:.1f} %" for share in each.shares]
        shares += [units.DASH] * (most - len(shares))
        lines.append((each.step, *shares, each.ref))
    caption = "Share of the chosen blocks by their distance, in selection blocks."
    return Table(columns, tuple(lines), caption)


def distance(place: int) -> str:
    """The distances that are counted at a place: 0, 1, 2–3, 4–7, …"""
    low, high = (1 << place) >> 1, (1 << place) - 1
    return str(low) if low >= high else f"{low}–{high}"


def _picture(name: str, found: Sequence[Choices]) -> Picture:
    title = TITLES.get(name, name)
    caption = (
        f"{title}. Queries downwards, blocks to the right, of the first window, the mean "
        "over the heads; the run with the lowest seed, its first, middle and last layer. "
        "Darker is more; every map has its own scale."
    )
    alt = f"maps of {name} blocks, one row per step, one column per layer"
    return picture(
        lambda page: figure(name, found, page), f"choices-{name}", alt, caption
    )


def figure(name: str, found: Sequence[Choices], page: Page = WIDE) -> Figure:
    """A row of maps per step."""
    across = max(len(each.maps[name]) for each in found)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = (page.width, 0.5 + 1.35 * len(found))
        drawn = Figure(figsize=size, layout="constrained")
        grid = drawn.subplots(len(found), across, squeeze=False)
        for cells, each in zip(grid, found):
            for axes in cells[len(each.maps[name]) :]:
                axes.set_visible(False)
            for axes, (layer, rows) in zip(cells, each.maps[name].items()):
                axes.imshow(rows, cmap="Greys", aspect="auto", interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.set_title(f"layer {int(layer) + 1}", fontsize=7)
            cells[0].set_ylabel(units.shortened(each.step, LONGEST_NAME), fontsize=6)
        drawn.suptitle(TITLES.get(name, name), fontsize=9, x=0.01, ha="left")
        return drawn
