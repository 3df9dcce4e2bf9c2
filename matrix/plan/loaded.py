"""The names of matrix/results/names.py, with the results that are configured.

What is a path is taken as one before the configuration is read: it need not hold.
"""

from pathlib import Path
from typing import Mapping

from kconf.bind import SettingsError
from kconf.dotconfig import config_paths
from kconf.files import shown
from kconf.overrides import from_environment
from kconf.strict import ConfigError, DotConfig, Finding, Tree
from matrix.results import names
from matrix.results.names import Results
from matrix.settings import study_settings
from records import pointer
from records.layout import CellDir, RecordError

REFUSED = (ConfigError, RecordError)
"""What a name that leads nowhere raises."""


def results(root: Path, environment: Mapping[str, str]) -> Results:
    """The results directory, and the study of the .config where there is one.

    Raises ConfigError for a configuration that does not hold.
    """
    config, _ = config_paths(root, environment)
    stages = [DotConfig(config)] if config.exists() else []
    stages.append(from_environment(environment))
    values = Tree(root).resolve(stages).values
    try:
        settings = study_settings(values)
    except SettingsError as error:
        raise ConfigError([Finding(shown(config), 0, None, str(error))]) from None
    return Results(root / settings.output, settings.label if config.exists() else None)


def run(root: Path, environment: Mapping[str, str], text: str) -> Path:
    """RUN=: where the run lies, also one that its study reuses, or an export.

    Raises ConfigError, and RecordError for a pointer that leads nowhere.
    """
    found = names.given_run(text) or names.run(results(root, environment), text)
    return pointer.follow(CellDir(found)).dir.path if found.is_dir() else found


def study(root: Path, environment: Mapping[str, str], text: str) -> Path:
    """STUDY=: the study's directory. Raises ConfigError."""
    return names.study_dir(results(root, environment), text)


def side(root: Path, environment: Mapping[str, str], text: str, variable: str) -> Path:
    """A= or B=: the directory of a study, a step of one or a run. Raises ConfigError."""
    return names.side(results(root, environment), text, variable)
