"""The sizes of a ladder: the study's configuration with every width divided.

A size is a configuration file of its own, OUTPUT_DIR/STUDY.ladder-4/ladder.config: the
study's .config and these lines. So each is a study like any other, and
`KCONFIG_CONFIG=results/STUDY.ladder-4/ladder.config make verdict` judges it.

Dividing the width alone would change what is compared: fragments fix absolute sizes,
and attention:MLP would be 1:6, 1:4, 1:3 at a quarter, a half and the whole of 768 where
the MLP stays 2304 wide. CONFIG_WIDTH_DIVISOR divides all of them, in base and fragments
alike; here the heads are divided with it, so that their width stays. Whatever a size is
made of, its ratios are held against the study's, step by step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from kconf import config_py
from kconf.bind import SettingsError
from kconf.dotconfig import render
from kconf.overrides import from_environment
from kconf.presets import presets
from kconf.strict import Resolved, Stage, Tree
from kconf.syntax import Line, quote
from matrix.plan.cells import Cell, Plan, base_stages
from matrix.plan.checks import PlanError
from matrix.plan.model_facts import Facts
from matrix.settings import LADDER, StudySettings, study_settings
from records import atomic

WHOLE = "1"
DIVIDED = (
    *("GPT2_WIDTH", "MLP_DIM", "MLA_LATENT"),
    *("MLP_ATTN_GATE_RANK", "MLP_CROSS_TOKEN_RANK", "NSA_PHI_RANK"),
    *("GLA_RANK", "MAMBA2_STATE"),
)
"""Widths, in base and fragments: what CONFIG_WIDTH_DIVISOR divides."""
COUNTS = ("GPT2_HEADS", "KV_HEADS")
"""Heads: divided in the base, refused in a fragment."""
KEPT = {
    "GPT2_LAYERS": "depth stays",
    "GPT2_BLOCK_SIZE": "the text",
    "GPT2_VOCAB_SIZE": "the text",
    "RA_BAND": "positions",
    "WINDOW": "positions",
    "RA_CT_K": "positions",
    "MLP_CROSS_TOKEN_K": "positions",
    "NSA_LENGTH": "positions",
    "NSA_STRIDE": "positions",
    "NSA_BLOCK": "positions",
    "NSA_TOP": "positions",
    "NSA_WINDOW": "positions",
    "LENGTH_DIVISOR": "positions",
    "WIDTH_DIVISOR": "set by the ladder",
}
"""What stays at every size, and why. A test finds symbols that are in none of these."""
TOLERANCE = 0.01
"""How far a ratio may be from the study's, as a share of it: vectors and scalars by
head do not scale as matrices do. A width that stays is off by a factor of the divisor."""
RATIOS = ("attn_mlp_ratio", "network_ratio")
CONFIG = "ladder.config"


@dataclass(frozen=True)
class Rung:
    """A size: its name in CONFIG_LADDER, where it lies, and its .config.

    The whole size is the study itself: `config` is the study's own.
    """

    name: str
    study_dir: Path
    config: Path

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The environment under which a plan is this size's."""
        return {**given, "KCONFIG_CONFIG": str(self.config)}


def rungs(root: Path, environment: Mapping[str, str]) -> list[Rung]:
    """Every size of CONFIG_LADDER, its configuration written, in the order listed.

    Raises PlanError and SettingsError for a size that cannot be, kconf's ConfigError
    for lines that do not hold.
    """
    tree, overrides = Tree(root), from_environment(environment)
    base = base_stages(root, environment)
    plain = tree.resolve(base)
    settings = study_settings(tree.resolve([*base, overrides]).values)
    if settings.part:
        raise PlanError(
            f"{base[0].path} is a part of a study: make ladder starts at it"
        )
    found = []
    for name in _names(settings):
        study_dir = root / settings.output / settings.label
        if name == WHOLE:
            found.append(Rung(name, study_dir, base[0].path))
            continue
        stages = _stages(tree, root, name, plain, settings)
        resolved = tree.resolve([*base, *stages])
        if name.isdecimal():
            _refuse_overridden(name, resolved, plain, overrides)
        study_dir = study_dir.with_name(f"{study_dir.name}.{LADDER}{name}")
        found.append(Rung(name, study_dir, study_dir / CONFIG))
        _write(found[-1].config, tree, resolved)
    return found


def _names(settings: StudySettings) -> list[str]:
    if not settings.ladder.isascii():
        why = "holds other characters than those of numbers and names of fragments"
        raise SettingsError("LADDER", settings.ladder, why)
    written = [WHOLE if name == "." else name for name in settings.ladder.split()]
    names = [str(int(name)) if name.isdecimal() else name for name in written]
    if len(names) < 2 or len(set(names)) < len(names):
        why = 'names no two different sizes, blanks between them, like "4 2 1"'
        raise SettingsError("LADDER", settings.ladder, why)
    return names


def _stages(
    tree: Tree, root: Path, name: str, plain: Resolved, settings: StudySettings
) -> list[Stage]:
    """What makes the size: computed lines of a divisor, or a fragment."""
    part = Line("CONFIG_LADDER", 0, "STUDY_PART", quote(f"{LADDER}{name}"))
    if name.isdecimal():
        return [(*_divided(int(name), plain.values, settings), part)]
    fragments = presets(root)[1]
    if name not in fragments:
        why = f"{name!r} is neither a number nor one of {', '.join(fragments)}"
        raise SettingsError("LADDER", settings.ladder, why)
    return [fragments[name], (part,)]


def _divided(
    divisor: int, values: Mapping[str, Any], settings: StudySettings
) -> list[Line]:
    """Heads divided and the divisor multiplied; the shape written as it is, which a
    named size (CONFIG_GPT2_SIZE_124M) does not allow otherwise.
    """
    wanted: dict[str, str] = {"GPT2_SIZE_CUSTOM": "y"}
    wanted |= {name: str(values[name]) for name in ("GPT2_LAYERS", "GPT2_WIDTH")}
    for name in COUNTS:
        if values[name] is None:
            continue
        if divisor < 1 or values[name] % divisor:
            why = f"CONFIG_{name}={values[name]} is no multiple of {divisor}"
            raise SettingsError("LADDER", settings.ladder, why)
        wanted[name] = str(values[name] // divisor)
    wanted["WIDTH_DIVISOR"] = str(values["WIDTH_DIVISOR"] * divisor)
    return [Line("CONFIG_LADDER", 0, name, raw) for name, raw in wanted.items()]


def _refuse_overridden(
    name: str,
    resolved: Resolved,
    plain: Resolved,
    overrides: Mapping[str, str],
) -> None:
    """Raise PlanError for a one-shot override of what makes the size."""
    for symbol in overrides:
        if resolved.values[symbol] != plain.values[symbol]:
            raise PlanError(f"CONFIG_{symbol} makes the size {name}: no override of it")


def _write(path: Path, tree: Tree, resolved: Resolved) -> None:
    """The .config of a size, and its python file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, render(tree, resolved))
    python = path.with_name(f"{path.name}.py")
    config_py.write(python, resolved.values, tree.operational)


# -- ratios -------------------------------------------------------------------


def refuse_heads(plan: Plan) -> None:
    """Raise PlanError where a step of a divided size sets its own count of heads: a
    fragment's number is not divided with the base's.
    """
    part = plan.settings.part.removeprefix(LADDER)
    for cell in [*plan.reference, *plan.cells] if part.isdecimal() else ():
        names = set(cell.changes) & {*COUNTS, "WIDTH_DIVISOR"}
        fixed = sorted(name for name in names if cell.values[name] is not None)
        if fixed:
            raise PlanError(
                f"{cell.step} has its own CONFIG_{fixed[0]}, which a ladder by divisors divides "
                "in the base alone: name overlays in CONFIG_LADDER"
            )


def by_step(plan: Plan) -> dict[str, Cell]:
    """A cell of every step, the control's and those it is compared with included."""
    return {cell.step: cell for cell in [*plan.reference, *plan.cells]}


def require_ratios(
    whole: Mapping[str, Facts], rung: str, there: Mapping[str, Facts]
) -> None:
    """Raise PlanError unless every step has the ratio of attention to MLP parameters
    that it has at the study's own size, to TOLERANCE. Facts are by step.
    """
    wrong = []
    for step, facts in there.items():
        for name in RATIOS:
            full, here = whole[step].get(name), facts.get(name)
            if (full is None) != (here is None):
                wrong.append(f"{step}: {name} is {here}, in the study {full}")
            elif full is not None and abs(here - full) > TOLERANCE * abs(full):
                wrong.append(
                    f"{step}: {name} is 1:{here:.3f}, in the study 1:{full:.3f}"
                )
    if wrong:
        raise PlanError(
            f"the size {rung} is another study: {'; '.join(wrong)}. Fixed widths stay "
            "where only others are divided: CONFIG_WIDTH_DIVISOR divides all"
        )
