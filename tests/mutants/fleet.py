"""Mutants of placement and of Slurm's jobs."""

from tests.mutants.mutant import Mutant, Test

TOPOLOGY, MASKS, LEASES = (
    "matrix/fleet/topology.py",
    "matrix/fleet/visible_devices.py",
    "matrix/fleet/host_leases.py",
)
OF_TOPOLOGY = "tests/matrix/fleet/test_topology.py"
OF_MASKS = "tests/matrix/fleet/test_visible_devices.py"
OF_LEASES = "tests/matrix/fleet/test_host_leases.py"
OF_PLACE = "tests/matrix/fleet/test_place.py"
OF_JOBS = "tests/matrix/launch/test_slurm_jobs.py"

PLACEMENT = [
    Mutant(
        "group-across-nodes",
        "a group holds GPUs of two NUMA nodes",
        "topology:groups",
        "if (gpu.vendor, gpu.node) == (vendor, node)]",
        "if gpu.vendor == vendor]",
        Test(f"{OF_TOPOLOGY}::test_no_group_crosses_a_node_or_is_too_large"),
    ),
    Mutant(
        "rocm-in-pci-order",
        "AMD GPUs are numbered by PCI address",
        "topology:_as_kfd_counts",
        "    for bus, gpu_id in _kfd_gpus(nodes):",
        "    for bus, gpu_id in sorted(_kfd_gpus(nodes)):",
        Test(f"{OF_TOPOLOGY}::test_rocm_counts_as_kfd_does"),
    ),
    Mutant(
        "hip-mask-uncounted",
        "below ROCr's mask a GPU keeps its number",
        "visible_devices:allowed",
        "kept = [replace(gpu, visible=str(n)) for n, gpu in enumerate(kept)]",
        "kept = list(kept)",
        Test(f"{OF_MASKS}::test_rocm_masks_twice"),
    ),
    Mutant(
        "gpu-lease-shared",
        "a whole GPU can be leased twice",
        "host_leases:HostLeases.whole",
        'return self._lock(f"gpu-{gpu}", fcntl.LOCK_EX)',
        'return self._lock(f"gpu-{gpu}", fcntl.LOCK_SH)',
        Test(f"{OF_LEASES}::test_a_gpu_is_leased_once"),
    ),
    Mutant(
        "gpu-lease-of-the-runner",
        "the training process does not inherit its GPU's lease",
        "child:Child.__init__",
        "pass_fds=slot.descriptors",
        "pass_fds=()",
        Test("tests/matrix/fleet/test_fleet.py::test_two_runners_share_the_node"),
    ),
    Mutant(
        "port-in-use",
        "a port is leased while somebody listens on it",
        "host_leases:HostLeases.port",
        "if mine and _is_free(number):",
        "if mine:",
        Test(f"{OF_LEASES}::test_a_port_in_use_is_not_leased"),
    ),
    Mutant(
        "busy-gpu-taken",
        "a GPU on which others compute is taken",
        "place:Pool._free",
        "        if not users:\n",
        "        if users is not None:\n",
        Test(f"{OF_PLACE}::test_a_gpu_that_others_use_is_left_alone_and_said_once"),
    ),
    Mutant(
        "rank-outlives-torchrun",
        "a rank trains on when its torchrun is killed",
        "training.process:as_rank",
        "prctl(PR_SET_PDEATHSIG, signal.SIGTERM)",
        "prctl(PR_SET_PDEATHSIG, 0)",
        Test(
            "tests/gpt2/training/test_entry.py::"
            "test_a_rank_has_a_cache_of_its_own_and_does_not_outlive_torchrun"
        ),
    ),
    Mutant(
        "arm-always-on-one-group",
        "arms are dealt to groups by their position",
        "place:Pool.choose",
        "key=lambda cell: self._ran[cell.step, slot.group.name]",
        "key=lambda cell: 0",
        Test(f"{OF_PLACE}::test_arms_take_turns_on_the_groups"),
    ),
    Mutant(
        "arm-always-late",
        "every seed runs its arms in the same direction",
        "place:Pool.order",
        "found += reversed(block) if n % 2 else block",
        "found += block",
        Test(f"{OF_PLACE}::test_the_order_of_arms_is_balanced_over_time"),
    ),
]

SLURM = [
    Mutant(
        "job-twice",
        "a cell whose job is on its way is submitted again",
        "slurm:Slurm.start",
        "found = self.adopt(cell)",
        "found = None",
        Test(f"{OF_JOBS}::test_a_cell_is_submitted_once"),
    ),
    Mutant(
        "job-of-another",
        "a job that has the recorded id by chance is followed",
        "slurm:Slurm.adopt",
        "if seen.over or seen.name != jobscript.name(cell):",
        "if seen.over:",
        Test(f"{OF_JOBS}::test_a_job_that_is_over_or_not_ours_is_not_followed"),
    ),
    Mutant(
        "cancelled-is-failed",
        "a job that somebody cancelled counts as stopped by itself",
        "slurm:Job._judge",
        'if seen.state == "CANCELLED":',
        'if seen.state == "CANCELED":',
        Test(f"{OF_JOBS}::test_how_a_job_ended"),
    ),
    Mutant(
        "silent-controller",
        "a job is over when Slurm does not answer",
        "slurm:Job.outcome",
        "        if seen is None or not seen.over:\n            return None",
        "        seen = seen or JobState(None)\n        if not seen.over:\n            return None",
        Test(f"{OF_JOBS}::test_a_controller_that_is_silent_is_waited_for"),
    ),
    Mutant(
        "queued-job-hangs",
        "the watchdog counts the time in the queue",
        "slurm:Job.moving",
        "return self._state == RUNNING",
        "return True",
        Test(f"{OF_JOBS}::test_a_job_that_does_not_run_may_stand_still[PENDING]"),
    ),
    Mutant(
        "hung-job-goes-on",
        "a job that hangs writes its stacks and is not cancelled",
        "slurm:Job.hang",
        "self._end = time.monotonic() + watchdog.DUMP",
        'self._end = float("inf")',
        Test(
            f"{OF_JOBS}::"
            "test_a_running_job_without_a_heartbeat_is_cancelled_and_submitted_anew"
        ),
    ),
    Mutant(
        "hung-job-is-cancelled",
        "a job that the watchdog ended is not submitted again",
        "slurm:Job._judge",
        "        if self.hung:\n",
        "        if not seen.over:\n",
        Test(f"{OF_JOBS}::test_a_job_that_always_hangs_has_failed"),
    ),
    Mutant(
        "third-moment-uncounted",
        "the disk forecast takes AdamWAdv for AdamW",
        "optim.adamwadv",
        '(*MOMENTS, "max_exp_avg_sq")',
        "MOMENTS",
        Test(
            "tests/gpt2/training/test_memory.py::"
            "test_a_checkpoint_is_as_large_as_foretold[adamwadv-none]"
        ),
    ),
]

SECTIONS = {"Placement": PLACEMENT, "Slurm": SLURM}
