"""What a plan says of the checkout, while it can still be changed."""

from pathlib import Path
from typing import Any, Mapping

from kconf.unused_steps import unused_steps
from matrix import units
from records import provenance
from records.files import shown

NAMED = 4
"""Uncommitted paths that are named."""


def notes(root: Path, values: Mapping[str, Any]) -> list[str]:
    """Folders of steps that nothing uses, and what is not committed."""
    return [*unused_steps(root, values), *uncommitted(root)]


def uncommitted(root: Path) -> list[str]:
    """A line for what makes the checkout dirty, defconfigs first; runs record that, and
    `make publish-check` passes none of them.
    """
    paths = provenance.uncommitted(root)
    if not paths:
        return []
    paths.sort(key=lambda path: not path.startswith("defconfigs/"))
    named = ", ".join(map(shown, paths[:NAMED]))
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    many = units.plural(len(paths), "path")
    return [
        f"not committed: {named}{more}",
        f"  runs will record a dirty checkout ({many}): commit before make prereg and make",
    ]
