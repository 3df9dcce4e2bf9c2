"""`make`, `make plan` and `make report`: make the plan, print it, run it, report.

    run_test_matrix.py [plan|run|report|prereg|promote|verdict] [--dry-run]
    run_test_matrix.py continue|rerun|estimate|tune|ladder

Exit status: 0 all cells done; 1 a cell failed or was stopped, or there is nothing
to report; 2 the plan cannot be made; 130 or 143 after SIGINT or SIGTERM.
"""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from kconf import files
from kconf.bind import SettingsError
from kconf.overrides import MEANT, assignment, from_environment
from kconf.strict import ConfigError
from matrix import units
from matrix.fleet import place, visible_devices
from matrix.fleet.host_leases import LeaseDirectoryError
from matrix.launch import slurm
from matrix.launch.display import display
from matrix.launch.launcher import Local, pooled
from matrix.launch.local import Runner
from matrix.plan import device, estimate, forecast, model_facts, rerun, selection
from matrix.plan import ladder, settle, tuning
from matrix.plan.cells import Cell, Plan, PlanError, configured, make_plan
from matrix.plan.checks import Validate
from matrix.results.run import ReportError
from matrix.results.selection import CONFIRM, SCREEN, SEQUENTIAL
from matrix.settings import study_settings
from matrix.trackers.mirror_process import mirrored
from matrix.trackers.sink import targets
from matrix.trackers.target import TrackerError
from records import entry, pointer, private, provenance, refused
from records.arguments import Parser, one_of
from records.codehash import CodeError, snapshot
from records.doing import doing
from records.layout import RecordError
from records.manifest import ManifestError, MissingDataset
from records.text_table import fitted

RUNS = ("run", "continue", "rerun", "tune", "ladder")
COMMANDS = (*RUNS, "plan", "estimate", "report", "prereg", "promote", "verdict")
STOPPED = (entry.INTERRUPTED, entry.TERMINATED)
REFUSED = (
    ConfigError,
    SettingsError,
    PlanError,
    RecordError,
    ManifestError,
    MissingDataset,
    CodeError,
    device.DeviceError,
    model_facts.FactsError,
    forecast.DiskError,
    TrackerError,
    visible_devices.MaskError,
    place.PlaceError,
    LeaseDirectoryError,
    ReportError,
)


def main(
    argv: Sequence[str],
    environment: Mapping[str, str],
    root: Path,
    python: str,
    validate: Validate,
) -> int:
    """Run the command line; returns the exit status.

    `environment` holds the one-shot overrides and DRY_RUN, V; `root` is the
    checkout, `python` the interpreter that trains, and `validate` builds the
    settings of a run (gpt2.settings.run.run_settings).
    """
    parser = Parser(__doc__)
    parser.add_argument("command", nargs="?", type=one_of(COMMANDS), default="run")
    parser.add_argument("--dry-run", action="store_true", help="check, train nothing")
    given = parser.parse_args(argv)
    asked = given.command, given.dry_run
    try:
        status = _perform(*asked, environment, root, python, validate)
    except KeyboardInterrupt:  # before or after the cells run
        status = entry.INTERRUPTED
    if status in STOPPED:
        entry.say_stopped(status, _what_goes_on(*asked, environment))
    return status


def _what_goes_on(command: str, dry: bool, environment: Mapping[str, str]) -> str:
    """What goes on with an interrupted command, as in `make STEPS=2`; "" for one that
    trains nothing. A rerun has put the former runs aside: they are new cells.
    """
    if command not in RUNS or dry or environment.get("DRY_RUN"):
        return ""
    try:
        spelled = from_environment(environment).spelled.values()
    except ConfigError:  # nothing was trained with these
        return ""
    target = [] if command in ("run", "rerun") else [command]
    return " ".join(["make", *target, *map(shlex.quote, spelled)])


def _perform(
    command: str,
    dry: bool,
    environment: Mapping[str, str],
    root: Path,
    python: str,
    validate: Validate,
) -> int:
    """The exit status of a command, its refusals printed; KeyboardInterrupt passes."""
    try:
        dry = dry or _switch(environment, "DRY_RUN")
        if command == "report":
            plan = make_plan(root, environment, device.probe_once(python), validate)
            _leave_pointers(plan)
            return 0 if _report(plan) else 1
        if command not in (*RUNS, "plan", "estimate"):
            with entry.importing("scipy"):  # which `make plan` does without
                from matrix import evidence_commands

            probe = device.probe_once(python)
            plan = make_plan(root, environment, probe, validate)
            if command == "prereg":  # which comes before any run
                later = None
                if plan.settings.stage == SCREEN:
                    later = make_plan(root, environment, probe, validate, everyone=True)
                return evidence_commands.prereg(plan, later)
            _leave_pointers(plan)
            return evidence_commands.perform(command, plan, environment)
        _refuse_mistaken(environment)
        if command == "ladder":
            return _ladder(root, environment, python, validate, dry)
        if command == "tune":
            part = study_settings(configured(root, environment)).part
            environment = tuning.environment(environment, part)
        choose = _choice(command)
        if command == "estimate":
            _estimate(root, environment, python, validate)
            return 0
        if command == "plan" or dry:
            given = (root, environment, python, validate, root, choose)
            plan, _ = _planned(*given, packed=False)
            _print_costs(plan, python)
            rerun.make_room(plan, False, print)
            return _check(plan, python) if dry and command == "run" else 0
        if command == "rerun" and not rerun.is_chosen(environment):
            plan, _ = _planned(root, environment, python, validate, root, choose)
            rerun.make_room(plan, False, print)
            raise PlanError(rerun.how_to_choose(environment))
        finish = _seal_tuning if command == "tune" else _report
        return _run(root, environment, python, validate, choose, finish)
    except REFUSED as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        why = refused.explanation(error, "or choose another OUTPUT= for results")
        print(f"error: {why}", file=sys.stderr)
        return 2


def _refuse_mistaken(environment: Mapping[str, str]) -> None:
    """`STEP=2 make` would train every step. Raises PlanError, as make does before."""
    for word, meant in MEANT.items():
        if environment.get(word):
            written = assignment(word, environment[word])
            raise PlanError(f"{written}: nothing here reads it; write {meant}=")


def _planned(
    root: Path,
    environment: Mapping[str, str],
    python: str,
    validate: Validate,
    code_root: Path,
    choose: Callable[[Plan], Plan],
    packed: bool = True,
) -> tuple[Plan, place.Pool | None]:
    """The plan, printed, with its forecasts; refuses one that cannot run here, and
    where `packed` one whose corpus is not packed.

    And the GPUs of this machine, which a plan for Slurm does not need.
    """
    probe = device.probe_once(python)
    plan = make_plan(root, environment, probe, validate, code_root, packed=packed)
    plan = choose(_due(plan))
    if plan.settings.launch.slurm:
        plan, pool = slurm.all_at_once(plan, python), None
    else:
        if any(cell.device == "cuda" for cell in plan.pending):
            device.require_gpu(probe, environment)
        plan, pool = pooled(plan, environment, python)
    known = _model_facts(plan, plan.pending, python, code_root)
    disk = forecast.disk(plan, known)
    time = forecast.duration(plan, known)
    print(table(plan))
    for line in units.by_reason((each.id, each.why) for each in plan.excluded):
        print(f"excluded: {line}")
    for note in (*plan.notes, *targets(plan.settings, environment)[1]):
        print(note)
    diverged = [cell for cell in plan.cells if cell.state == "diverged"]
    if diverged and not plan.settings.retry_diverged:
        many = units.plural(len(diverged), "diverged cell")
        print(f"{many} left alone (RETRY_DIVERGED=1 make runs them again)")
    damaged = [cell for cell in plan.cells if cell.state == "damaged"]
    if damaged:
        many = units.plural(len(damaged), "damaged cell")
        print(
            f"{many} left alone: as if it never ran, and nothing in it is overwritten"
        )
    print(f"disk: up to {units.memory(disk.needed)} of {units.memory(disk.free)} free")
    shown = "unknown" if time.seconds is None else units.duration(time.seconds)
    print(f"time: {shown} ({time.basis})", flush=True)
    disk.require()
    return plan, pool


def _print_costs(plan: Plan, python: str) -> None:
    """What a sequential study takes as a whole."""
    if plan.settings.design != SEQUENTIAL:
        return
    from matrix import evidence_commands

    time = forecast.duration(plan, _model_facts(plan, plan.pending, python, plan.root))
    hours = None
    if time.seconds:
        started = [cell for cell in plan.pending if cell.state != "running"]
        jobs = min(plan.jobs, len(started))
        devices = plan.cells[0].values["GPUS_PER_RUN"]
        hours = time.seconds * jobs / len(started) / 3600 * devices
    for line in evidence_commands.costs(plan, hours):
        print(line)


def _due(plan: Plan) -> Plan:
    """Of a sequential study what its next look needs, with where it stands said."""
    if plan.settings.design != SEQUENTIAL:
        return plan
    from matrix.evidence import next_runs  # scipy, which other plans do without

    notes = (*plan.notes, *next_runs.describe(plan))
    return replace(next_runs.due(plan), notes=notes)


def _model_facts(
    plan: Plan, cells: Iterable[Cell], python: str, code_root: Path
) -> dict[str, model_facts.Facts]:
    """What the models of some cells of a plan cost, by forecast.facts_key."""
    return model_facts.gather(
        {forecast.facts_key(cell): cell.values for cell in cells},
        plan.operational,
        plan.output / ".cache" / "facts.json",
        model_facts.ask(python, code_root, plan.root),
    )


def _choice(command: str) -> Callable[[Plan], Plan]:
    """Which cells of a plan the command runs."""
    if command == "continue":
        return rerun.only_started
    if command == "rerun":
        return rerun.replaced_by_new_runs
    return lambda plan: plan


def _estimate(
    root: Path, environment: Mapping[str, str], python: str, validate: Validate
) -> None:
    """Print what the pending cells will take."""
    probe = device.probe_once(python)
    plan = _due(make_plan(root, environment, probe, validate, packed=False))
    found = estimate.estimates(plan, _model_facts(plan, plan.pending, python, root))
    print(estimate.text(plan, found))


def table(plan: Plan) -> str:
    """Run directory, state and reason in columns, then the totals, and where the
    directories lie.
    """
    rows = [("run", "state", "reason")]
    for cell in plan.cells:
        rows.append((cell.directory, cell.state, cell.reason))
    count = len(plan.cells)
    states = [cell.state for cell in plan.cells]
    totals = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    title = f"{plan.settings.label}: {units.plural(count, 'cell')} ({totals})"
    where = f"in {files.shown(plan.study_dir)}"
    return "\n".join([*fitted(rows, words=True), "", title, where])


def _run(
    root: Path,
    environment: Mapping[str, str],
    python: str,
    validate: Validate,
    choose: Callable[[Plan], Plan],
    finish: Callable[[Plan], bool],
) -> int:
    """Snapshot, plan, train, say where the results are, and what they come to; of a
    sequential study look after look, until it is decided or LOOK=1 has had its one.
    """
    code_root = snapshot(root, private.cache("code"))
    one_look = _switch(environment, "LOOK")
    while True:
        plan, pool = _planned(root, environment, python, validate, code_root, choose)
        sequential = plan.settings.design == SEQUENTIAL
        if one_look and not sequential:
            raise PlanError("LOOK=1: only a sequential study has looks (CONFIG_DESIGN)")
        status = _train(plan, pool, root, environment, python)
        if status not in (0, 1) or not sequential:
            break
        probe = device.probe_once(python)
        tried, plan = plan, make_plan(root, environment, probe, validate, code_root)
        if not _goes_on(plan, tried) or (one_look and tried.settings.stage == CONFIRM):
            break
        choose = _choice("run")
    print(f"results: {plan.study_dir}")
    if status in (0, 1):  # not when asked to stop
        finish(plan)
    return status


def _goes_on(plan: Plan, tried: Plan) -> bool:
    """Whether a sequential study has cells that the last round has not tried; promotes
    what its screening chose.
    """
    from matrix.evidence import next_runs, promotion
    from matrix.evidence.gather import gather

    plan = next_runs.due(plan)
    waiting = next_runs.unsettled(plan)
    if plan.settings.stage == SCREEN and not waiting:
        report = gather(plan.study_dir, selection.selected(plan))
        record = promotion.promote(plan, report)
        print(f"promoted: {', '.join(record['promoted'])}", flush=True)
        return True
    ran = {cell.hash for cell in tried.cells}
    return any(cell.hash not in ran for cell in waiting)


def _train(
    plan: Plan,
    pool: place.Pool | None,
    root: Path,
    environment: Mapping[str, str],
    python: str,
) -> int:
    """Run the plan's pending cells; the runner's exit status."""
    _leave_pointers(plan)
    shown = mirrored(plan, display(plan, _switch(environment, "V")), environment)
    origin = provenance.gather(root)
    if pool is None:
        launcher = slurm.Slurm(plan, python, origin, shown.say)
    else:
        private.compile_caches(os.environ)  # refused once, not by every cell
        launcher = Local(plan, python, origin, pool)
    settle.settle(plan, print)
    rerun.make_room(plan, True, print)
    return Runner(plan, launcher, shown).run()


def _ladder(
    root: Path,
    environment: Mapping[str, str],
    python: str,
    validate: Validate,
    dry: bool,
) -> int:
    """Run the study at every size of CONFIG_LADDER, then write what they show; the
    worst status of them.
    """
    with entry.importing("matplotlib"):  # as in _report
        from matrix.report import ladder as shown

    tunes = bool(study_settings(configured(root, environment)).tuning.symbols)
    rungs, probe = ladder.rungs(root, environment), device.probe_once(python)

    def planned(given: Mapping[str, str]) -> Plan:
        return make_plan(root, given, probe, validate)

    def facts(given: Mapping[str, str]) -> dict[str, model_facts.Facts]:
        plan = planned({**given, "CONFIG_TUNE": ""})  # not tuned yet
        ladder.refuse_heads(plan)
        cells = ladder.by_step(plan)
        known = _model_facts(plan, cells.values(), python, root)
        return {step: known[forecast.facts_key(cell)] for step, cell in cells.items()}

    whole = facts(environment)
    for rung in rungs:
        ladder.require_ratios(whole, rung.name, facts(rung.environment(environment)))
    worst, commands = 0, ("tune", "run") if tunes else ("run",)
    if dry:
        commands = ("tune",) if tunes else ("plan",)
    for rung in rungs:
        given = rung.environment(environment)
        print(f"size {rung.name}: {rung.study_dir}", flush=True)
        for command in commands:
            dropped = tuning.NOT_ITS if command == "tune" else {}
            kept = {k: v for k, v in given.items() if k not in dropped}
            status = _perform(command, False, kept, root, python, validate)
            if status not in (0, 1):
                return status
            worst = max(worst, status)
    if not dry:
        plans = [planned(rung.environment(environment)) for rung in rungs]
        print("\n".join(map(str, shown.write(rungs, plans))))
    return worst


def _seal_tuning(plan: Plan) -> bool:
    """Write tuning.json and print what was tried and chosen."""
    from matrix.report import tuning_section  # matplotlib, as in _report

    print(tuning_section.sealed_text(plan))
    return True


def _leave_pointers(plan: Plan) -> None:
    """Leave a pointer for every run of another study that the plan reuses."""
    for cell in [*plan.reference, *plan.cells]:
        if cell.reused:
            pointer.write(cell.own, cell.dir, cell.changes)


def _report(plan: Plan) -> bool:
    """Write the report of the plan's cells; False, with the cause, when it cannot."""
    with entry.importing("matplotlib"):  # a second that `make plan` is spared
        from matrix.report import write

    try:
        with doing("writing the report"):
            paths = write.write(plan.study_dir, selection.selected(plan))
    except write.ReportError as error:
        print(f"no report: {error}")
        return False
    print(write.render_terminal(paths.report))
    print(f"{paths.markdown}\n{paths.html}\n{paths.csv}\n{paths.jsonl}")
    return True


def _check(plan: Plan, python: str) -> int:
    """The dry run over the plan's steps; 1 when it fails, whatever its own status."""
    words = [python, str(plan.root / model_facts.ENTRY), "--dry-run"]
    if plan.settings.steps not in (None, "all"):
        words.append(f"--ra-mla-ablation-step={plan.settings.steps}")
    status = entry.delegate(words, plan.root)
    return status if status in STOPPED else int(status != 0)


def _switch(environment: Mapping[str, str], name: str) -> bool:
    """A variable that is 1 (on) or unset, empty or 0 (off)."""
    value = environment.get(name, "")
    if value not in ("", "0", "1"):
        raise PlanError(f"{name}={value}: set it to 1 or 0")
    return value == "1"
