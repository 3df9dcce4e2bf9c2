"""What torch.compile changed, in four pictures: compiled runs beside eager ones."""

import io
from pathlib import Path
from statistics import fmean
from typing import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matrix.published.run import PublishedError, PublishedRun
from matrix.published.table import Answer
from records import atomic

DPI = 300
SIZE = (6.4, 4.0)  # inches
EAGER, COMPILED = "eager", "compiled"
STYLES = {EAGER: ("#0072B2", "--", "o"), COMPILED: ("#D55E00", "-", "s")}
LOADS = {"compute": "gpu/compute_util_avg", "memory": "gpu/memory_util_avg"}
Groups = Mapping[str, Sequence[PublishedRun]]


def grouped(runs: Sequence[PublishedRun]) -> Groups:
    """The runs by CONFIG_GPT2_COMPILE. Raises PublishedError unless both are there."""
    groups: dict[str, list[PublishedRun]] = {EAGER: [], COMPILED: []}
    for run in runs:
        compiled = run.config.get("compile_model")
        if compiled is None:
            raise PublishedError(f"{run.name} does not record compile_model")
        groups[COMPILED if compiled else EAGER].append(run)
    for word, found in groups.items():
        if not found:
            raise PublishedError(
                f"no {word} run among {len(runs)}: name runs with and without "
                "CONFIG_GPT2_COMPILE=y"
            )
    return groups


def plot(runs: Sequence[PublishedRun], directory: Path) -> Answer:
    """Draw the four pictures into `directory`; the answer lists means and files."""
    groups = grouped(runs)
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[Axes, Groups], None]] = {
        "compile_throughput.png": _throughput,
        "compile_step_time.png": _step_time,
        "compile_gpu.png": _gpu,
        "compile_loss.png": _loss,
    }
    for name, draw in pictures.items():
        figure = Figure(SIZE, dpi=DPI, layout="constrained")
        draw(figure.subplots(), groups)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
        atomic.write_bytes(directory / name, png.getvalue())
    rows = [
        {
            "mode": word,
            "runs": len(found),
            "step_time_s": fmean(run.last("final/average_step_time") for run in found),
            "tokens_per_s": fmean(run.last("final/tokens_per_s") for run in found),
            "loss": fmean(run.last("final/loss") for run in found),
        }
        for word, found in groups.items()
    ]
    notes = [f"speed-up {speedup(groups):.3f}"]
    notes += [str(directory / name) for name in pictures]
    return Answer("Impact of torch.compile", tuple(rows[0]), rows, notes)


def speedup(groups: Groups) -> float:
    """Mean step time of the eager runs over that of the compiled ones."""
    eager, compiled = (
        fmean(run.last("final/average_step_time") for run in groups[word])
        for word in (EAGER, COMPILED)
    )
    return eager / compiled


def _lines(
    axes: Axes, groups: Groups, xy: Callable[[PublishedRun], tuple[list, list]]
) -> None:
    """A line per run, a colour and a dash per group, named once."""
    for word, found in groups.items():
        colour, dash, _ = STYLES[word]
        for number, run in enumerate(found):
            x, y = xy(run)
            label = f"{word} (n = {len(found)})" if number == 0 else None
            axes.plot(x, y, dash, color=colour, linewidth=1.2, label=label)
    axes.legend(frameon=False)


def _throughput(axes: Axes, groups: Groups) -> None:
    def xy(run: PublishedRun) -> tuple[list, list]:
        series = run.series("train/tokens_per_s")
        return list(series), list(series.values())

    _lines(axes, groups, xy)
    axes.set(xlabel="optimizer step", ylabel="tokens/s", title="Throughput")
    axes.set_ylim(bottom=0)


def _step_time(axes: Axes, groups: Groups) -> None:
    for place, (word, found) in enumerate(groups.items()):
        colour, _, marker = STYLES[word]
        times = [1000 * run.last("final/average_step_time") for run in found]
        axes.bar(place, fmean(times), width=0.5, color=colour, alpha=0.35)
        axes.plot([place] * len(times), times, marker, color=colour)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set(ylabel="ms per optimizer step", title=f"Speed-up {speedup(groups):.2f}×")


def _gpu(axes: Axes, groups: Groups) -> None:
    """Bars of mean loads; a sentence where no GPU was sampled."""
    width, drawn = 0.35, False
    for place, (word, found) in enumerate(groups.items()):
        for spot, key in enumerate(LOADS.values()):
            values = [
                row[key]
                for run in found
                for row in run.history
                if row.get(key) is not None
            ]
            if values:
                drawn = True
                x = spot + (place - 0.5) * width
                label = word if spot == 0 else None
                axes.bar(x, fmean(values), width, color=STYLES[word][0], label=label)
    axes.set_xticks(range(len(LOADS)), list(LOADS))
    axes.set(ylabel="% of the time busy", title="GPU load", ylim=(0, 100))
    if drawn:
        axes.legend(frameon=False)
    else:
        axes.text(
            *(0.5, 0.5, "these runs recorded no GPU rows"),
            transform=axes.transAxes,
            ha="center",
        )


def _loss(axes: Axes, groups: Groups) -> None:
    def xy(run: PublishedRun) -> tuple[list, list]:
        times, losses = run.series("eval/time"), run.series("eval/loss")
        return [times[step] for step in losses], list(losses.values())

    _lines(axes, groups, xy)
    axes.set(
        xlabel="training time, s",
        ylabel="validation loss, nats/token",
        title="Loss against time",
    )
