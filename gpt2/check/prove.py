"""What is proven of one step, in this order; the first broken promise ends it."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from gpt2.check.proofs import (
    causality,
    chunks,
    claims,
    decoding,
    distinct,
    documents,
    dropout,
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
from gpt2.check.proofs.sparse import blocks, choice, dense, gate, phi, reads
from gpt2.check.subject import Broken, Subject
from gpt2.check.table import Verdict
from gpt2.model.costs import count, meta_model
from gpt2.training.memory import memory_estimate
from kconf.bind import SettingsError
from kconf.syntax import ConfigError

Proofs = tuple[tuple[str, Callable[[Subject], None]], ...]

# Of the shape of its network; of what the step claims; of its network, whatever
# trains it; of its training.
SHAPE: Proofs = (("built as configured", claims.built_as_configured),)
CLAIMS: Proofs = (("expectations", claims.expectations),)
NETWORK: Proofs = (
    ("initial values", initial.initial_values),
    ("first loss", learning.first_loss),
    ("gradients", learning.gradients),
    ("causality", causality.causality),
    ("reach", causality.reach),
    ("longer context", causality.longer_context),
    ("no state", state.no_state),
    ("probabilities", probabilities.probabilities),
    ("decoding", decoding.decoding),
    ("any chunk", chunks.any_chunk),
    ("reads", reads.reads),
    ("choice", choice.choice),
    ("gate of branches", gate.gate),
    ("blocks begin as means", phi.phi),
    ("formulas", formulas.formulas),
    ("dropout", dropout.dropout),
    ("documents apart", documents.documents),
    ("dense where all is read", dense.dense),
    ("longer blocks", blocks.longer_blocks),
    ("bf16", numerics.bf16),
    ("one graph", numerics.one_graph),
)
TRAINING: Proofs = (
    ("optimizer as configured", learning.optimizer_as_configured),
    ("update and decay", learning.update),
    ("moments", moments.moments),
    ("repeated batch", learning.repeated_batch),
    ("save and resume", saving.save_and_resume),
    ("reaches its sparsity", pruning.reaches_its_sparsity),
)
COUNTS = ("parameters", "attn_mlp_ratio", "flops_per_token", "cache_per_token")
PROOFS = SHAPE + CLAIMS + NETWORK + TRAINING

# What a proof may meet in a broken model. Each is a broken promise, recorded
# with its traceback; anything else ends the check and says at which promise.
FAULTS = (
    Broken,
    ConfigError,
    SettingsError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


@dataclass
class Case:
    """A step under check. subject: None where the configuration itself is at
    fault; function: what identifies its logits, initial: its initial values, once
    the network is proven. network: what the cases that train it agree in; twin: an
    earlier case with the same network, by index.
    """

    verdict: Verdict
    subject: Subject | None = None
    function: str | None = None
    initial: dict[tuple, str] = field(default_factory=dict)
    network: tuple | None = None
    twin: int | None = None

    @property
    def sound(self) -> bool:
        """Whether no promise has been found broken so far."""
        return self.verdict.promise is None

    @property
    def leads(self) -> bool:
        """Whether its network is proven here and not at its twin."""
        return self.verdict.network_of is None


def prove(case: Case) -> None:
    """The costs of the step, then every proof in turn, into its verdict; those of
    the network are left to its twin.
    """
    verdict, subject = case.verdict, case.subject
    with Recorded(verdict, "full-size model"):
        micro = verdict.micro_batch = subject.settings.train.micro_batch or 1
        verdict.memory_bytes = memory_estimate(subject.settings, micro)
        if case.twin is None:
            _count(case)
        _run(case, CLAIMS)
        if case.twin is None:
            _prove_network(case)
        _run(case, TRAINING)


def find_network(case: Case) -> None:
    """Same settings, same small model, same compute type, same initial values: the
    same network.
    """
    case.verdict.promise = "small model"
    settings, small = case.subject.settings, case.subject.small.model
    salt = settings.train.init_salt
    case.network = (settings.model, small, settings.system.dtype, salt)


def find_twins(cases: list[Case]) -> None:
    """A network that several cases train is proven once."""
    first: dict[tuple, int] = {}
    for index, case in enumerate(cases):
        leader = first.setdefault(case.network, index)
        case.twin = None if leader == index else leader


def inherit(cases: list[Case]) -> None:
    """What was proven of a twin's network holds here. Where the twin has a broken
    promise, the network is proven here as well.
    """
    for case in cases:
        if case.twin is None or not case.sound:
            continue
        twin, names = cases[case.twin], [name for name, _ in SHAPE + NETWORK]
        if not twin.sound:
            with Recorded(case.verdict, "full-size model"):
                _count(case)
                _prove_network(case)
            continue
        case.function, case.initial = twin.function, twin.initial
        case.verdict.proofs += names
        for count_of in COUNTS:
            setattr(case.verdict, count_of, getattr(twin.verdict, count_of))
        case.verdict.network_of = f"{twin.verdict.study} {twin.verdict.step}"


def _prove_network(case: Case) -> None:
    _run(case, NETWORK)
    case.function = distinct.fingerprint(case.subject)
    case.initial = initial.digests(case.subject)


def _run(case: Case, proofs: Proofs) -> None:
    for name, proof in proofs:
        case.verdict.promise = name
        proof(case.subject)
        case.verdict.proofs.append(name)


def _count(case: Case) -> None:
    """What the network costs, and that it is the one asked for."""
    verdict = case.verdict
    facts = count(meta_model(case.subject.settings.model))
    verdict.parameters = facts.parameters
    verdict.attn_mlp_ratio = facts.attn_mlp_ratio
    verdict.flops_per_token = facts.flops_per_token
    verdict.cache_per_token = facts.cache_per_token
    _run(case, SHAPE)


class Recorded:
    """Times a step under the promise it begins with; a fault leaves the promise of
    then broken in the verdict, without one none is.
    """

    def __init__(self, verdict: Verdict, promise: str):
        self.verdict, self.promise = verdict, promise

    def __enter__(self) -> None:
        self.verdict.promise = self.promise
        self.began = time.monotonic()

    def __exit__(self, kind, error, trace) -> bool:
        verdict = self.verdict
        verdict.seconds += time.monotonic() - self.began
        if error is None:
            verdict.promise = None
            return False
        if not isinstance(error, FAULTS):
            error.add_note(f"at {verdict.study} {verdict.step}: {verdict.promise}")
            return False
        named = isinstance(error, (Broken, ConfigError, SettingsError))
        verdict.found = str(error) if named else f"{kind.__name__}: {error}"
        if not named:
            verdict.trace = "".join(traceback.format_tb(trace)[-3:])
        return True
