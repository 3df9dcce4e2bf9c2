"""Every mutant, by section, and the page that lists them."""

from tests.mutants import (
    attention,
    bench,
    claims,
    documents,
    fleet,
    exports,
    evaluation,
    inference,
    kernels,
    live,
    mlp,
    optimizers,
    pruning,
    ranks,
    report,
    survival,
    trackers,
    training,
)
from tests.mutants.mutant import Check, Mutant

SECTIONS: dict[str, list[Mutant]] = {
    **attention.SECTIONS,
    **mlp.SECTIONS,
    **documents.SECTIONS,
    **kernels.SECTIONS,
    **bench.SECTIONS,
    **claims.SECTIONS,
    **optimizers.SECTIONS,
    **pruning.SECTIONS,
    **training.SECTIONS,
    **ranks.SECTIONS,
    **inference.SECTIONS,
    **report.SECTIONS,
    **fleet.SECTIONS,
    **survival.SECTIONS,
    **trackers.SECTIONS,
    **exports.SECTIONS,
    **evaluation.SECTIONS,
    **live.SECTIONS,
}
MUTANTS = [mutant for section in SECTIONS.values() for mutant in section]

HEAD = """\
# Mutants

A proof that was never seen to fail proves nothing. `make test-mutants` sabotages
a copy of the source, one small change at a time, and runs what must notice it: a
step's proofs, of which the promise named here has to be the first that breaks, or
one test, which has to fail with an assertion. A program that merely crashes does
not count, and a mutant whose source has moved is an error. None survives.

`MUTANTS="ra-* spam-*" make test-mutants` runs some; the list is in `tests/mutants/`,
and `WRITE=1` writes this page.
"""


def page() -> str:
    """docs/mutants.md."""
    lines = [
        HEAD,
        f"{len(MUTANTS)} mutants, {_checks()} of them caught by `make check`.",
    ]
    for title, section in SECTIONS.items():
        lines += [
            f"\n## {title}\n",
            "| mutant | what it does | caught by |",
            "|---|---|---|",
        ]
        for mutant in section:
            catcher, promise = mutant.catcher, ""
            if isinstance(catcher, Check):
                promise = f": {catcher.promise}"
            lines.append(f"| {mutant.id} | {mutant.what} | `{catcher}`{promise} |")
    return "\n".join(lines) + "\n"


def _checks() -> int:
    return sum(isinstance(mutant.catcher, Check) for mutant in MUTANTS)
