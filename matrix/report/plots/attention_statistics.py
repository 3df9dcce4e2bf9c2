"""Attention statistics over training: a plot per statistic, a panel per step.

From the rows of kind `attention` (docs/records.md): per statistic a list by layer
of lists by head, or of numbers; None is what is not defined.
"""

import math
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from matrix import units
from matrix.evidence.gather import Report
from matrix.report.document import Column, Picture, Section, Table, Text
from matrix.report.plots.common import STYLE, WIDE, Page, picture
from matrix.results.rows import Row, mean

LONGEST_NAME = 24  # characters of a step above a panel
BANDED = 3  # layers whose heads are shown as a band: the first, the last, one between
TITLES = {
    "entropy": "Entropy of the attention, nats",
    "reciprocity": "Reciprocity of the scores",
    "sink_rate": "Sink rate",
    "sparsity": "Share of exact zeros in the attention",
    "kurtosis": "Excess kurtosis of the residual stream",
    "ra_alpha": "α of reciprocal attention",
    "ra_ct_gate": "Gate of RA-CT",
    "mlp_attn_gate": "Gate from the MLP",
    "output_gate": "Output gate",
    "gate_cmp": "γ of the compressed branch",
    "gate_sel": "γ of the selected branch",
    "gate_win": "γ of the window",
    "gate_cmp_sd": "Deviation of γ over queries, compressed branch",
    "gate_sel_sd": "Deviation of γ over queries, selected branch",
    "gate_win_sd": "Deviation of γ over queries, window",
    "gate_entropy": "Entropy of γ over the branches, nats",
    "choice_mass": "Share of the scores on blocks chosen, not forced",
    "choice_overlap": "Share of the blocks that the query before reads too",
    "state_norm": "Norm of the state after the last token",
    "effective_span": "Tokens that the state holds, decays alone",
}
OWN_SECTION = (
    *("choice_distance", "half_life"),
    *("reads_cmp", "reads_sel", "reads_win", "reads_all"),
)
"""What is no number per head: half_lives.py has the half-lives, plots/sparse_choices.py
the others.
"""
Layer = dict[int, tuple[float, float, float]]
"""{step: (mean, lowest, highest)} over the heads of a layer and the seeds."""


@dataclass(frozen=True)
class Panel:
    """One statistic in one step of the study: a Layer per layer."""

    step: str
    ref: str
    layers: tuple[Layer, ...]

    @property
    def values(self) -> list[float]:
        """Every mean, lowest and highest."""
        return [v for layer in self.layers for three in layer.values() for v in three]

    @property
    def last(self) -> list[float]:
        """The mean of every layer at its last step."""
        return [layer[max(layer)][0] for layer in self.layers if layer]


def panels(rows: Sequence[Row]) -> dict[str, list[Panel]]:
    """{statistic: panels}: the steps that recorded it, in their order.

    Over the evaluations that all of a step's runs with statistics have.
    """
    found: dict[str, list[Panel]] = {}
    for row in rows:
        runs = [run.attention for run in row.runs.values() if run.attention]
        names = dict.fromkeys(
            name
            for heads in runs
            for each in heads
            for name in each
            if _listed(each[name]) and name not in OWN_SECTION
        )
        for name in names:
            layers = _layers(name, runs)
            if any(layers):
                found.setdefault(name, []).append(Panel(row.step, row.ref, layers))
    return found


def _listed(value: Any) -> bool:
    return isinstance(value, list)


def _layers(
    name: str, runs: Sequence[Sequence[Mapping[str, Any]]]
) -> tuple[Layer, ...]:
    """Mean and extremes per layer over heads and runs, by optimizer step."""
    by_step = [
        {row["step"]: row[name] for row in heads if _listed(row.get(name))}
        for heads in runs
    ]
    shared = sorted(set.intersection(*(set(each) for each in by_step)))
    count = max((len(each[step]) for each in by_step for step in shared), default=0)
    layers: list[Layer] = [{} for _ in range(count)]
    for step in shared:
        for number, layer in enumerate(layers):
            values = [
                value
                for each in by_step
                for here in each[step][number : number + 1]
                for value in _numbers(here)
            ]
            if values:
                layer[step] = (mean(values), min(values), max(values))
    return tuple(layers)


def _numbers(value: Any) -> Iterable[float]:
    """The defined numbers of a layer: of its heads, or its own."""
    return [v for v in (value if _listed(value) else [value]) if v is not None]


def section(report: Report) -> Section | None:
    """The plots, and the numbers at the end of training; None without statistics."""
    found = panels(report.rows)
    if not found:
        return None
    shown, constant = [], []
    for name, each in found.items():
        values = {value for panel in each for value in panel.values}
        if len(values) == 1:
            constant.append(f"{name} is {values.pop():g} everywhere")
        else:
            shown.append(_picture(name, each))
    text = (
        "Per layer, means over the heads, the seeds and a few fixed windows of the "
        "validation text; docs/mechanisms.md has the formulas. They describe what the "
        "heads do and claim nothing. The table: means over all layers at the last "
        "evaluation."
    )
    if constant:
        text += f" Not drawn: {', '.join(constant)}."
    return Section("Attention over training", (Text(text), table(found), *shown))


def table(found: Mapping[str, Sequence[Panel]]) -> Table:
    """A row per step, a column per statistic: mean over layers at the end."""
    columns = (
        Column("Step", "code"),
        *(Column(name) for name in found),
        Column("Runs", "ref"),
    )
    steps = dict.fromkeys((p.step, p.ref) for each in found.values() for p in each)
    lines = []
    for step, ref in steps:
        ends = [
            next((mean(p.last) for p in each if p.step == step), None)
            for each in found.values()
        ]
        shown = (units.DASH if end is None else f"{end:.3f}" for end in ends)
        lines.append((step, *shown, ref))
    return Table(columns, tuple(lines))


def _picture(name: str, each: Sequence[Panel]) -> Picture:
    count = max(len(panel.layers) for panel in each)
    caption = (
        f"{TITLES.get(name, name)} over training: a panel per step, a line per layer, "
        "from dark and long dashes (the first) to light and solid (the last)."
    )
    if any(low < high for p in each for x in p.layers for _, low, high in x.values()):
        which = units.numbers_in(number + 1 for number in banded(count))
        caption += (
            f" Bands: the lowest to the highest over heads and seeds, layers {which}."
        )
    alt = f"{name} of every layer over training, one panel per step"
    file = f"attention-{name.replace('_', '-')}"
    return picture(lambda page: figure(name, each, page), file, alt, caption)


def banded(layers: int) -> list[int]:
    """The layers with a band, counted from 0: the first, the last, one between."""
    spread = (round(k * (layers - 1) / (BANDED - 1)) for k in range(BANDED))
    return units.distinct(spread)


def line_style(layer: int, layers: int) -> dict[str, Any]:
    """Colour and dashes of a layer: brightness and density both follow the depth."""
    depth = layer / max(1, layers - 1)
    tone = to_hex(matplotlib.colormaps["viridis"](0.85 * depth))
    dashes = (0, ()) if depth == 1 or layers == 1 else (0, (1 + 5 * (1 - depth), 1.2))
    return {"color": tone, "linestyle": dashes}


def figure(name: str, each: Sequence[Panel], page: Page = WIDE) -> Figure:
    """Small multiples with one scale."""
    across = min(page.panels, len(each))
    down = math.ceil(len(each) / across)
    count = max(len(panel.layers) for panel in each)
    with matplotlib.rc_context(STYLE):
        abreast = 2 * page.panels
        legend_rows = math.ceil(count / abreast)
        height = 0.6 + 1.7 * down + 0.19 * legend_rows
        drawn = Figure(figsize=(page.width, height), layout="constrained")
        grid = drawn.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        cells = list(grid.flat)
        for axes, panel in zip(cells, each):
            _panel(axes, panel, count)
        for axes in cells[len(each) :]:
            axes.set_visible(False)
        for axes in cells[len(each) - across : len(each)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("Optimizer steps")
        drawn.suptitle(TITLES.get(name, name), fontsize=9, x=0.01, ha="left")
        handles, labels = max(
            (axes.get_legend_handles_labels() for axes in cells),
            key=lambda found: len(found[1]),
        )
        drawn.legend(
            handles, labels, loc="outside lower center", ncols=min(abreast, count)
        )
        return drawn


def _panel(axes: Axes, panel: Panel, count: int) -> None:
    for number, layer in enumerate(panel.layers):
        if not layer:
            continue
        middle, low, high = zip(*layer.values())
        style = line_style(number, count)
        if number in banded(count) and low != high:
            axes.fill_between(
                list(layer), low, high, color=style["color"], alpha=0.13, linewidth=0
            )
        label = f"layer {number + 1}"
        axes.plot(list(layer), middle, linewidth=1.3, label=label, **style)
    axes.set_title(units.shortened(panel.step, LONGEST_NAME), fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    form = FuncFormatter(lambda x, _: units.scaled(x).replace(".00", ""))
    axes.xaxis.set_major_formatter(form)
    axes.yaxis.set_major_locator(MaxNLocator(4))
