"""The check's outcome, one row per step."""

from dataclasses import dataclass, field
from typing import TextIO

from kconf.unusual import warnings
from records.durations import duration
from records.plurals import plural
from records.text_table import WIDTH, fitted

HEADINGS = (
    "step",
    "parameters",
    "attn:MLP",
    "MFLOP/token",
    "cache/token",
    "memory at batch",
    "time",
    "",
)


@dataclass
class Verdict:
    """The outcome of one step.

    promise: the first broken one, None when all hold; found: what was found
    instead. cache_per_token: values over all layers. memory_bytes: estimated
    peak of training with micro_batch sequences. sizes: what a 0 of the base stands for
    (kconf/derived.py). questions: asked of its values (kconf/unusual.py). notes: where it
    reads everything (kconf/dense.py). functions: how many different ones the steps of its
    study compute. again: the command that checks only this step.
    """

    study: str
    step: str
    help: str
    again: str
    parameters: int | None = None
    attn_mlp_ratio: float | None = None
    flops_per_token: int | None = None
    cache_per_token: int | None = None
    memory_bytes: int | None = None
    micro_batch: int | None = None
    seconds: float = 0.0
    network_of: str | None = None
    sizes: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    functions: int | None = None
    proofs: list[str] = field(default_factory=list)
    promise: str | None = None
    found: str | None = None
    trace: str | None = None


def print_table(verdicts: list[Verdict]) -> None:
    """Aligned columns, a heading per study."""
    rows = [_row(verdict) for verdict in verdicts]
    numbers = range(1, len(HEADINGS))
    head, *lines = fitted([HEADINGS, *rows], right=numbers, width=WIDTH - 2)
    study = None
    for verdict, line in zip(verdicts, lines):
        if verdict.study != study:
            study = verdict.study
            print("\n".join([study, *verdict.sizes, f"  {head}"]))
        print(f"  {line}")
    for verdict in verdicts:
        for note in verdict.notes:
            print(f"{verdict.step}: {note}")
    counts = {v.study: v.functions for v in verdicts if v.functions is not None}
    for study, count in counts.items():
        print(f"{study}: {plural(count, 'distinct function')}")
    shared = sum(verdict.network_of is not None for verdict in verdicts)
    if shared:
        share = "step shares its" if shared == 1 else "steps share their"
        print(f"{shared} {share} network with an earlier one, proven there")


def print_questions(verdicts: list[Verdict], to: TextIO) -> None:
    """What is asked of the values of each study, a line per question."""
    for study in dict.fromkeys(verdict.study for verdict in verdicts):
        asked = [(v.step, v.questions) for v in verdicts if v.study == study]
        for line in warnings(asked):
            print(line, file=to)


def _row(verdict: Verdict) -> tuple[str, ...]:
    """What was counted before a promise broke; the rest is blank."""
    mark = "✓" if verdict.promise is None else "✗"
    cells = (
        (verdict.parameters, lambda n: f"{n:,}"),
        (verdict.attn_mlp_ratio, lambda ratio: f"1:{ratio:.3f}"),
        (verdict.flops_per_token, lambda flops: f"{flops / 1e6:.1f}"),
        (verdict.cache_per_token, lambda n: f"{n:,}"),
        (
            verdict.memory_bytes,
            lambda n: f"{n / 2**30:.2f} GiB at {verdict.micro_batch}",
        ),
    )
    costs = ["" if value is None else told(value) for value, told in cells]
    return (verdict.step, *costs, duration(verdict.seconds), mark)


def print_failure(verdict: Verdict, overrides: list[str], to: TextIO) -> None:
    """The step, its first broken promise, and how to rerun only it under the
    same one-shot overrides.
    """
    print(f"\n✗ {verdict.study} {verdict.step}: {verdict.promise}", file=to)
    for line in (verdict.found or "").splitlines():
        print(f"    {line}", file=to)
    if verdict.trace:
        print(verdict.trace.rstrip(), file=to)
    print(f"    rerun only this: {' '.join([*overrides, verdict.again])}", file=to)
