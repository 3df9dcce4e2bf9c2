"""W&B's own variables, honoured as W&B does: WANDB_MODE, WANDB_DISABLED, WANDB_PROJECT,
WANDB_ENTITY.

One of them beats .config. CONFIG_WANDB_MODE= and its like, given to the same command,
beat the variable. Either is said in a line, and a mirror's note records what it was
decided by.
"""

from dataclasses import dataclass, replace
from typing import Mapping

from matrix.settings import StudySettings
from matrix.trackers.target import Target, TrackerError
from records.files import shown

MODE, DISABLED = "WANDB_MODE", "WANDB_DISABLED"
PROJECT, ENTITY = "WANDB_PROJECT", "WANDB_ENTITY"
NAMES = (MODE, DISABLED, PROJECT, ENTITY)
ONLINE, OFFLINE, OFF = "online", "offline", "disabled"
MODES = {
    **{mode: mode for mode in (ONLINE, OFFLINE, OFF)},
    **{"run": ONLINE, "dryrun": OFFLINE},
}
"""What WANDB_MODE may say, W&B's former names among them, and what it means."""
YES, NO = ("1", "true", "yes", "on", "y", "t"), (
    "",
    "0",
    "false",
    "no",
    "off",
    "n",
    "f",
)


@dataclass(frozen=True)
class Decided:
    """Where W&B files the runs, None where it gets none of them; and what a person
    must hear of it.
    """

    target: Target | None
    notes: tuple[str, ...]


def decide(settings: StudySettings, environment: Mapping[str, str]) -> Decided:
    """The configured target under the variables.

    Raises TrackerError for a WANDB_MODE or WANDB_DISABLED that W&B does not know.
    """
    target = Target(
        "wandb", settings.tracker_project, settings.wandb_entity, settings.wandb_mode
    )
    notes: list[str] = []
    if "CONFIG_WANDB_MODE" in environment:
        for word in _other_modes(environment, target.mode):
            notes.append(f"wandb: CONFIG_WANDB_MODE={target.mode} beats {word}")
    else:
        variable, mode = variable_mode(environment)
        if mode == OFF:
            return Decided(None, (f"wandb: no mirror, as {variable}",))
        target = _under(target, "mode", "WANDB_MODE", mode, variable, notes)
    for field, symbol, name in (
        ("project", "TRACKER_PROJECT", PROJECT),
        ("entity", "WANDB_ENTITY", ENTITY),
    ):
        value, word = environment.get(name, ""), _written(environment, name)
        if f"CONFIG_{symbol}" not in environment:
            target = _under(target, field, symbol, value, word, notes)
        elif value not in ("", getattr(target, field)):
            own = shown(getattr(target, field))
            notes.append(f"wandb: CONFIG_{symbol}={own} beats {word}")
    return Decided(target, tuple(notes))


def _under(
    target: Target, field: str, symbol: str, value: str, word: str, notes: list[str]
) -> Target:
    """The target with what a variable says, "" for nothing; said where it differs."""
    if not value:
        return target
    configured = getattr(target, field)
    if value != configured:
        former = shown(configured) or '""'
        notes.append(f"wandb: {field} by {word}, not CONFIG_{symbol}={former}")
    return replace(target, **{field: value}, by={**target.by, field: word})


def variable_mode(environment: Mapping[str, str]) -> tuple[str, str]:
    """(the variable that decides, as NAME=value; the mode that it means, "" where none
    says anything). WANDB_DISABLED comes first.

    Raises TrackerError for a value that W&B does not know.
    """
    switch, mode = environment.get(DISABLED, ""), environment.get(MODE, "")
    if switch.lower() in YES:
        return _written(environment, DISABLED), OFF
    if switch.lower() not in NO:
        why = "set it to true or false, or unset it"
        raise TrackerError(f"{_written(environment, DISABLED)}: {why}")
    if mode and mode not in MODES:
        raise TrackerError(
            f"{_written(environment, MODE)}: is none of {', '.join(MODES)}: unset it, "
            "or give CONFIG_WANDB_MODE=, which beats it"
        )
    return _written(environment, MODE), MODES.get(mode, "")


def _other_modes(environment: Mapping[str, str], mode: str) -> list[str]:
    """The variables that ask for another mode, as NAME=value."""
    asked = [DISABLED] if environment.get(DISABLED, "").lower() not in NO else []
    value = environment.get(MODE, "")
    asked += [MODE] if value and MODES.get(value) != mode else []
    return [_written(environment, name) for name in asked]


def _written(environment: Mapping[str, str], name: str) -> str:
    return shown(f"{name}={environment.get(name, '')}")


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process to which W&B's settings are given in words."""
    return {name: value for name, value in environment.items() if name not in NAMES}
