"""Mutants of the mirrors, of reading runs back, and of the publication checklist."""

from tests.mutants.mutant import Mutant, Test

COMMIT = "tests/matrix/published/test_commit.py"

MIRRORS, READ = (
    "tests/matrix/trackers/test_mirror.py",
    "tests/matrix/published/test_queries.py",
)

SENDING = [
    Mutant(
        "mirror-from-the-start",
        "a mirror sends what the tracker holds already",
        "session:Session._send",
        "if row[0] >= self._known",
        "if True",
        Test(f"{MIRRORS}::TestSession::test_a_killed_mirror_leaves_no_row_twice"),
    ),
    Mutant(
        "mirror-by-its-own-count",
        "a mirror believes its notes, not the tracker",
        "session:Session._open",
        "self._known = sink.open(about, self.tags, directory, self.live)",
        "sink.open(about, self.tags, directory, self.live)\n"
        '        self._known = state(self.path, self.target.tracker).get("rows", 0)',
        Test(f"{MIRRORS}::TestSession::test_rows_that_a_tracker_lost_are_sent_again"),
    ),
    Mutant(
        "mirror-order-forgotten",
        "the order of the rows is not kept",
        "row_order:NumberedRows._note",
        "            os.write(descriptor, added.encode())\n",
        "            pass\n",
        Test(f"{MIRRORS}::TestNumberedRows::test_the_order_is_kept_by_a_second_mirror"),
    ),
    Mutant(
        "mirror-unlocked",
        "two mirrors send one cell at once",
        "session:Session._locked",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        Test(f"{MIRRORS}::TestSession::test_two_mirrors_of_one_cell"),
    ),
    Mutant(
        "mirror-one-fails-all",
        "a cell that fails takes the others along",
        "mirror:Mirror._guard",
        "            self.sessions.pop(path, None)\n            self._failed",
        "            self.sessions.clear()\n            self._failed",
        Test(f"{MIRRORS}::TestMirror::test_a_cell_that_fails_leaves_the_others"),
    ),
    Mutant(
        "credential-in-the-record",
        "a failure is noted as it was said",
        "session:note",
        'record["error"] = scrub(record["error"])',
        'record["error"] = str(record["error"])',
        Test(f"{MIRRORS}::TestSession::test_a_failure_is_noted_without_credentials"),
    ),
    Mutant(
        "run-id-of-the-hash",
        "two studies with the same cell share a run",
        "content:describe",
        'identity = (cell["study"], cell["step"]',
        'identity = (cell["step"]',
        Test(f"{MIRRORS}::TestContent::test_the_id_stays_and_differs_between_studies"),
    ),
    Mutant(
        "run-id-of-a-rerun",
        "a cell that is run anew goes on in its former run",
        "content:describe",
        '(*identity, starts[0]["time"])',
        "identity",
        Test(f"{MIRRORS}::TestContent::test_a_cell_that_is_run_anew_is_another_run"),
    ),
]

READING = [
    Mutant(
        "first-row-of-a-step",
        "of a step that was logged twice the first row counts",
        "published.run:PublishedRun.series",
        "for row in self.history if key in row}\n        if not found:",
        "for row in reversed(self.history) if key in row}\n        if not found:",
        Test(f"{READ}::test_the_last_row_of_a_step_counts"),
    ),
    Mutant(
        "undeclared-difference",
        "any difference from the control counts as declared",
        "checklist:_undeclared",
        "            if key not in declared:\n",
        "            if not declared:\n",
        Test(f"{READ}::TestChecklist::test_a_difference_that_no_step_declares"),
    ),
    Mutant(
        "commit-of-nobody",
        "a commit that no branch holds is public",
        "commit:absent",
        'of {remote}" if missing else None',
        'of {remote}" if not missing else None',
        Test(f"{COMMIT}::TestCommit::test_a_commit_that_no_branch_holds"),
    ),
    Mutant(
        "remote-of-this-machine",
        "a repository of this machine is public",
        "commit:unreachable",
        "return not_public(remote) or absent(commit, remote)",
        "return absent(commit, remote)",
        Test(f"{COMMIT}::TestCommit::test_a_repository_of_this_machine[file://{{}}]"),
    ),
    Mutant(
        "remote-of-a-neighbour",
        "a private address is public",
        "commit:_public_host",
        "return ipaddress.ip_address(host).is_global",
        "return ipaddress.ip_address(host) is not None",
        Test(f"{COMMIT}::TestCommit::test_what_is_no_public_remote[git://10.0.0.5/a]"),
    ),
    Mutant(
        "remote-with-a-token",
        "a URL that holds credentials is public",
        "commit:not_public",
        "if named is not None:",
        "if False:",
        Test(
            f"{COMMIT}::TestCommit::"
            "test_what_is_no_public_remote[https://token@host.org/a]"
        ),
    ),
    Mutant(
        "git-environment",
        "the environment tells git another remote",
        "commit:_git",
        'if not k.startswith(("GIT_", "SSH_"))',
        "if k",
        Test(f"{COMMIT}::TestCommit::test_nothing_of_the_environment_speaks_to_git"),
    ),
    Mutant(
        "no-commit-passes",
        "a study whose runs record no commit passes",
        "checklist:_commit",
        'if run.config.get("git_commit") is None:',
        "if False:",
        Test(f"{READ}::TestChecklist::test_an_archive_has_no_commit[git0]"),
    ),
    Mutant(
        "facts-unasked",
        "a fact of the block may be missing",
        "published.facts:unrecorded",
        "        if lacking:\n",
        "        if False:\n",
        Test(
            f"{READ}::TestChecklist::test_a_fact_that_no_run_records[compile-options6]"
        ),
    ),
    Mutant(
        "projects-mixed",
        "runs may lie in W&B or not",
        "checklist:_projects",
        "if len(places) > 1:",
        "if False:",
        Test(f"{READ}::TestChecklist::test_the_project_of_wandb"),
    ),
    Mutant(
        "checklist-without-status",
        "a failed checklist ends with status 0",
        "queries:verify",
        "status = 0 if all(item.passed for item in items) else 1",
        "status = 0",
        Test(
            f"{READ}::TestScripts::"
            "test_the_checklist_decides_the_status_and_prints_the_block"
        ),
    ),
]

SECTIONS = {"Trackers": SENDING, "Published runs": READING}
