"""The costs of configurations, for the planner: one JSON line per config.py."""

import json
from pathlib import Path

from gpt2.accounting import count, meta_model
from gpt2.settings import run_settings
from kconf import config_py


def print_facts(paths: list[Path]) -> int:
    """Print the facts of each configuration in the order given."""
    for path in paths:
        settings = run_settings(config_py.read(path).values)
        print(json.dumps(count(meta_model(settings.model)).as_dict()))
    return 0
