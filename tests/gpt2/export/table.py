"""Every step of every study in every format: what leaves exactly, what is refused.

    python -m tests.gpt2.export.table [hf native ...]

prints a table. The models are small and have weights away from their start; bands and
windows end inside the text. A cell is `exact`, the largest difference of logits, a refusal
with its reason, or what is not installed.
"""

import re
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from gpt2.export import transformers_alone, write
from gpt2.export.bundle import ExportError, Parcel
from gpt2.export.formats import FORMATS
from gpt2.settings.run import run_settings
from tests.gpt2.parcels import STEPS, parcel, randomised, tokens, values

NAMES = [f"{study}/{step}" for study, steps in STEPS.items() for step in steps]
ABSENT = "not installed"


def short(name: str) -> str:
    """The step with a band and a window that end inside the text."""
    attention = run_settings(values(name)).model.attention
    if attention is not None and attention.ra:
        name += " RA=y RA_BAND=4"
    if attention is not None and attention.window is not None:
        name += " SLIDING=y WINDOW=6"
    return name


@cache
def packed(name: str, whole: bool = False) -> Parcel:
    """The model of a step, ready to leave."""
    name = short(name)
    return parcel(name, randomised(name), whole=whole)


def refusal(error: ExportError) -> str:
    """refused, and the symbols it names; or that a library is not installed."""
    if ABSENT in str(error):
        return ABSENT
    symbols = re.findall(r"^  CONFIG_(\w+): ", str(error), re.M)
    return f"refused: {', '.join(symbols)}"


def compared(name: str, target: str) -> str:
    """One cell, by what `make export` compares before a file gets its name."""
    kind = write.TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"model{kind.SUFFIX}"
        leaves = packed(name, kind.WHOLE)
        try:
            kind.write(place, leaves)
            lines = write.compare(place, target, leaves)
        except ExportError as error:
            return refusal(error)
    given = " ".join(line.partition("differ by")[2] for line in lines)
    return max(re.findall(r"[\d.]+e[+-]\d+", given), key=float, default="exact")


def of_hf(names: list[str], folder: Path) -> dict[str, str | transformers_alone.Loaded]:
    """Of each step the refusal, or what one process without this project loads."""
    found, places = {}, {}
    for number, name in enumerate(names):
        try:
            write.TARGETS["hf"].write(folder / f"step{number}", packed(name))
            places[name] = folder / f"step{number}"
        except ExportError as error:
            found[name] = refusal(error)
    text_BT = tokens(packed(names[0]))
    loaded = transformers_alone.load(list(places.values()), text_BT)
    return found | dict(zip(places, loaded, strict=True))


@torch.no_grad()
def difference(name: str, loaded: transformers_alone.Loaded) -> float:
    """The largest difference of logits from ours."""
    leaves = packed(name)
    wanted_BTV = write.logits(leaves, tokens(leaves))
    return (loaded.logits_BTV - wanted_BTV).abs().max().item()


def hf_cell(name: str, loaded: str | transformers_alone.Loaded) -> str:
    """Class, difference, difference of a cached decode, and what is not as it should be."""
    if isinstance(loaded, str):
        return loaded
    words = f"{loaded.kind} {difference(name, loaded):.1e}, cached {loaded.cached:.1e}"
    for what in ("missing", "unexpected"):
        keys = {"missing": loaded.missing, "unexpected": loaded.unexpected}[what]
        words += f", {what} {keys}" if keys else ""
    same = loaded.texts[0] == loaded.texts[1]
    return words + (f", {len(loaded.texts[0])} tokens" if same else ", ANOTHER TEXT")


def main(targets: list[str]) -> None:
    """Print the table."""
    print(f"| step | {' | '.join(targets)} |\n|{'---|' * (1 + len(targets))}")
    with tempfile.TemporaryDirectory() as folder:
        loaded = of_hf(NAMES, Path(folder)) if "hf" in targets else {}
    for name in NAMES:
        cells = [
            hf_cell(name, loaded[name]) if target == "hf" else compared(name, target)
            for target in targets
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(FORMATS))
