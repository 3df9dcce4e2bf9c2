"""Write a study's report: `python scripts/make_report.py [STUDY_DIR|FILE] [--output DIR]`.

Without an argument: the runs that `make plan` lists as done, for the same
.config and one-shot overrides. With a directory: the newest finished run of every
cell in it, whatever its settings, judged by the terms that the newest one recorded;
what differs becomes a warning. The files land in the study's directory; a short table
goes to standard output.

With a runs.jsonl or runs.csv that somebody handed on: the same report from that file,
in DIR, or in FILE's folder under a folder of its own (runs-jsonl-report); what the
file lacks is named.

Exit status 1 when no run has finished or the file is refused, 2 when there is no plan.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402
from records.doing import doing  # noqa: E402


def main(arguments: list[str]) -> int:
    """Report the study in the directory or file given, or the planned one."""
    if not arguments:
        from gpt2.settings.run import run_settings
        from matrix.run import main as run_matrix

        return run_matrix(["report"], os.environ, ROOT, sys.executable, run_settings)
    parser = Parser(__doc__)
    parser.add_argument("study", type=Path, help="a study's directory, or its file")
    parser.add_argument("--output", type=Path, help="where a file's report lands")
    given = parser.parse_args(arguments)
    of_file = not given.study.is_dir() and given.study.suffix in (".csv", ".jsonl")
    if given.output and not of_file:
        parser.error("--output goes with a runs.csv or runs.jsonl")
    with entry.importing("matplotlib"):
        from kconf.bind import SettingsError
        from kconf.strict import Tree
        from matrix.plan.selection import recorded
        from matrix.report import write
        from records.files import shown
        from records.layout import RecordError
    try:
        with doing("writing the report"):
            if of_file:
                name = given.study.name.replace(".", "-") + "-report"
                folder = given.output or given.study.with_name(name)
                paths = write.write_received(given.study, folder)
            else:
                defaults = Tree(ROOT).resolve([]).values
                paths = write.write(given.study, recorded(given.study, defaults))
    except (write.ReportError, RecordError, SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(write.render_terminal(paths.report))
    for path in (paths.markdown, paths.html, paths.csv, paths.jsonl):
        if path is not None:
            print(shown(path))
    return 0


if __name__ == "__main__":
    entry.run(main)
