"""The golden values of every network that defconfigs/ can train, and how to renew them.

`python -m tests.golden.networks` writes networks.json anew and prints what changed in
it: after a change that is meant to change them, and for a new network. Costs and names
of the state are those of the full size, initial values those of a small model
(gpt2/measure/networks.py).

Only what no machine changes can stand in a file. Equal bit for bit under
ATEN_CPU_CAPABILITY default, avx2 and avx512, and with AVX2 and FMA hidden from numpy and
the C library: everything here, initial values because numpy draws them from Philox one
number at a time and torch only scales them. Logits were different in 32 of 32 networks
(default) and 30 of 32 (avx2), so losses and gradients are compared between two commits
on one machine instead (make compare-commits). The memory estimate is that of a machine
without a GPU: on one that has it, `auto` resolves to what that GPU is faster with.
"""

import json
from pathlib import Path
from unittest import mock

import torch

from gpt2.measure.networks import Configuration, built, configurations, counted

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).with_name("networks.json")

Figures = dict[str, int | float | str]


def stored() -> dict[str, Figures]:
    """{STUDY/STEP: figures}, one configuration for each network."""
    return json.loads(STORED.read_text())


def figures(one: Configuration) -> Figures:
    """The golden values of a configuration's network, as they are now."""
    with mock.patch.object(torch.cuda, "is_available", lambda: False):
        return counted(one.full) | built(one.small)[1]


def main() -> None:
    """Write networks.json; a network keeps the name that stands for it."""
    known = list(configurations(ROOT))
    before = stored() if STORED.exists() else {}
    known.sort(key=lambda one: one.name not in before)
    first: dict[str, Configuration] = {}
    for one in known:
        first.setdefault(one.network, one)
    after = {one.name: figures(one) for one in first.values()}
    for name in sorted({*before, *after}):
        old, new = before.get(name, {}), after.get(name, {})
        for figure in {**old, **new}:
            if old.get(figure) != new.get(figure):
                print(name, figure, old.get(figure), "->", new.get(figure))
    STORED.write_text(json.dumps(dict(sorted(after.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
