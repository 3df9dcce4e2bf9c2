"""The report of a trial stands beside the study's own and touches none of its files."""

from matrix.report.write import render_terminal, write, write_received
from matrix.results.selection import Selection
from tests.matrix.synthetic import Cell

TRIAL = ("MAX_ITERS=7", "CONFIG_GPT2_DROPOUT=0.1")
SENTENCE = (
    "Trial: MAX_ITERS=7 CONFIG_GPT2_DROPOUT=0.1 makes other runs than .config does; the "
    "study's report stays as it was."
)


def test_a_trial_writes_files_of_its_own(tmp_path):
    for step in ("00-base", "01-ra"):
        for seed in (1, 2):
            Cell(step, seed, (5.5, 5.4)).finish(tmp_path)
    study = tmp_path / "demo"
    plain = write(study)
    assert SENTENCE not in plain.markdown.read_text()
    assert '"trial": []' in plain.jsonl.read_text().replace('":[', '": [')
    before = {path: path.read_bytes() for path in study.iterdir() if path.is_file()}
    assert before.keys() > {plain.markdown, plain.html, plain.csv, plain.jsonl}

    tried = write(study, Selection(trial=TRIAL))
    assert {path: path.read_bytes() for path in before} == before
    assert tried.markdown.name == "report-trial.md"
    assert tried.csv.name == "runs-trial.csv"
    new = {path.name for path in study.iterdir() if path.is_file()}
    new -= {path.name for path in before}
    assert len(new) == len(before)
    assert all(name.partition(".")[0].endswith("-trial") for name in new)
    for path in tried.pictures:
        assert f"]({path.name})" in tried.markdown.read_text() and path.exists()
    assert "# Study demo (trial)" in tried.markdown.read_text()
    assert "Trial: MAX_ITERS=7 CONFIG_GPT2_DROPOUT=0.1" in tried.html.read_text()
    head = " ".join(render_terminal(tried.report).split("\n\n")[1].split())
    assert head == SENTENCE
    assert SENTENCE not in " ".join(render_terminal(plain.report).split())

    again = write_received(tried.jsonl, tmp_path / "received")
    assert again.report.selection.trial == TRIAL
    assert again.markdown.name == "report-trial.md"
