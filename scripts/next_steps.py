"""What to type after `make quickstart`, for the study that is loaded."""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print it."""
    Parser(__doc__).parse_args(arguments)
    from kconf.bind import SettingsError
    from kconf.strict import ConfigError
    from matrix.plan.cells import configured
    from matrix.settings import study_settings
    from records.files import shown

    with entry.refusing(ConfigError, SettingsError):
        settings = study_settings(configured(ROOT, os.environ))
    folder, output = ROOT / settings.output / settings.label, os.environ.get("OUTPUT")
    made = [path for path in folder.glob("report*.html") if path.stat().st_size]
    where = f"OUTPUT={shlex.quote(output)} " if output else ""
    text = os.environ.get("TEXT")
    own = f"+text TEXT={shlex.quote(text)}" if text else ""
    steps = [
        (f"{where}make plan", "these runs, and where each of them lies"),
        (
            f"make new-study NAME=my-study FROM={settings.study}+tiny{own}",
            "a study of your own",
        ),
    ]
    if made:
        page = shown(os.path.relpath(max(made, key=lambda path: path.stat().st_mtime)))
        sample = f'{where}make generate RUN=newest PROMPT="def "'
        steps.insert(0, (page, "the report: open it in a browser"))
        steps.insert(1, (sample, "text from a model that it trained"))
    print("\nnext:")
    for command, what in steps:
        print(f"  {command}\n      {what}")
    return 0


if __name__ == "__main__":
    entry.run(main)
