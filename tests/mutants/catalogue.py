"""Every mutant, by section, and the table that lists them."""

from collections.abc import Sequence

from tests.mutants import (
    attention,
    bench,
    claims,
    counts,
    clocks,
    damage,
    documents,
    dropout,
    endings,
    fleet,
    filters,
    first_hour,
    folders,
    exports,
    evaluation,
    fairness,
    handed_on,
    handovers,
    identity,
    inference,
    kernels,
    layers,
    live,
    looks,
    mixers,
    mlp,
    nsa,
    optimizers,
    overrides,
    positions,
    precision,
    pruning,
    ranks,
    recall,
    recurrence,
    recurrence_kernels,
    remote_code,
    report,
    shell,
    step_handovers,
    surroundings,
    survival,
    text_error,
    texts,
    trackers,
    training,
    validity,
    tuning,
    verdicts,
    received,
)
from tests.mutants.mutant import Check, Mutant, matches

SECTIONS: dict[str, list[Mutant]] = {
    **attention.SECTIONS,
    **mlp.SECTIONS,
    **documents.SECTIONS,
    **kernels.SECTIONS,
    **layers.SECTIONS,
    **recurrence.SECTIONS,
    **recurrence_kernels.SECTIONS,
    **mixers.SECTIONS,
    **filters.SECTIONS,
    **nsa.SECTIONS,
    **bench.SECTIONS,
    **claims.SECTIONS,
    **counts.SECTIONS,
    **clocks.SECTIONS,
    **damage.SECTIONS,
    **optimizers.SECTIONS,
    **overrides.SECTIONS,
    **pruning.SECTIONS,
    **training.SECTIONS,
    **handed_on.SECTIONS,
    **handovers.SECTIONS,
    **step_handovers.SECTIONS,
    **text_error.SECTIONS,
    **dropout.SECTIONS,
    **endings.SECTIONS,
    **precision.SECTIONS,
    **ranks.SECTIONS,
    **inference.SECTIONS,
    **report.SECTIONS,
    **fairness.SECTIONS,
    **identity.SECTIONS,
    **validity.SECTIONS,
    **verdicts.SECTIONS,
    **tuning.SECTIONS,
    **positions.SECTIONS,
    **fleet.SECTIONS,
    **first_hour.SECTIONS,
    **folders.SECTIONS,
    **texts.SECTIONS,
    **surroundings.SECTIONS,
    **survival.SECTIONS,
    **trackers.SECTIONS,
    **received.SECTIONS,
    **exports.SECTIONS,
    **remote_code.SECTIONS,
    **evaluation.SECTIONS,
    **recall.SECTIONS,
    **live.SECTIONS,
    **looks.SECTIONS,
    **shell.SECTIONS,
}
MUTANTS = [mutant for section in SECTIONS.values() for mutant in section]


def table(patterns: Sequence[str]) -> str:
    """Markdown: every mutant that fits, and what catches it, by section."""
    chosen = [mutant for mutant in MUTANTS if matches(mutant.id, patterns)]
    checks = sum(isinstance(mutant.catcher, Check) for mutant in chosen)
    lines = [f"{len(chosen)} mutants, {checks} of them caught by `make check`."]
    for title, section in SECTIONS.items():
        rows = [_row(mutant) for mutant in section if matches(mutant.id, patterns)]
        head = ["", "| mutant | what it does | caught by |", "|---|---|---|"]
        lines += [f"\n## {title}", *head, *rows] if rows else []
    return "\n".join(lines)


def _row(mutant: Mutant) -> str:
    catcher = mutant.catcher
    promise = f": {catcher.promise}" if isinstance(catcher, Check) else ""
    return f"| {mutant.id} | {mutant.what} | `{catcher}`{promise} |"
