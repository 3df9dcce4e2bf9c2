"""Write a study's report: `python scripts/make_report.py [STUDY_DIR]`.

Without an argument: the runs that `make plan` lists as done, for the same
.config and one-shot overrides. With one: the newest finished run of every cell
in that directory, whatever its settings; what differs becomes a warning. The
files land in the study's directory; a short table goes to standard output.
Exit status 1 when no run has finished, 2 when there is no plan.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.settings.run import run_settings  # noqa: E402
from matrix.report.write import ReportError, render_terminal, write  # noqa: E402
from matrix.run import main as run_matrix  # noqa: E402
from records.files import shown  # noqa: E402


def main(arguments: list[str]) -> int:
    """Report the study in the directory given, or the planned one."""
    if not arguments:
        return run_matrix(["report"], os.environ, ROOT, sys.executable, run_settings)
    if len(arguments) > 1:
        print("usage: make_report.py [STUDY_DIR]", file=sys.stderr)
        return 2
    try:
        paths = write(Path(arguments[0]))
    except (ReportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(render_terminal(paths.report))
    for path in (paths.markdown, paths.html, paths.csv):
        print(shown(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
