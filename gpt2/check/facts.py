"""The costs of configurations, for the planner: one JSON line per config.py."""

import json
import sys
from pathlib import Path

from gpt2.check.prove import FAULTS
from gpt2.model.costs import count, meta_model
from gpt2.settings.run import run_settings
from kconf import config_py
from kconf.bind import SettingsError
from kconf.syntax import ConfigError


def print_facts(paths: list[Path]) -> int:
    """Print the facts of each configuration in the order given; 1 if one is bad."""
    for path in paths:
        try:
            settings = run_settings(config_py.read(path).values)
        except (OSError, ConfigError, SettingsError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        try:
            print(json.dumps(count(meta_model(settings.model)).as_dict()))
        except FAULTS as error:
            why = f"{type(error).__name__}: {error}"
            print(f"{path}: the model cannot be counted: {why}", file=sys.stderr)
            print("`make check` names the step", file=sys.stderr)
            return 1
    return 0
