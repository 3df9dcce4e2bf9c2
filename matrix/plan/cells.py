"""From a configuration to cells: step × seed, each with its identity.

A cell's identity is (identity symbols, code that it runs, dataset, threads on the
CPU); its hash names its directory, so a changed cell lands beside the old one
and the plan says what changed. Seeds are the outer loop and steps the inner
one: the arms of a pair finish together, and drift of the machine is shared.
"""

import errno
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from kconf import config_py
from kconf.arms import Excluded
from kconf.dense import reads_all
from kconf.derived import sizes
from kconf.dotconfig import config_paths, loaded, read_python, render
from kconf.overrides import Overrides, from_environment, refuse_bare, unread
from kconf.strict import DotConfig, Resolved, Tree
from kconf.unusual import questions, warnings
from matrix import units
from matrix.plan import checkout, checks, reused_controls, stage, tuning
from matrix.plan import device as devices
from matrix.plan.checks import PlanError, Validate
from matrix.plan.reasons import Subject, explain_new
from matrix.plan.steps import Step, plan_steps
from matrix.results import whole_run
from matrix.settings import StudySettings, study_settings
from records import history
from records.cell import DAMAGED, read_status
from records.codehash import IDENTITY_ROOMS, RULE, Code, combined, hash_rooms
from records.layout import CellDir, cell_path
from records.manifest import NAME as MANIFEST
from records.manifest import MissingDataset, dataset_dir

UNPACKED = "unpacked"
NETWORK = "Model"
"""The menu whose symbols shape the network, and with it parameters and FLOPs."""


@dataclass(frozen=True)
class Cell:
    """One training run: a step with a seed.

    `values` are every symbol's value with SEED and a concrete DEVICE_*, and
    `dotconfig` is the same as the text of a .config;
    `identity` is {config, code, code_rule, dataset, threads} and `hash` its sha256;
    `code_files` are the files whose hash `code` is, with their own, and `rooms` is the
    hash of all code of gpt2/ and kernels/;
    `threads` is None on a GPU; `dataset` is the packed corpus' directory;
    `changes` are the identity symbols in which the step differs from the base,
    `fragment` the text that makes the difference, `arm` as in matrix.plan.steps.Step;
    `model` is the hash of the symbols that shape the network. `dir` is where the run
    lies: `own`, the cell's own directory, or that of a control run of another study
    (records/pointer.py). Before its corpus is packed a cell is in the state UNPACKED, its
    hash is none that a run will have, and `dir` no place where one can lie.
    """

    study: str
    step: str
    help: str
    control: bool
    seed: int
    values: Mapping[str, Any]
    dotconfig: str
    device: str
    threads: int | None
    dataset: Path
    identity: Mapping[str, Any]
    code_files: Mapping[str, str]
    rooms: str
    hash: str
    model: str
    changes: tuple[str, ...]
    fragment: str
    arm: Mapping[str, Any] | None
    own: CellDir
    dir: CellDir
    state: str
    reason: str

    @property
    def reused(self) -> bool:
        """Whether the run is another study's."""
        return self.dir != self.own

    @property
    def name(self) -> str:
        """STEP seed-K."""
        return f"{self.step} seed-{self.seed}"

    @property
    def directory(self) -> str:
        """STEP/seed-K/HASH8, which names the run to RUN= as well."""
        if self.state == UNPACKED:
            return f"{self.step}/seed-{self.seed}/?"
        return self.own.path.relative_to(self.own.path.parents[2]).as_posix()

    @property
    def all_threads(self) -> int | None:
        """Threads of a CPU cell, its ranks together."""
        ranks = self.values["GPUS_PER_RUN"]
        return None if self.threads is None else self.threads * ranks


@dataclass(frozen=True)
class Plan:
    """Every cell of a study and what they share.

    `reference` holds the cells of steps that were not selected and that others are
    compared with: they are not run. `excluded` are the
    combinations of axes that cannot be. `salted` are the study's A/A arms. Cells in a state of `skipped` are left alone;
    the runs of `aside` make room for new ones. `trial` are the overrides, as they were
    written, that make these runs others than .config's.
    """

    root: Path
    settings: StudySettings
    output: Path
    cells: tuple[Cell, ...]
    reference: tuple[Cell, ...]
    jobs: int
    operational: frozenset[str]
    overrides: Mapping[str, str]
    code_root: Path
    notes: tuple[str, ...]
    excluded: tuple[Excluded, ...]
    salted: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    aside: tuple[Cell, ...] = ()
    trial: tuple[str, ...] = ()

    @property
    def study_dir(self) -> Path:
        """Where the study's results lie."""
        return self.output / self.settings.label

    @property
    def pending(self) -> list[Cell]:
        """The cells to run: neither done nor damaged, nor diverged unless asked for."""
        settled = {"done", DAMAGED}
        if not self.settings.retry_diverged:
            settled.add("diverged")
        left = settled | self.skipped
        return [cell for cell in self.cells if cell.state not in left]


def make_plan(
    root: Path,
    environment: Mapping[str, str],
    probe: Callable[[], str],
    validate: Validate,
    code_root: Path | None = None,
    cores: int | None = None,
    everyone: bool = False,
    packed: bool = True,
) -> Plan:
    """The plan of ROOT/.config with the one-shot overrides of `environment`.

    `probe` resolves DEVICE=auto; `validate` builds the settings of a run from
    symbol values, or raises SettingsError; `code_root` is the code that would run (the
    checkout, or a snapshot of it); `cores` defaults to what the process may use.
    `everyone`: the confirmation of every arm, as a preregistration seals it. `packed`:
    whether the corpus must be; if not, a plan can be looked at.
    Raises PlanError, SettingsError, DeviceError, ConfigError, MissingDataset.
    """
    root, code_root = root.resolve(), (code_root or root).resolve()
    cores = cores or devices.core_count()
    tree = Tree(root)
    refuse_bare(environment, {*tree.symbols} - tree.operational)
    base = base_stages(root, environment)
    overrides = _own_smallest(tree, base, from_environment(environment))
    unchanged = tree.resolve([*base, overrides])
    values = unchanged.values
    settings = study_settings(values)
    output = _directory(root / settings.output)
    settings = stage.phase(settings, output / settings.label, everyone)
    notes = unread(environment)

    def concrete(values: Mapping[str, Any]) -> str:
        return _device(values, settings, probe, environment, notes)

    threads = values["CPU_THREADS"] * values["GPUS_PER_RUN"]
    jobs = devices.job_count(settings.jobs, threads, concrete(values), cores)
    rooms = hash_rooms(code_root, IDENTITY_ROOMS)[0]
    shared = _Shared(root, output, settings, tree, Code(code_root), rooms, packed)
    found = plan_steps(tree, root, base, overrides, settings)
    planned = stage.restrict(found.steps, settings, output, overrides, everyone)
    tuned = tuning.arms(tree, unchanged, planned, settings, output, overrides)
    notes += [*found.notes, *sizes(unchanged.written), *tuned.notes]
    steps = [(step, step.resolve(overrides)) for step in tuned.steps]
    checks.refuse_seeds(tuned.steps, overrides)
    checks.require_settings(validate, steps, base[0].path)
    read_python(tree, *config_paths(root, environment))  # that of .config, or refused
    notes += _of_values({step.id: each.values for step, each in steps})
    by_step, reference = [], []
    for step, resolved in steps:
        device = concrete(resolved.values)
        changes = checks.changed(unchanged, resolved, tree.operational)
        cells = _cells(shared, step, overrides, device, changes, jobs, cores)
        if step.selected:
            by_step.append(cells)
        else:
            reference += cells
    cells = [cell for pairs in zip(*by_step) for cell in pairs]  # seeds outer
    _refuse_duplicates(cells)
    notes += [*_trained_here(shared, [*reference, *cells]), *_not_packed(cells)]
    notes += checkout.notes(root, values)
    notes += devices.thread_notes([cell.all_threads for cell in cells], jobs, cores)
    return Plan(
        root=root,
        settings=settings,
        output=output,
        cells=tuple(cells),
        reference=tuple(reference),
        jobs=jobs,
        operational=tree.operational,
        overrides=dict(overrides),
        code_root=code_root,
        notes=tuple(notes),
        excluded=tuple(found.excluded),
        salted=tuple(step.id for step in found.steps if step.symbols == {stage.SALT}),
        trial=_trial(tree.resolve(base), overrides, unchanged, tree, probe, cores),
    )


def _of_values(by_step: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is asked of the steps' values, and where a sparse mixer reads everything."""
    asked = warnings([(id, questions(values)) for id, values in by_step.items()])
    dense = [(id, line) for id, values in by_step.items() for line in reads_all(values)]
    return [*asked, *(f"{id}: {line}" for id, line in dense)]


def _device(
    values: Mapping[str, Any],
    settings: StudySettings,
    probe: Callable[[], str],
    environment: Mapping[str, str],
    notes: list[str],
) -> str:
    """The device of a cell; what "auto" has become is noted, once."""
    name = devices.device_of(values)
    if name != "auto":
        return name
    devices.refuse_auto(settings.launch.slurm)
    note = devices.auto_note(probe(), environment)
    notes.extend([] if note in notes else [note])
    return probe()


def base_stages(root: Path, environment: Mapping[str, str]) -> list[DotConfig]:
    """The full configuration: ROOT/.config, or what KCONFIG_CONFIG names."""
    return [DotConfig(loaded(root, environment))]


def configured(root: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Every symbol's value as configured, one-shot overrides included."""
    stages = [*base_stages(root, environment), from_environment(environment)]
    return Tree(root).resolve(stages).values


def _directory(output: Path) -> Path:
    """Where results go; NotADirectoryError where a file stands in their way."""
    there = next(path for path in (output, *output.parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), there)
    return output


@dataclass(frozen=True)
class _Shared:
    """What every cell of a plan has in common."""

    root: Path
    output: Path
    settings: StudySettings
    tree: Tree
    code: Code
    rooms: str
    packed: bool

    @property
    def label(self) -> str:
        """The study's name in results/."""
        return self.settings.label

    @property
    def baseline(self) -> Path | None:
        """The study whose control runs are reused, if one is named."""
        return self.root / self.settings.baseline if self.settings.baseline else None

    @cached_property
    def network(self) -> list[str]:
        """The symbols that shape the network."""
        tree = self.tree
        return [s for s in tree.symbols if tree.menus(s)[:1] == (NETWORK,)]


def _cells(
    shared: _Shared,
    step: Step,
    overrides: Overrides,
    device: str,
    changes: list[str],
    jobs: int,
    cores: int,
) -> list[Cell]:
    """The cells of a step, one per seed; on the CPU with their share of the cores."""
    cells = []
    for seed in shared.settings.seed_list:
        resolved = step.resolve(_cell_overrides(overrides, seed, device))
        threads = None
        if device == "cpu":
            threads = devices.rank_threads(resolved.values, jobs, cores)
        cells.append(_cell(shared, step, seed, resolved, device, threads, changes))
    return cells


def _cell(
    shared: _Shared,
    step: Step,
    seed: int,
    resolved: Resolved,
    device: str,
    threads: int | None,
    changes: list[str],
) -> Cell:
    values, operational = resolved.values, shared.tree.operational
    dataset = dataset_dir(shared.root / values["DATA_DIR"], values)
    code_files = shared.code.of(values)
    identity = {
        "config": config_py.identity(values, operational | history.as_before(values)),
        "code": combined(code_files),
        "code_rule": RULE,
        "dataset": _corpus(shared, dataset, values),
        "threads": threads,
    }
    hash_ = whole_run.identity_hash(identity)
    own = CellDir(cell_path(shared.output, shared.label, step.id, seed, hash_[:8]))
    subject = Subject(own, values, operational, identity, code_files)
    unpacked = identity["dataset"] is None
    place, status = whole_run.place_and_status(own, hash_)
    settled = ("done", "running", DAMAGED)
    state = UNPACKED if unpacked else status.state
    if shared.baseline and step.control and state not in (*settled, UNPACKED):
        place = reused_controls.find(shared.baseline, step.id, subject, hash_) or own
        status = read_status(place, hash_)
        state = status.state
    reason = status.reason
    if unpacked:
        reason = "its hash and state are known after make data"
    elif place != own:
        reason += f", reused from {place.path}"
    elif status.left:
        reason += f"; make will {', '.join(status.left)}"
    elif status.state == "new":
        reason = explain_new(subject)
    return Cell(
        study=shared.label,
        step=step.id,
        help=step.help,
        control=step.control,
        seed=seed,
        values=values,
        dotconfig=render(shared.tree, resolved),
        device=device,
        threads=threads,
        dataset=dataset,
        identity=identity,
        code_files=code_files,
        rooms=shared.rooms,
        hash=hash_,
        model=config_py.identity({n: values[n] for n in shared.network}, ()),
        changes=tuple(changes),
        fragment=step.fragment,
        arm=step.arm,
        own=own,
        dir=place,
        state=state,
        reason=reason,
    )


def _corpus(shared: _Shared, dataset: Path, values: Mapping[str, Any]) -> str | None:
    """The sha256 of the corpus; None for one that is not packed, where it need not be."""
    try:
        return checks.corpus(dataset, values).sha256
    except MissingDataset:
        if shared.packed:
            raise
        return None


def _own_smallest(
    tree: Tree, base: Sequence[DotConfig], overrides: Overrides
) -> Overrides:
    """The overrides, with no smallest effect for another METRIC= than the configured
    one: CONFIG_SMALLEST_EFFECT is in that one's unit. SMALLEST= names it.
    """
    if "METRIC" not in overrides or "SMALLEST_EFFECT" in overrides:
        return overrides
    if overrides["METRIC"] == tree.resolve(base).values["METRIC"]:
        return overrides
    values = {**overrides, "SMALLEST_EFFECT": "none"}
    return Overrides(values, overrides.label, overrides.spelled)


def _trial(
    plain: Resolved,
    overrides: Overrides,
    resolved: Resolved,
    tree: Tree,
    probe: Callable[[], str],
    cores: int,
) -> tuple[str, ...]:
    """The overrides that change what a cell of .config (`plain`) is, as written: its
    identity symbols, and on a CPU its threads.

    DEVICE= that names what `auto` is here changes none; under Slurm auto is not known.
    """
    changed = set(checks.changed(plain, resolved, tree.operational))
    named = {devices.device_of(each.values) for each in (plain, resolved)}
    if "auto" in named and len(named) > 1:
        slurm = study_settings(resolved.values).launch.slurm
        if slurm or probe() in named:
            changed -= {*devices.DEVICES.values()}
    if devices.device_of(resolved.values) != "cuda":
        threads = {
            devices.threads_alone(each.values, cores) for each in (plain, resolved)
        }
        changed |= (
            {"JOBS", "CPU_THREADS"} if len(threads) > 1 and probe() == "cpu" else set()
        )
    return tuple(
        overrides.spelled.get(symbol, f"CONFIG_{symbol}={raw}")
        for symbol, raw in overrides.items()
        if symbol in changed
    )


def _cell_overrides(overrides: Overrides, seed: int, device: str) -> Overrides:
    """The one-shot overrides with the cell's seed and its concrete device."""
    members = devices.DEVICES.values()
    kept = {name: raw for name, raw in overrides.items() if name not in members}
    own = {"SEED": str(seed), devices.DEVICES[device]: "y"}
    return Overrides({**kept, **own}, "plan", overrides.spelled)


def _trained_here(shared: _Shared, cells: Sequence[Cell]) -> list[str]:
    """A note per control cell that the baseline does not serve; refuses a baseline
    that serves none.
    """
    if shared.baseline is None or any(cell.state == UNPACKED for cell in cells):
        return []
    controls = [cell for cell in cells if cell.control]
    own = shared.output / shared.label
    lost = [cell.seed for cell in controls if not cell.reused and cell.state != "done"]
    notes = reused_controls.damaged(shared.baseline, lost)
    reused_controls.require(
        shared.baseline, own, [cell.reused for cell in controls], notes
    )
    return notes + [
        f"{cell.name} is not in the baseline and runs here"
        for cell in controls
        if not cell.reused and cell.state not in ("done", DAMAGED)
    ]


def _not_packed(cells: Sequence[Cell]) -> list[str]:
    """A line per corpus that `make data` has yet to pack."""
    places = units.distinct(cell.dataset for cell in cells if cell.state == UNPACKED)
    return [str(MissingDataset(place / MANIFEST)) for place in places]


def _refuse_duplicates(cells: list[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        first = seen.setdefault(cell.hash, cell)
        if first is not cell:
            raise PlanError(
                f"{first.step} and {cell.step} are the same configuration (seed "
                f"{cell.seed}): no difference between them can be measured; `make "
                "check` shows what each step changes"
            )
