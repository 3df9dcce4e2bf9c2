"""What would fail in every cell alike, found before the first one starts.

The settings of a run belong to gpt2/, which this room does not import: the
scripts hand over the function that builds them (`Validate`).
"""

from pathlib import Path
from typing import Any, Callable, Hashable, Mapping, Sequence

from kconf.bind import SettingsError, format_value
from kconf.files import shown
from kconf.overrides import Overrides
from kconf.strict import ConfigError, Finding, Resolved
from matrix import units
from matrix.plan.steps import Step
from matrix.results.run import MIXED
from records.manifest import Manifest, read_manifest

Validate = Callable[[Mapping[str, Any]], Hashable]
"""Builds the settings of one run from symbol values; raises SettingsError."""


class PlanError(Exception):
    """A plan that cannot be made; the message says what to change."""


def refuse_seeds(steps: Sequence[Step], overrides: Overrides) -> None:
    """Raise PlanError for a seed that the plan would silently replace."""
    for step in steps:
        if "SEED" in overrides or "SEED" in step.symbols:
            raise PlanError(f"{step.id}: CONFIG_SEED is set per cell: use CONFIG_SEEDS")


def require_settings(
    validate: Validate, steps: Sequence[tuple[Step, Resolved]], config: Path
) -> None:
    """Every step's settings can be built, and no two are equal.

    Raises ConfigError with each finding where the value was assigned (the
    whole of `config` when it is a combination), and PlanError for two steps
    that only write the same values differently (1e-3 and 0.001).
    """
    findings: list[Finding] = []
    built: dict[Hashable, Step] = {}
    for step, resolved in steps:
        try:
            settings = validate(resolved.values)
            _require_one_text(resolved.values)
        except SettingsError as error:
            finding = _where(error, resolved, config)
            findings += [] if finding in findings else [finding]
            continue
        first = built.setdefault(settings, step)
        if first is not step:
            raise PlanError(
                f"{first.id} and {step.id} are the same configuration, written "
                "differently: no difference between them can be measured; drop one"
            )
    if findings:
        raise ConfigError(findings)


def _require_one_text(values: Mapping[str, Any]) -> None:
    """Raise SettingsError for a metric that would average evaluations of two texts."""
    averaged = values["METRIC_LAST_EVALS"]
    if averaged > 1 and values["GPT2_FINAL_EVAL_WINDOWS"]:
        raise SettingsError("METRIC_LAST_EVALS", averaged, MIXED)


def _where(error: SettingsError, resolved: Resolved, config: Path) -> Finding:
    """The refused value as a finding at the line that assigned it."""
    path, line = resolved.origin.get(error.symbol, (shown(config), 0))
    cause = f"{format_value(error.value)}: {error.why}" if error.symbol else error.why
    return Finding(path, line, error.symbol, cause)


def corpus(dataset: Path, values: Mapping[str, Any]) -> Manifest:
    """The manifest of a packed corpus that the configuration can train on.

    Raises PlanError when a split is shorter than one window; MissingDataset,
    ManifestError.
    """
    manifest, context = read_manifest(dataset), values["GPT2_BLOCK_SIZE"]
    for name, split in manifest.splits.items():
        if split.files and split.tokens < context + 1:
            raise PlanError(
                f"CONFIG_GPT2_BLOCK_SIZE={context}: the {name} split of {dataset} "
                f"holds {units.plural(split.tokens, 'token')}, a window needs "
                f"{context + 1}: lower it, or pack more text (CONFIG_VAL_FRACTION "
                "divides it)"
            )
    return manifest


def changed(base: Resolved, step: Resolved, operational: frozenset[str]) -> list[str]:
    """The identity symbols in which a step differs from its base."""
    return sorted(
        symbol
        for symbol, value in step.values.items()
        if symbol not in operational and value != base.values[symbol]
    )
