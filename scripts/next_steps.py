"""What to type after `make quickstart`, for the study that is loaded."""

import os
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
    page = os.path.relpath(ROOT / settings.output / settings.label / "report.html")
    print("\nnext:")
    for command, what in (
        (f"open {shown(page)}", "the report, in a browser"),
        ('make generate RUN=newest PROMPT="def "', "text from a model that it trained"),
        ("make plan", "these runs, and where each of them lies"),
        (
            f"make new-study NAME=my-study FROM={settings.study}+tiny",
            "a study of your own",
        ),
    ):
        print(f"  {command}\n      {what}")
    return 0


if __name__ == "__main__":
    entry.run(main)
