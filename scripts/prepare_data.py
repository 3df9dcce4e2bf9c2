#!/usr/bin/env python3
"""Pack the configured corpus (`make data`), or only verify it (--check)."""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from gpt2.data.corpora import CorpusError
from gpt2.data.prepare import BuildError, examine, prepare
from gpt2.settings import DataSettings
from kconf.bind import SettingsError, build
from kconf.config_py import read
from kconf.syntax import ConfigError
from records.manifest import dataset_dir


def main() -> int:
    """0 when the dataset is whole and current, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.py"))
    parser.add_argument("--check", action="store_true", help="verify, write nothing")
    arguments = parser.parse_args()
    try:
        values = read(arguments.config).values
        settings = build(DataSettings, values)
        directory = dataset_dir(settings.directory, values)
        if not arguments.check:
            prepare(settings, directory)
            return 0
        reason, _ = examine(settings, directory)
    except (ConfigError, SettingsError, CorpusError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{directory}: {reason or 'up to date'}")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
