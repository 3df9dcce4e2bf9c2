"""A live table of a study: watch.py [STUDY_DIR] (make watch STUDY=results/NAME).

Without an argument the study of .config and of the one-shot overrides. ONCE=1,
or output that is no terminal: the table once.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def configured() -> Path:
    """Where the results of the configured study lie."""
    from kconf.overrides import from_environment
    from kconf.strict import Tree
    from matrix.plan.cells import base_stages
    from matrix.settings import study_settings

    stages = [*base_stages(ROOT, os.environ), from_environment(os.environ)]
    settings = study_settings(Tree(ROOT).resolve(stages).values)
    return ROOT / settings.output / settings.label


def main(arguments: list[str]) -> int:
    """The exit status: 0, or 2 where there is nothing to look at."""
    parser = Parser(__doc__)
    parser.add_argument("study", nargs="?", help="its name or directory")
    given = parser.parse_args(arguments).study
    from kconf.bind import SettingsError
    from kconf.strict import ConfigError
    from matrix.plan import loaded
    from matrix.plan.cells import PlanError
    from matrix.watch import watch

    try:
        study = loaded.study(ROOT, os.environ, given) if given else configured()
    except (ConfigError, SettingsError, PlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not study.is_dir():
        print(f"error: {study}: no such study; `make` runs it", file=sys.stderr)
        return 2
    return watch(study, os.environ.get("ONCE", "") not in ("", "0"))


if __name__ == "__main__":
    entry.run(main)
