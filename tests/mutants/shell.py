"""Mutants of what text may not do: run in a shell, in Slurm, in a spreadsheet."""

from tests.mutants.mutant import Mutant, Test

INERT = "tests/matrix/results/test_inert_csv.py"
JOBS = "tests/matrix/launch/test_slurm_jobs.py"
TASKCODE = "tests/gpt2/evaluation/test_taskcode.py"

TEXT = [
    Mutant(
        "csv-formula-kept",
        "a formula stands in runs.csv as it was named",
        "inert_csv:inert",
        'f"\'{part}" if _formula(part) else part',
        "part",
        Test(f"{INERT}::test_no_file_of_a_report_holds_a_formula"),
    ),
    Mutant(
        "csv-formula-after-blanks",
        "blanks before a sign hide a formula",
        "inert_csv:_formula",
        "[c for c in part if unicodedata.category(c) not in BLANK]",
        "list(part)",
        Test(f"{INERT}::test_a_formula_becomes_text"),
    ),
    Mutant(
        "csv-wide-sign",
        "a sign in full width is none",
        "inert_csv:_formula",
        'unicodedata.normalize("NFKC", seen[0])[:1]',
        "seen[0]",
        Test(f"{INERT}::test_a_formula_becomes_text"),
    ),
    Mutant(
        "csv-number-quoted",
        "a negative number written as text becomes text",
        "inert_csv:_formula",
        " and NUMBER.fullmatch(part.strip()) is None",
        "",
        Test(f"{INERT}::test_what_is_no_formula_stays"),
    ),
    Mutant(
        "csv-semicolon",
        "a formula behind a semicolon is left",
        "inert_csv",
        'APART = re.compile(r"([;\\t\\n])")',
        'APART = re.compile(r"([\\t\\n])")',
        Test(f"{INERT}::test_a_formula_behind_another_separator_becomes_text"),
    ),
    Mutant(
        "job-option-lines",
        "a newline in CONFIG_SLURM_OPTIONS is let through",
        "matrix.settings:SlurmSettings",
        '"gres", "options"',
        '"gres"',
        Test(f"{JOBS}::test_a_setting_of_several_lines_is_refused"),
    ),
    Mutant(
        "job-path-lines",
        "a newline in a path ends a line of the job's script",
        "jobscript:text",
        "    _require_lines(root, cell, python, script)\n",
        "",
        Test(f"{JOBS}::test_a_path_of_several_lines_is_refused"),
    ),
    Mutant(
        "job-late-refusal",
        "a path is refused when the jobs before it are submitted",
        "launch.slurm:all_at_once",
        "        jobscript.text(plan.root, cell, python, script, plan.settings.slurm)\n",
        "",
        Test(f"{JOBS}::test_a_path_of_several_lines_is_refused"),
    ),
    Mutant(
        "job-backslash",
        "sbatch takes a backslash out of an option",
        "jobscript:_directive",
        "r'([\"\\\\])'",
        "r'([\"])'",
        Test(f"{JOBS}::test_sbatch_and_the_shell_read_what_was_meant"),
    ),
    Mutant(
        "job-dollar-word",
        "a word that begins with $ is the shell's to expand",
        "jobscript:_shell_command",
        "name.fullmatch(w)",
        'w.startswith("$")',
        Test(f"{JOBS}::test_sbatch_and_the_shell_read_what_was_meant"),
    ),
    Mutant(
        "override-of-two-lines",
        "the refusal of an override with a newline takes two lines",
        "overrides:assignment",
        "{value if value.isprintable() else repr(value)}",
        "{value}",
        Test(f"{JOBS}::test_an_override_of_several_lines_is_refused_in_one"),
    ),
    Mutant(
        "args-unquoted",
        "the quotes in ARGS are letters",
        "with_args:main",
        'shlex.split(os.environ.get("ARGS", ""))',
        'os.environ.get("ARGS", "").split()',
        Test("tests/test_make.py::test_args_are_words"),
    ),
    Mutant(
        "task-code-included",
        "the functions of an included YAML are not named",
        "taskcode:functions",
        "found += functions(",
        "functions(",
        Test(f"{TASKCODE}::test_included_files_count"),
    ),
    Mutant(
        "task-code-unsaid",
        "who evaluates does not hear what a task runs",
        "evaluation.command:Evaluator",
        "find(others, say, offline)",
        "find(wanted.tasks, print, offline)",
        Test(f"{TASKCODE}::test_the_terminal_is_what_tasks_speak_to"),
    ),
]

SECTIONS = {"Text that stays text": TEXT}
