"""One-shot settings from the environment: MAX_ITERS=100 make.

They become the last stage of the strict merge, are recorded with the run and
never touch .config. TABLE is the only place where a variable meets a symbol;
Makefile.variables says which targets take it.
"""

from typing import Container, Mapping

from kconf.syntax import ConfigError, Finding, Line
from records.spelling import closest

# variable -> symbol, or value -> (symbol, raw value)
TABLE: dict[str, str | dict[str, tuple[str, str]]] = {
    "MAX_ITERS": "GPT2_MAX_ITERS",
    "TIME": "GPT2_MAX_TIME",
    "SEEDS": "SEEDS",
    "BASELINE": "BASELINE",
    "STEPS": "RA_MLA_ABLATION_STEPS",
    "AXES": "MATRIX_AXES",
    "ARMS": "MATRIX_ARMS",
    "TRACKER": "TRACKER",
    "OUTPUT": "OUTPUT_DIR",
    "JOBS": "JOBS",
    "METRIC": "METRIC",
    "SMALLEST": "SMALLEST_EFFECT",
    "CONTROL": "CONTROL_STEP",
    "DESIGN": {
        "fixed": ("DESIGN_FIXED", "y"),
        "screen-confirm": ("DESIGN_SCREEN_CONFIRM", "y"),
        "sequential": ("DESIGN_SEQUENTIAL", "y"),
    },
    "STAGE": {
        "screen": ("STAGE_SCREEN", "y"),
        "confirm": ("STAGE_CONFIRM", "y"),
    },
    "DEVICE": {
        "auto": ("DEVICE_AUTO", "y"),
        "cpu": ("DEVICE_CPU", "y"),
        "cuda": ("DEVICE_CUDA", "y"),
    },
    "RETRY_DIVERGED": {
        "1": ("RETRY_DIVERGED", "y"),
        "0": ("RETRY_DIVERGED", "n"),
    },
    "FAIL_FAST": {
        "1": ("FAIL_FAST", "y"),
        "y": ("FAIL_FAST", "y"),
        "0": ("FAIL_FAST", "n"),
        "n": ("FAIL_FAST", "n"),
    },
}
FOREIGN = ("CONFIG_SITE", "CONFIG_SHELL")  # autoconf's and the kernel's, not ours
MEANT = {
    "SEED": "SEEDS",
    "STEP": "STEPS",
    "ARM": "ARMS",
    "AXIS": "AXES",
    "MAX_ITER": "MAX_ITERS",
    "MAX_STEPS": "MAX_ITERS",
    "ITERS": "MAX_ITERS",
    "LR": "CONFIG_LEARNING_RATE",
    "DRYRUN": "DRY_RUN",
    "SMALEST": "SMALLEST",
}
"""What is written for another variable of a plan."""
OTHERS = ("WINDOW",)
"""Symbols whose bare names other programs export: GNU screen's."""
COMMAND_LINE = "COMMAND_LINE_VARIABLES"
"""Names the variables on make's command line (Makefile.variables)."""
TYPED_ONLY = ("TIME",)
"""Read on make's command line alone: in the environment TIME is GNU time's."""


class Overrides(dict[str, str]):
    """Symbol -> raw text (strings without quotes), a stage of the merge.

    label says where they come from; spelled, how a person wrote each one.
    """

    def __init__(
        self,
        values: Mapping[str, str],
        label: str = "override",
        spelled: Mapping[str, str] | None = None,
    ):
        super().__init__(values)
        self.label = label
        self.spelled = dict(spelled or getattr(values, "spelled", {}))

    def lines(self) -> list[Line]:
        """The assignments; a finding shows `MAX_ITERS=5 (environment)`."""
        found = []
        for symbol, raw in self.items():
            written = self.spelled.get(symbol, f"CONFIG_{symbol}={raw}")
            where = f"{written} ({self.label})"
            found.append(Line(where, 0, symbol, raw, plain=True))
        return found


def from_environment(environment: Mapping[str, str]) -> Overrides:
    """The overrides in an environment. CONFIG_X= sets an empty string; an empty
    variable of TABLE is none.

    Raises ConfigError for a value that a variable does not know and for two
    variables that set the same symbol.
    """
    raw: dict[str, str] = {}
    spelled: dict[str, str] = {}
    findings: list[Finding] = []

    def add(symbol: str, value: str, written: str) -> None:
        if symbol in raw:
            cause = f"is already set by {spelled[symbol]}"
            findings.append(Finding(f"{written} (environment)", 0, symbol, cause))
        raw[symbol], spelled[symbol] = value, written

    for variable, value in one_shots(environment):
        written = assignment(variable, value)
        if variable.startswith("CONFIG_"):
            add(variable.removeprefix("CONFIG_"), value, written)
        else:
            target = TABLE[variable]
            if isinstance(target, str):
                add(target, value, written)
            elif value in target:
                add(*target[value], written)
            else:
                cause = f"{value!r} is none of {', '.join(target)}"
                nearest = closest(value, target)
                cause += f"; did you mean {nearest[0]}?" if nearest else ""
                findings.append(Finding(f"{written} (environment)", 0, None, cause))
    if findings:
        raise ConfigError(findings)
    return Overrides(raw, "environment", spelled)


def one_shots(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables that set a symbol once, and their values, sorted by name."""
    typed = on_command_line(environment)
    return [
        (name, value)
        for name, value in sorted(environment.items())
        if (name.startswith("CONFIG_") and name not in FOREIGN)
        or (name in TABLE and value and (name not in TYPED_ONLY or name in typed))
    ]


def on_command_line(environment: Mapping[str, str]) -> frozenset[str]:
    """The variables that were given on make's command line, not exported."""
    return frozenset(environment.get(COMMAND_LINE, "").split())


def unread(environment: Mapping[str, str]) -> list[str]:
    """A line for a variable that looks like a one-shot where none is read."""
    typed = on_command_line(environment)
    return [
        f"{name}={environment[name]} in the environment is not read: "
        f"make {name}={environment[name]}"
        for name in TYPED_ONLY
        if name not in typed and environment.get(name, "").isdecimal()
    ]


def refuse_bare(environment: Mapping[str, str], identity: Container[str]) -> None:
    """Raise ConfigError for variables that are identity symbols without CONFIG_."""
    known = {*TABLE, *MEANT, *OTHERS}
    findings = [
        Finding(assignment(name, value), 0, None, f"write CONFIG_{name}=, or unset it")
        for name, value in sorted(environment.items())
        if value and name in identity and name not in known
    ]
    if findings:
        raise ConfigError(findings)


def assignment(variable: str, value: str) -> str:
    """NAME=value in one line."""
    return f"{variable}={value if value.isprintable() else repr(value)}"
