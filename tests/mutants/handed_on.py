"""Slips in the files that a study is handed on in, and in reading them back."""

from tests.mutants.mutant import Mutant, Test

OF_JSONL = "tests/matrix/results/test_runs_jsonl.py"
OF_CSV = "tests/matrix/results/test_read_runs_csv.py"
SAME = f"{OF_JSONL}::test_the_same_report_from_the_file[planned]"
SAID = f"{OF_CSV}::test_what_cannot_be_said_is_said"

FILES = [
    Mutant(
        "claims-unchecked",
        "a claim from runs.csv reads like one whose configurations were compared",
        "weigh:_contrast",
        "unchecked=() if study.configured else (UNCHECKED,),",
        "unchecked=(),",
        Test(f"{OF_CSV}::test_the_numbers_of_the_file"),
    ),
    Mutant(
        "unchecked-unsaid",
        "the word of a verdict leaves out what was not checked",
        "evidence.verdict:Verdict.label",
        "if self.unchecked and self.outcome in (SUPPORTED, LIMITED, NEUTRAL):",
        "if self.unchecked and self.outcome == NEUTRAL:",
        Test(SAID),
    ),
    Mutant(
        "file-counts-twice",
        "a line that stands in the file twice is two runs",
        "results.received:require_apart",
        "if key in seen:",
        "if False:",
        Test(f"{OF_JSONL}::test_one_cell_counted_twice"),
    ),
    Mutant(
        "cell-counts-twice",
        "two runs of a cell count",
        "read_runs_csv:_require_cells",
        "if key in seen:",
        "if False:",
        Test(f"{OF_CSV}::test_one_cell_counted_twice"),
    ),
    Mutant(
        "file-terms-default",
        "a report from runs.jsonl is judged at the default level",
        "read_runs_jsonl:_selection",
        'alpha=found["alpha"],',
        "",
        Test(SAME),
    ),
    Mutant(
        "file-without-registration",
        "a report from a file forgets the preregistration",
        "gather_file:gather_file",
        "for name, record in handed.records.items():",
        "for name, record in ():",
        Test(SAME),
    ),
    Mutant(
        "file-registration-edited",
        "an edited preregistration in a file is taken as it is",
        "read_runs_jsonl:_about",
        "if record.get(sealed_record.SEAL) != sealed_record.digest(record):",
        "if False:",
        Test(f"{OF_JSONL}::test_what_is_malformed[a.json was edited since]"),
    ),
    Mutant(
        "file-names-a-machine",
        "runs.jsonl tells the paths of the machine",
        "results.runs_jsonl:_run",
        "if symbol not in run.operational or not WITHHELD.fullmatch(symbol)",
        "if symbol",
        Test(f"{OF_JSONL}::test_no_place_of_the_machine_is_handed_on"),
    ),
    Mutant(
        "file-shares-losses",
        "a column of losses that all runs have alike stands in the first line",
        "results.runs_jsonl",
        'OWN = ("loss",)',
        "OWN = ()",
        Test(f"{OF_JSONL}::test_losses_stand_in_every_line"),
    ),
    Mutant(
        "file-place-unchecked",
        "a run in a file lies in any directory it names",
        "results.received:require_place",
        'if not lies or not (run.reused or run.run_dir == f"{run.step}/{end}"):',
        "if False:",
        Test(f"{OF_CSV}::test_what_is_malformed[run_dir-3]"),
    ),
    Mutant(
        "file-loss-nan",
        "a run of a file that is done may have a loss that is no number",
        "results.received:require_finished",
        "if not all(map(math.isfinite, losses)):",
        "if False:",
        Test(f"{OF_CSV}::test_what_is_malformed[final_loss-10]"),
    ),
    Mutant(
        "inert-twice",
        "a cell keeps the apostrophe that made it text",
        "inert_csv:original",
        'part[1:] if part[:1] == "\'" and _formula(part[1:]) else part',
        "part",
        Test(f"{OF_CSV}::test_the_inverse_of_an_inert_cell[=1+1]"),
    ),
    Mutant(
        "csv-speeds",
        "speeds come from a file that does not say who shared a GPU",
        "matrix.report.sections:time_and_memory",
        "if not report.study.configured:",
        "if False:",
        Test(SAID),
    ),
    Mutant(
        "file-names-hosts",
        "runs.jsonl tells the hosts by their names",
        "results.runs_jsonl:_hosts",
        'host: f"host {n}" for n',
        "host: host for n",
        Test(f"{OF_JSONL}::test_who_shared_a_device_goes_along"),
    ),
    Mutant(
        "file-without-sessions",
        "who shared a device is not known from a file",
        "read_runs_jsonl:_documents",
        'found.get("sessions", ())',
        "()",
        Test(f"{OF_JSONL}::test_who_shared_a_device_goes_along"),
    ),
    Mutant(
        "signs-turned",
        "an arm that is worse in most seeds is told as better",
        "report.answers:_signs",
        "sign = 1 if evidence.terms.metric.lower_is_better else -1",
        "sign = 1",
        Test(
            "tests/matrix/report/test_answers.py::test_the_sentence_of_an_arm[slower]"
        ),
    ),
]
SECTIONS = {"A study in one file": FILES}
