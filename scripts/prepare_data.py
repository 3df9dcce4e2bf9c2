#!/usr/bin/env python3
"""Pack the configured corpus (`make data`), or verify it (--check), or time it."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402
from records.doing import doing  # noqa: E402


def main(words: list[str]) -> int:
    """0 when the dataset is whole and current, else 1.

    The configuration is .config (KCONFIG_CONFIG) and the one-shot overrides,
    merged strictly, as for a run.
    """
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="verify, write nothing")
    parser.add_argument("--smoke", action="store_true", help="time it, write nothing")
    arguments = parser.parse_args(words)
    from gpt2.data.packing.prepare import BuildError, examine, prepare
    from gpt2.data.shards import ShardError
    from gpt2.data.sources.corpora import CorpusError
    from gpt2.data.tokenization.tokenizers import TokenizerError
    from gpt2.settings.run import run_settings
    from kconf.bind import SettingsError
    from kconf.dotconfig import loaded
    from kconf.overrides import from_environment
    from kconf.strict import ConfigError, DotConfig, Tree
    from records.manifest import ManifestError, dataset_dir

    expected = (ConfigError, SettingsError, CorpusError, TokenizerError, BuildError)
    try:
        stages = [DotConfig(loaded(ROOT, os.environ)), from_environment(os.environ)]
        values = Tree(ROOT).resolve(stages).values
        whole = run_settings(values)
        settings = whole.data
        directory = dataset_dir(ROOT / settings.directory, values)
        if arguments.smoke:
            with entry.importing():
                from gpt2.measure.data_rates import smoke
            smoke(whole, directory)
            return 0
        with doing(f"reading the corpus and {directory}") as activity:

            def say(line: str) -> None:
                activity.end()  # what follows says how far it is
                print(line, flush=True)

            if not arguments.check:
                prepare(settings, directory, say)
                return 0
            reason, _ = examine(settings, directory)
    except (*expected, ManifestError, ShardError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{directory}: {reason or 'up to date'}")
    return 1 if reason else 0


if __name__ == "__main__":
    entry.run(main, "make data")
