"""What configurations would cost, for a planner that does not import the model."""

import json
import sys
from pathlib import Path
from typing import Any

from gpt2 import optim, pruning
from gpt2.model.costs import count, meta_model
from gpt2.settings.run import ModelSettings, run_settings
from kconf import config_py
from kconf.bind import SettingsError
from kconf.syntax import ConfigError


def print_costs(paths: list[Path]) -> int:
    """Print a JSON line for each config.py, in the order given: `costs` of its
    network; 1 if one is no configuration.

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
            print(json.dumps(costs(settings.model)))
        except Exception as error:
            error.add_note(f"{path}: the model cannot be counted")
            error.add_note("`make check` names the step")
            raise
    return 0


def costs(model: ModelSettings) -> dict[str, Any]:
    """The counts of a network (gpt2/model/costs.py), and the bytes that each optimizer
    and each kind of pruning keeps of it at most: they are asked once per network.
    """
    net = meta_model(model)
    return {
        **count(net).as_dict(),
        "optimizer_bytes": optim.state_bytes(net),
        "pruning_bytes": pruning.state_bytes(net),
    }
