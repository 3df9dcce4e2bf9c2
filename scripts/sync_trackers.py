"""Mirror a study's runs into the trackers: sync_trackers.py [STUDY_DIR].

What CONFIG_TRACKER (TRACKER=wandb,trackio) names, for the study that is loaded or the
one given as a name below the results directory or as a path. Sends what is missing
and the verdicts as tags. Exit status 1 when a run could not be sent.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def main(arguments: list[str]) -> int:
    """Read the settings, then sync."""
    parser = Parser(__doc__)
    parser.add_argument("study", nargs="?", help="its name or directory")
    given = parser.parse_args(arguments).study
    with entry.importing("scipy"):
        from kconf.bind import SettingsError
        from kconf.dotconfig import config_paths
        from kconf.overrides import from_environment
        from kconf.strict import ConfigError, Tree
        from matrix.plan import loaded
        from matrix.plan.cells import base_stages
        from matrix.results.run import ReportError
        from matrix.settings import study_settings
        from matrix.trackers import wandb_variables
        from matrix.trackers.sink import targets
        from matrix.trackers.sync import sync, verdict_tags
        from matrix.trackers.target import TrackerError, require_extra

    try:
        config, _ = config_paths(ROOT, os.environ)
        needed = config.exists() or not given
        stages = base_stages(ROOT, os.environ) if needed else []
        stages.append(from_environment(os.environ))
        tree = Tree(ROOT)
        settings = study_settings(tree.resolve(stages).values)
        wanted, notes = targets(settings, os.environ)
        if notes and not wanted:
            raise TrackerError(f"{'; '.join(notes)}: nothing is sent")
        if not wanted:
            raise TrackerError("no tracker is configured: TRACKER=wandb make sync")
        print(*notes, sep="\n", end="\n" if notes else "")
        for target in wanted:
            require_extra(target.tracker)
        for name in wandb_variables.NAMES:  # decided; W&B is told in words
            os.environ.pop(name, None)
        study = ROOT / settings.output / settings.label
        if given:
            study = loaded.study(ROOT, os.environ, given).resolve()
        tags = verdict_tags(study, tree.resolve([]).values)
        return 1 if sync(study, wanted, tags) else 0
    except (ConfigError, SettingsError, ReportError, TrackerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    entry.run(main, "make sync")
