"""Slips that let somebody else's files, or another machine, have code run."""

from tests.mutants.mutant import Mutant, Test

OF_CODE = "tests/records/test_codehash.py"
OF_FOLDERS = "tests/records/test_private.py"
OF_RECEIVED = "tests/matrix/test_received.py"
OF_RUN = "tests/matrix/launch/test_runner.py"
LISTENING = "tests/gpt2/distributed/test_listening.py"
REBUILT = f"{OF_CODE}::test_a_snapshot_that_is_not_the_code_and_nothing_else_is_rebuilt"
TOLD = f"{OF_RECEIVED}::test_what_runs_from_a_snapshot_is_told_so"

RESULTS = [
    Mutant(
        "snapshot-with-more",
        "a snapshot may hold more than the hashed files",
        "codehash:_intact",
        "there == {*folders, *files}",
        "there >= {*folders, *files}",
        Test(f"{REBUILT}[bytecode]"),
    ),
    Mutant(
        "snapshot-with-links",
        "a link counts as what it leads to",
        "codehash:_entries",
        '"" if file else "@"',
        '""',
        Test(f"{REBUILT}[a linked file]"),
    ),
    Mutant(
        "snapshot-among-results",
        "cells run from code that lies beside the results",
        "matrix.run:_run",
        'private.cache("code")',
        'root / "results" / ".code"',
        Test(f"{OF_RUN}::test_a_study_from_nothing_to_done"),
    ),
    Mutant(
        "script-folder-searched",
        "python without -P runs the snapshot",
        "codehash",
        '"PYTHONSAFEPATH": "1", ',
        "",
        Test(TOLD),
    ),
    Mutant(
        "facts-from-anywhere",
        "the process that is asked for facts runs without -P and -B",
        "model_facts:ask",
        ', "OMP_NUM_THREADS": "1", **FROM_SNAPSHOT}',
        ', "OMP_NUM_THREADS": "1"}',
        Test(TOLD),
    ),
    Mutant(
        "inductor-among-results",
        "compiled graphs are read from the results",
        "launcher:pooled",
        "numactl_works, private.cache_home())",
        'numactl_works, plan.output / ".cache")',
        Test(f"{OF_RUN}::test_cells_share_what_was_compiled"),
    ),
    Mutant(
        "run-through-a-link",
        "a run goes on although its log is a link",
        "launcher:Local.start",
        "        prepare.refuse_links(cell.dir)\n",
        "",
        Test(f"{OF_RECEIVED}::test_no_run_writes_through_a_link[train.log-False]"),
    ),
]
FOLDERS = [
    Mutant(
        "cache-of-a-group",
        "a cache that the group may write is used",
        "private:private_folder",
        "{os.getuid()}, 0o022)",
        "{os.getuid()}, 0o002)",
        Test(f"{OF_FOLDERS}::test_a_folder_that_others_may_write_is_refused"),
    ),
    Mutant(
        "cache-of-anybody",
        "a cache that belongs to another user is used",
        "private:_fault",
        "if info.st_uid not in owners:",
        "if False:",
        Test(f"{OF_FOLDERS}::test_a_folder_of_somebody_else_is_refused"),
    ),
    Mutant(
        "cache-below-anybody",
        "a cache in a folder that everybody may write is used",
        "private:private_folder",
        "_fault(above, trusted, 0o002, stat.S_ISVTX)",
        "_fault(above, trusted, 0)",
        Test(f"{OF_FOLDERS}::test_everything_above_it_counts"),
    ),
    Mutant(
        "headers-of-anybody",
        "torch keeps precompiled headers where every user can put some",
        "private:compile_caches",
        "        temporary /= shared_name()\n",
        "        pass\n",
        Test(f"{OF_FOLDERS}::test_a_cache_that_the_user_names_is_looked_at_too"),
    ),
]
RANKS = [
    Mutant(
        "store-as-asked-for",
        "ranks of one host meet at torchrun's own store",
        "distributed.torchrun:meet_here",
        "options.rdzv_backend = BACKEND",
        'options.rdzv_backend = "static"',
        Test(f"{LISTENING}::test_however_one_host_is_asked_for"),
    ),
    Mutant(
        "store-on-every-interface",
        "the store's socket is bound to every address",
        "distributed.torchrun:Loopback.next_rendezvous",
        "create_server((LOOPBACK,",
        'create_server(("",',
        Test(f"{LISTENING}::test_two_ranks_listen_on_the_loopback_alone[1]"),
    ),
    Mutant(
        "nccl-on-the-network",
        "NCCL on one host listens on the machine's address",
        "distributed.ranks",
        '("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")',
        '("GLOO_SOCKET_IFNAME",)',
        Test(
            "tests/gpt2/distributed/test_ranks.py::"
            "test_ranks_of_one_host_meet_on_its_loopback"
        ),
    ),
]

SECTIONS = {
    "Results from somebody else": RESULTS,
    "Folders of the user": FOLDERS,
    "Where ranks listen": RANKS,
}
