"""runs.csv: every run directory of a study on one line, unrounded."""

from typing import Callable

from matrix.results import inert_csv
from matrix.results.metrics import VAL_LOSS
from matrix.results.recorded import IN_CSV
from matrix.results.run import Run
from matrix.results.study import Study

HEAD = ("study", "step", "seed", "run_dir", "reused", "hash", "state", "counted")
COUNTED, OPEN, LEFT_OUT = "yes", "no", "left out"


def csv_text(study: Study, last_evals: int) -> str:
    """runs.csv: every run directory of the study, counted or not, unrounded.

    No cell is a spreadsheet's formula (matrix.results.inert_csv).
    """
    rows = [[*HEAD, "loss", *IN_CSV, "error"]]
    word = counting(study)
    for run in study.runs:
        counted = word(run)
        loss = VAL_LOSS.of(run, last_evals) if counted == COUNTED else None
        cells = [study.name, run.step, run.seed, run.run_dir]
        cells += ["yes" if run.reused else "no", run.hash8, run.state]
        values = map(run.value, IN_CSV)
        rows.append([*cells, counted, loss, *values, run.why])
    return inert_csv.text(rows)


def counting(study: Study) -> Callable[[Run], str]:
    """ "yes", "no" (the cell has no counted run or a newer one) or "left out" (another
    run of the cell counts, or the hash is not planned) of a run.
    """
    counted = {run.run_dir for run in study.counted.values()}
    left_out = {run.run_dir for run in study.left_out}

    def word(run: Run) -> str:
        if run.run_dir in counted:
            return COUNTED
        return LEFT_OUT if run.run_dir in left_out else OPEN

    return word
