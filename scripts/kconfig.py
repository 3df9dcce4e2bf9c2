"""The configuration commands behind Makefile.kconfig; see kconf/cli.py."""

import locale
import os
import sys
from pathlib import Path
from typing import Any, Mapping

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402


def study_check(values: Mapping[str, Any]) -> None:
    """The study's settings; that it has steps, or axes that can be read."""
    from kconf.axes import read_axes
    from kconf.study import list_steps
    from matrix.settings import study_settings

    study = study_settings(values)
    if study.mode == "matrix":
        read_axes(study.lists)
    if study.mode == "ablation":
        list_steps(ROOT, study.study)


def edit(kconfig: Any) -> None:
    """Open menuconfig. Raises ConfigError for a terminal that curses does not know."""
    import curses

    from kconf.syntax import ConfigError, Finding

    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("MENUCONFIG_STYLE", "monochrome")
    from menuconfig import menuconfig

    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        os.environ["LC_ALL"] = "C.UTF-8"
        name = "the locale of LC_ALL, LC_* or LANG"
        print(f"note: {name} is not installed: C.UTF-8 instead", file=sys.stderr)
    try:
        menuconfig(kconfig)
    except curses.error as error:
        cause = f"TERM={os.environ.get('TERM', '')}: {error}: try TERM=xterm"
        raise ConfigError([Finding("menuconfig", 0, None, cause)]) from None


def main(arguments: list[str]) -> int:
    """The exit status of kconf/cli.py."""
    from gpt2.settings.run import run_settings
    from kconf import cli

    return cli.main(arguments, ROOT, [run_settings, study_check], edit)


if __name__ == "__main__":
    entry.run(main)
