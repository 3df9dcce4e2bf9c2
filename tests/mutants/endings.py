"""Mutants of how programs end: streams, signals, and what is said of arguments."""

from tests.mutants.mutant import Mutant, Test

ENTRY = "tests/records/test_entry.py"
WORDS = "tests/records/test_arguments.py"
SCRIPTS = "tests/test_scripts.py"
MENU = "tests/kconf/test_menuconfig.py"

ENDINGS = [
    Mutant(
        "entry-pipe-is-an-error",
        "a reader that has left is an error of a file",
        "records.entry:_Standard._end",
        "return SystemExit(UNREAD)",
        "return SystemExit(1)",
        Test(f"{ENTRY}::test_a_reader_that_has_left[stdout]"),
    ),
    Mutant(
        "entry-end-of-main-unflushed",
        "what main leaves by sys.exit is not flushed where it can be refused",
        "records.entry:run",
        "    except SystemExit as end:\n        status = end.code\n",
        "",
        Test(f"{SCRIPTS}::test_help_in_ascii_and_to_nobody[export.py]"),
    ),
    Mutant(
        "entry-import-swallows",
        "an interrupt while modules are imported is an exception",
        "records.entry:importing",
        "signal.signal(signal.SIGINT, _leave)",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        Test(f"{ENTRY}::test_an_interrupt_while_modules_are_imported"),
    ),
    Mutant(
        "entry-sigterm-by-default",
        "SIGTERM leaves nothing that was entered",
        "records.entry:run",
        "signal.signal(signal.SIGTERM, _terminate)",
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
        Test(f"{ENTRY}::test_sigterm_leaves_what_was_entered"),
    ),
    Mutant(
        "entry-narrow-streams-refuse",
        "a stream refuses what its encoding lacks",
        "records.entry:_stream",
        "errors=readable.ERRORS",
        'errors="strict"',
        Test(f"{ENTRY}::test_what_a_terminal_lacks_is_written_in_ascii[how0]"),
    ),
    Mutant(
        "entry-ascii-names",
        "in the bare C locale names of files stay ASCII",
        "records.entry:_take_any_name",
        'if sys.getfilesystemencoding() != "ascii":',
        "if True:",
        Test(f"{ENTRY}::test_a_name_beyond_ascii_in_a_bare_locale"),
    ),
    Mutant(
        "entry-pool-hears",
        "the processes of a pool are interrupted too, and say so",
        "records.entry:shielded",
        "signal.SIG_BLOCK, {signal.SIGINT}",
        "signal.SIG_BLOCK, set()",
        Test(f"{ENTRY}::test_an_interrupt_ends_a_pool_of_processes"),
    ),
    Mutant(
        "entry-delegate-goes-first",
        "who waits for a program of ours is interrupted before it",
        "records.entry:delegate",
        "held = signal.signal(signal.SIGINT, lambda number, frame: None)",
        "held = signal.getsignal(signal.SIGINT)",
        Test(f"{ENTRY}::test_who_waits_for_a_program_of_ours_lets_it_end"),
    ),
    Mutant(
        "arguments-foreign-variable",
        "a variable of another value is named",
        "records.arguments:Parser._typed",
        'value is not None and refusal.startswith(f"{value}: ")',
        "value is not None",
        Test(f"{WORDS}::test_without_make_it_is_that_of_a_flag"),
    ),
    Mutant(
        "arguments-infinite",
        "an infinite number fits",
        "records.arguments:real",
        "math.isfinite(number) and fits(number)",
        "fits(number)",
        Test(f"{WORDS}::test_what_is_refused"),
    ),
    Mutant(
        "generate-torch-first",
        "make generate imports torch before it reads its arguments",
        "scripts.generate:main",
        "    options = parse(arguments)\n",
        "    import torch  # noqa: F401\n\n    options = parse(arguments)\n",
        Test(f"{SCRIPTS}::test_help_in_ascii_and_to_nobody[generate.py]"),
    ),
    Mutant(
        "menuconfig-locale",
        "a locale that is not installed is an error",
        "scripts.kconfig:edit",
        'os.environ["LC_ALL"] = "C.UTF-8"',
        "pass",
        Test(f"{MENU}::test_a_locale_that_is_not_installed"),
    ),
    Mutant(
        "run-says-not-what-goes-on",
        "an interrupted command is continued with another one",
        "matrix.run:_what_goes_on",
        'if command in ("run", "rerun") else [command]',
        "if command else [command]",
        Test("tests/matrix/launch/test_runner.py::test_an_interrupt_outside_the_run"),
    ),
]

SECTIONS = {"How programs end": ENDINGS}
