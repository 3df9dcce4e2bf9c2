"""The configuration commands behind Makefile.kconfig; see kconf/cli.py."""

import os
import sys
from pathlib import Path
from typing import Any, Mapping

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.settings.run import run_settings  # noqa: E402
from kconf.axes import read_axes  # noqa: E402
from kconf.cli import main  # noqa: E402
from kconf.study import list_steps  # noqa: E402
from matrix.settings import study_settings  # noqa: E402


def study_check(values: Mapping[str, Any]) -> None:
    """The study's settings; that it has steps, or axes that can be read."""
    study = study_settings(values)
    if study.mode == "matrix":
        read_axes(study.lists)
    if study.mode == "ablation":
        list_steps(ROOT, study.study)


def edit(kconfig: Any) -> None:
    """Open menuconfig; it needs curses, so it is imported only when asked for."""
    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("MENUCONFIG_STYLE", "monochrome")
    from menuconfig import menuconfig

    menuconfig(kconfig)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], ROOT, [run_settings, study_check], edit))
