"""The checklist before numbers are published; exit status 1 when an item fails.

    verify_wandb_publication.py --source local --study STUDY --remote https://…

Prints the block that a paper or README must carry.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def main(arguments: list[str]) -> int:
    """Check the runs of the study."""
    from kconf.strict import ConfigError
    from matrix.plan import loaded
    from matrix.published.cli import answer, parser
    from matrix.published.commit import origin
    from matrix.published.queries import verify

    options = parser(__doc__)
    options.add_argument(
        "--remote", help="where everybody can get the code (the checkout's origin)"
    )
    with entry.refusing(ConfigError):
        options.set_defaults(output=loaded.results(ROOT, os.environ).output)
    return answer(
        lambda runs, given: verify(runs, given.remote or origin(ROOT)),
        options.parse_args(arguments),
    )


if __name__ == "__main__":
    entry.run(main)
