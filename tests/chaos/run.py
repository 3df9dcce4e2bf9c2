"""make chaos: FAULTS random faults over a study of tiny cells, by SEED.

Exit status 0 when everything was survived, 1 with the cause when not.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from records import entry
from tests.chaos.storm import Broken, Storm
from tests.e2e.conftest import Checkout


def main() -> int:
    """Run it and say what happened."""
    count, seed = (
        int(os.environ.get(n) or d) for n, d in (("FAULTS", 200), ("SEED", 1))
    )
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="kablate-chaos-"))
    checkout = Checkout(folder)
    storm = Storm(checkout, seed, say)
    say(f"{count} faults, SEED={seed}, in {folder}")
    if not storm.mirrored:
        say("no wandb here (requirements-wandb.txt): no mirror to kill")
    try:
        storm.prepare()
        say("the undisturbed study is done")
        storm.rage(count)
    except (Broken, PermissionError) as error:
        print(f"error: {error}\n{folder} is left for a look", file=sys.stderr)
        return 1
    finally:
        checkout.end()
    shutil.rmtree(folder)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(storm.spent.items()))
    say(f"{sum(storm.spent.values())} faults: {kinds}")
    say(
        f"{storm.rounds} rounds of {len(storm.calm)} cells, {storm.attempts} attempts, "
        f"{storm.resumed} from a checkpoint, {storm.hung} started again by the "
        "watchdog: every cell done once, every curve the undisturbed one"
    )
    return 0


if __name__ == "__main__":
    entry.run(lambda _: main())
