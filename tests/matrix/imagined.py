"""Studies that are in no directory: runs, rows and verdicts made of numbers.

Steps, seeds and step numbers are none of 0 … n − 1 and are not in order, so that a
number that is taken for a position gives something else.
"""

import copy
from dataclasses import replace
from typing import Any, Mapping, Sequence

from matrix.evidence.gather import Report
from matrix.evidence.planning import Planning, Spread
from matrix.evidence.verdict import Measured, Verdict
from matrix.evidence.weigh import Evidence
from matrix.results.rows import make_rows
from matrix.results.run import Run
from matrix.results.selection import Selection, Terms
from matrix.results.study import Open, Study

STEPS = (0, 3, 7, 12)
"""Optimizer steps of the evaluations."""
DOCUMENTS: dict[str, Any] = {
    "run": {
        "cell": {"changes": [], "identity": {"code": "c" * 64, "dataset": "d" * 64}}
    },
    "summary": {"facts": {"budget": "tokens"}, "device": {"kind": "cpu"}},
    "config": {"SEED": 0, "INIT_SALT": "", "GPT2_LAYERS": 2},
    "operational": (),
    "attempts": {},
    "evaluations": {},
}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """base with what `more` says, key by key of nested mappings."""
    whole = copy.deepcopy(dict(base))
    for key, value in more.items():
        inner = isinstance(value, Mapping) and isinstance(whole.get(key), Mapping)
        whole[key] = merged(whole[key], value) if inner else value
    return whole


def run(step: str, seed: int, losses: Sequence[float], **documents: Any) -> Run:
    """A finished run that was evaluated at STEPS, the last losses of which are given."""
    padded = [*[9.0] * (len(STEPS) - len(losses)), *losses]
    evals = tuple(
        {
            "step": at,
            "loss": loss,
            "tokens": 50 * at,
            "time": 2.0 * at,
            "bits_per_byte": loss / 2,
            "perplexity": 10 * loss,
        }
        for at, loss in zip(STEPS, padded)
    )
    final = {"step": evals[-1]["step"], "loss": evals[-1]["loss"]}
    own = {"summary": {"final_eval": final}, "config": {"SEED": seed}}
    whole = merged(merged(DOCUMENTS, own), documents)
    name = f"{step}/seed-{seed}/{'0' * 8}"
    began = 1000.0 + seed
    return Run(step, seed, "0" * 8, name, "done", "", began, began, whole, evals)


def study(
    table: Mapping[str, Mapping[int, Sequence[float]]],
    lost: Sequence[Open] = (),
    extra: Sequence[Run] = (),
    seeds: Sequence[int] = (),
    **documents: Any,
) -> Study:
    """A study of {step: {seed: losses}}, the control first. `documents` go to a step
    by its name with underscores, or to all steps as `every`.
    """
    every = documents.pop("every", {})
    made = {
        (step, seed): run(
            step, seed, x, **merged(every, documents.get(step.replace("-", "_"), {}))
        )
        for step, losses in table.items()
        for seed, x in losses.items()
    }
    found = {seed for _, seed in made} | {each.seed for each in lost} | set(seeds)
    runs = (*made.values(), *extra)
    return Study(
        "demo", tuple(table), tuple(sorted(found)), runs, made, tuple(lost), ()
    )


def verdict(step: str, word: str, d: Mapping[int, float], **more: Any) -> Verdict:
    """A verdict as it is; `measured` takes what differs from MEASURED."""
    numbers = more.pop("measured", None)
    whole = None if numbers is None else replace(MEASURED, **numbers)
    base = dict(direction="", reasons=(), r=None, outliers=(), measured=whole)
    return Verdict(step=step, outcome=word, differences=d, **{**base, **more})


PLANNING = Planning(
    spread=Spread(0.0031, 15, 0.0023, 0.0048),
    visible=(0.0041, 0.0083),
    needed=(11, 46),
    power=(0.12, 0.24, 0.41),
    exaggeration=(1.13, 1.28),
)
MEASURED = Measured(
    difference=-0.0123,
    sd=0.0031,
    t=-4.0,
    p=0.00123,
    adjusted=0.00456,
    level=0.02,
    flip=0.03125,
    interval=(-0.019, -0.001),
    narrow=(-0.017, -0.009),
    equivalence=0.9,
    planning=PLANNING,
    bca=None,
)


def evidence(
    verdicts: Sequence[Verdict], terms: Terms = Terms(), **more: Any
) -> Evidence:
    """What a study of these verdicts says; family and A/A arms by their words."""
    base = dict(
        control="04-control",
        seeds=(2, 5, 9),
        family=tuple(v.step for v in verdicts if v.outcome != "A/A"),
        aa=tuple(v.step for v in verdicts if v.outcome == "A/A"),
        refs={v.step: f"R{n}" for n, v in enumerate(verdicts, 2)},
    )
    return Evidence(terms=terms, verdicts=tuple(verdicts), **{**base, **more})


def report(
    made: Study, found: Evidence, registration=None, deviations: Sequence[str] = ()
) -> Report:
    """A report of a study and what is said of it."""
    selection = Selection(terms=found.terms)
    rows = make_rows(made, selection)
    return Report(selection, made, rows, (), (), found, registration, tuple(deviations))
