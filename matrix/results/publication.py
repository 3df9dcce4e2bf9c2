"""What a reader must know of how numbers were made: the facts of a study, in one list.

The report prints them on its first page and `publish-check` in its block; both say where
they read a value.
"""

from typing import Any, Callable, Sequence

from matrix import units
from matrix.results.fairness import ABSENT, optimizer, shown
from matrix.results.run import Run

SYMBOL = "CONFIG_"
MOST = 4
"""Most different values of a fact that are listed."""
Values = Callable[[str], Sequence[Any]]
"""Every run's value of a name: one of recorded.PATHS, or CONFIG_ and a symbol."""

MODEL = (
    (
        "Model",
        "{layers} layers, width {width}, MLP {mlp_dim}, {CONFIG_GPT2_HEADS} heads, "
        "vocabulary {CONFIG_GPT2_VOCAB_SIZE}",
    ),
    ("Parameters", "{parameters}, without embeddings {parameters_no_embedding}"),
    ("Optimizer", "{optimizer}"),
)
"""What was trained: (label, text) with the names of values in braces."""
SETUP = (
    (
        "Tokens",
        "{tokens}, optimizer steps {steps}, budget {budget}, ended by {stopped_by}",
    ),
    (
        "Batch",
        "{effective_batch} sequences (micro-batch {micro_batch} × accumulation "
        "{accumulation} × processes {ranks}), {tokens_per_step} tokens a step",
    ),
    ("Context", "{context} tokens"),
    (
        "Learning rate",
        "{CONFIG_LEARNING_RATE} to {CONFIG_MIN_LEARNING_RATE} (cosine), warm-up steps "
        "{CONFIG_GPT2_WARMUP_STEPS}",
    ),
    (
        "Hyperparameters",
        "β {CONFIG_ADAM_BETA1}, {CONFIG_ADAM_BETA2}, ε {CONFIG_ADAM_EPS}, weight decay "
        "{CONFIG_WEIGHT_DECAY}, gradient clipping {CONFIG_GRAD_CLIP}, dropout "
        "{CONFIG_GPT2_DROPOUT}",
    ),
    ("Compute", "{dtype}, torch.compile {compile}"),
    (
        "Evaluation",
        "windows {eval_windows}, interval in steps {eval_interval}, text {eval_sha256}",
    ),
)
"""How it was trained."""
ORIGIN = (
    ("Hardware", "{device}, driver {driver}, processor {processor}, threads {threads}"),
    ("Software", "torch {torch}, Python {python}"),
    ("Code hash", "{code_hash}"),
)
"""Where it ran."""


def facts(
    values: Values, listed: Sequence[tuple[str, str]] = SETUP + ORIGIN
) -> list[tuple[str, str]]:
    """The facts listed as (label, text). What runs disagree on stands as "a / b"; what no
    run records as "not recorded", also a fact of which nothing is recorded.
    """
    found = []
    for label, text in listed:
        told = _Texts(values)
        whole = text.format_map(told)
        found.append((label, whole if set(told.values()) - {ABSENT} else ABSENT))
    return found


class _Texts(dict[str, str]):
    """The text of a name's values, looked up when a fact asks for it."""

    def __init__(self, values: Values):
        super().__init__()
        self._values = values

    def __missing__(self, name: str) -> str:
        found = units.distinct(_text(value) for value in self._values(name))
        more = len(found) - MOST
        listed = found[:MOST] + ([f"{more} more"] if more > 0 else [])
        self[name] = " / ".join(listed) or ABSENT
        return self[name]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if type(value) is int else shown(value)


def of_runs(runs: Sequence[Run]) -> Values:
    """The values of run directories."""

    def values(name: str) -> list[Any]:
        if name.startswith(SYMBOL):
            symbol = name.removeprefix(SYMBOL)
            return [_configured(run, symbol) for run in runs]
        if name == "optimizer":
            return [" and ".join(optimizer(run)) or None for run in runs]
        return [run.value(name) for run in runs]

    return values


def _configured(run: Run, symbol: str) -> Any:
    """A symbol's value; "inactive" where its configuration has no place for it."""
    value = run.config.get(symbol)
    return "inactive" if value is None and symbol in run.config else value
