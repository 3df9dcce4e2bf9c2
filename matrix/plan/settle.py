"""Done cells whose process died, or met a full disk, behind its summary."""

from typing import Callable

from matrix.plan.cells import Plan
from records import completion
from records.cell import read_status
from records.layout import RecordError
from records.lease import Lease, LeaseHeld


def settle(plan: Plan, say: Callable[[str], None]) -> None:
    """Do what is left to do in the plan's done cells; `say` tells of each.

    A cell that cannot be settled now stays done: the next `make` tries again. Runs of
    another study are left to that one.
    """
    for cell in plan.cells:
        if cell.state != "done" or cell.reused:
            continue
        if not read_status(cell.dir, cell.hash).left:
            continue
        try:
            with Lease(cell.dir.lease).acquire():
                found = completion.settle(cell.dir)
        except LeaseHeld:  # its own process, or another make, is about to
            continue
        except (OSError, RecordError) as error:
            say(f"{cell.name}: done, not settled: {error}")
        else:
            say(f"{cell.name}: settled: {', '.join(found)}")
