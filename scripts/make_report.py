"""Write a study's report: `python scripts/make_report.py [STUDY_DIR]`.

Without an argument: the study that ./config.py names, below OUTPUT_DIR. The
files land in the study's directory; a short table goes to standard output.
Exit status 1 when there is no such study or no run has finished.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from kconf import config_py  # noqa: E402
from kconf.bind import SettingsError  # noqa: E402
from kconf.syntax import ConfigError  # noqa: E402
from matrix.report import ReportError, render_terminal, write  # noqa: E402
from matrix.settings import StudySettings, study_settings  # noqa: E402


def main(arguments: list[str]) -> int:
    """Report the study in the directory given, or the configured one."""
    if len(arguments) > 1:
        print("usage: make_report.py [STUDY_DIR]", file=sys.stderr)
        return 2
    try:
        if arguments:
            paths = write(Path(arguments[0]))
        else:
            paths = _configured(Path())
    except (ReportError, ConfigError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(render_terminal(paths.report))
    print(f"{paths.markdown}\n{paths.html}\n{paths.csv}")
    return 0


def _configured(root: Path):
    """The report of the study in ROOT/config.py, with its seeds and steps."""
    settings = study_settings(config_py.read(root / "config.py").values)
    helps = _steps(root, settings) if settings.mode == "ablation" else {}
    return write(
        root / settings.output / settings.label,
        settings.last_evals,
        list(helps) or None,
        seeds=settings.seed_list,
        helps=helps,
    )


def _steps(root: Path, settings: StudySettings) -> dict[str, str]:
    """Id and help of the control and of the selected steps, in order."""
    from kconf.study import list_steps
    from matrix.settings import ranges

    files = list_steps(root, settings.study)
    chosen = {file.number for file in files}
    if settings.steps not in (None, "all"):
        chosen = set(ranges("RA_MLA_ABLATION_STEPS", settings.steps))
    return {f.id: f.help for f in files if f is files[0] or f.number in chosen}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
