"""What is proven of one step, in this order; the first broken promise ends it."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from gpt2.accounting import count, memory_estimate, meta_model
from gpt2.check import (
    causality,
    claims,
    decoding,
    distinct,
    formulas,
    initial,
    learning,
    moments,
    numerics,
    probabilities,
    pruning,
    saving,
    state,
)
from gpt2.check.subject import Broken, Subject
from gpt2.check.table import Verdict
from kconf.bind import SettingsError
from kconf.syntax import ConfigError

PROOFS: tuple[tuple[str, Callable[[Subject], None]], ...] = (
    ("built as configured", claims.built_as_configured),
    ("expectations", claims.expectations),
    ("initial values", initial.initial_values),
    ("first loss", learning.first_loss),
    ("gradients", learning.gradients),
    ("causality", causality.causality),
    ("reach", causality.reach),
    ("longer context", causality.longer_context),
    ("no state", state.no_state),
    ("dropout rests", state.dropout_rests),
    ("probabilities", probabilities.probabilities),
    ("decoding", decoding.decoding),
    ("formulas", formulas.formulas),
    ("optimizer as configured", learning.optimizer_as_configured),
    ("update and decay", learning.update),
    ("moments", moments.moments),
    ("repeated batch", learning.repeated_batch),
    ("save and resume", saving.save_and_resume),
    ("reaches its sparsity", pruning.reaches_its_sparsity),
    ("bf16", numerics.bf16),
    ("one graph", numerics.one_graph),
)

# What a proof may meet in a broken model. Each is a broken promise, recorded
# with its traceback; anything else ends the check.
FAULTS = (
    Broken,
    ConfigError,
    SettingsError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class Case:
    """A step under check. subject: None where the configuration itself is at
    fault; function: what identifies its logits, initial: its initial values, once
    everything else holds.
    """

    verdict: Verdict
    subject: Subject | None = None
    function: str | None = None
    initial: dict[tuple, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether no promise has been found broken so far."""
        return self.verdict.promise is None


def prove(case: Case) -> None:
    """The costs of the step, then every proof in turn, into its verdict."""
    verdict, subject = case.verdict, case.subject
    with Recorded(verdict):
        verdict.promise = "full-size model"
        _costs(verdict, subject)
        for name, proof in PROOFS:
            verdict.promise = name
            proof(subject)
            verdict.proofs.append(name)
        case.function = distinct.fingerprint(subject)
        case.initial = initial.digests(subject)
        verdict.promise = None


def _costs(verdict: Verdict, subject: Subject) -> None:
    facts = count(meta_model(subject.settings.model))
    micro = subject.settings.train.micro_batch or 1
    verdict.parameters = facts.parameters
    verdict.attn_mlp_ratio = facts.attn_mlp_ratio
    verdict.flops_per_token = facts.flops_per_token
    verdict.cache_per_token = facts.cache_per_token_layer * facts.layers
    verdict.micro_batch = micro
    verdict.memory_bytes = memory_estimate(subject.settings, micro)


class Recorded:
    """Times a step and turns a fault into the verdict's broken promise."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, kind, error, trace) -> bool:
        self.verdict.seconds += time.monotonic() - self.began
        if error is None or not isinstance(error, FAULTS):
            return False
        named = isinstance(error, (Broken, ConfigError, SettingsError))
        self.verdict.found = str(error) if named else f"{kind.__name__}: {error}"
        if not named:
            self.verdict.trace = "".join(traceback.format_tb(trace)[-3:])
        return True
