#!/usr/bin/env python3
"""Pack the configured corpus (`make data`), or verify it (--check), or time it."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.data.packing.prepare import BuildError, examine, prepare  # noqa: E402
from gpt2.data.shards import ShardError  # noqa: E402
from gpt2.data.sources.corpora import CorpusError  # noqa: E402
from gpt2.data.tokenization.tokenizers import TokenizerError  # noqa: E402
from gpt2.measure.data_rates import smoke  # noqa: E402
from gpt2.settings.run import run_settings  # noqa: E402
from kconf.bind import SettingsError  # noqa: E402
from kconf.dotconfig import config_paths  # noqa: E402
from kconf.overrides import from_environment  # noqa: E402
from kconf.strict import ConfigError, DotConfig, Tree  # noqa: E402
from records.manifest import ManifestError, dataset_dir  # noqa: E402

ERRORS = (ConfigError, SettingsError, CorpusError, TokenizerError, BuildError)
ERRORS += (ManifestError, ShardError)


def main() -> int:
    """0 when the dataset is whole and current, else 1.

    The configuration is .config (KCONFIG_CONFIG) and the one-shot overrides,
    merged strictly, as for a run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="verify, write nothing")
    parser.add_argument("--smoke", action="store_true", help="time it, write nothing")
    arguments = parser.parse_args()
    try:
        config, _ = config_paths(ROOT, os.environ)
        stages = [DotConfig(config), from_environment(os.environ)]
        values = Tree(ROOT).resolve(stages).values
        whole = run_settings(values)
        settings = whole.data
        directory = dataset_dir(ROOT / settings.directory, values)
        if arguments.smoke:
            smoke(whole, directory)
            return 0
        if not arguments.check:
            prepare(settings, directory)
            return 0
        reason, _ = examine(settings, directory)
    except ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{directory}: {reason or 'up to date'}")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
