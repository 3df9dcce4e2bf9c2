"""runs.csv: every run directory of a study on one line, unrounded."""

from matrix.results import inert_csv
from matrix.results.metrics import VAL_LOSS
from matrix.results.recorded import IN_CSV
from matrix.results.study import Study


def csv_text(study: Study, last_evals: int) -> str:
    """runs.csv: every run directory of the study, counted or not, unrounded.

    `counted` is "yes", "no" (the cell has no counted run or a newer one) or
    "left out" (another run of the cell counts, or the hash is not planned).
    No cell is a spreadsheet's formula (matrix.results.inert_csv).
    """
    head = ["study", "step", "seed", "run_dir", "reused", "hash", "state", "counted"]
    rows = [[*head, "loss", *IN_CSV, "error"]]
    counted = {run.run_dir for run in study.counted.values()}
    left_out = {run.run_dir for run in study.left_out}
    for run in study.runs:
        used = run.run_dir in counted
        word = "yes" if used else "left out" if run.run_dir in left_out else "no"
        loss = VAL_LOSS.of(run, last_evals) if used else None
        cells = [study.name, run.step, run.seed, run.run_dir]
        cells += ["yes" if run.reused else "no", run.hash8, run.state]
        values = map(run.value, IN_CSV)
        rows.append([*cells, word, loss, *values, run.why])
    return inert_csv.text(rows)
