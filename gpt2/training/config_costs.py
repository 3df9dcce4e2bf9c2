"""What configurations would cost, for a planner that does not import the model."""

import json
import sys
from pathlib import Path

from gpt2.model.costs import count, meta_model
from gpt2.settings.run import RunSettings, run_settings
from gpt2.training.memory import checkpoint_bytes
from kconf import config_py
from kconf.bind import SettingsError
from kconf.syntax import ConfigError


def print_costs(paths: list[Path]) -> int:
    """Print a JSON line for each config.py, in the order given: the counts of its
    network (gpt2/model/costs.py) and `checkpoint_bytes`; 1 if one is no configuration.

    A model that cannot be counted is an error of the code: it is raised, with a note
    that names the file.
    """
    for path in paths:
        try:
            settings = run_settings(config_py.read(path).values)
        except (OSError, ConfigError, SettingsError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        try:
            print(json.dumps(_costs(settings)))
        except Exception as error:
            error.add_note(f"{path}: the model cannot be counted")
            error.add_note("`make check` names the step")
            raise
    return 0


def _costs(settings: RunSettings) -> dict[str, int | float | str | None]:
    net = meta_model(settings.model)
    counts = count(net).as_dict()
    return {**counts, "checkpoint_bytes": checkpoint_bytes(settings, net)}
