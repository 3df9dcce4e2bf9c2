"""Symbols that are younger than runs that are kept, and what was done before them.

ADDED holds, for each of them, the value that means what a run did without it. Whoever
adds a symbol to gpt2/ adds its line here in the same commit, for every member of a
choice:

    "MIXER_ATTENTION": True,
    "MIXER_GDN": False,
    "MIXER_LAYERS": "",
    "GDN_HEADS": None,

None: there is no such value, the symbol was not active. One that is not active now
(None among a run's values) always stands for what was done before it.

Such a symbol is left out of the identity (kconf/config_py.py), so that a study that
was finished before it stays finished, and a run that does not know it is read as if it
held the value here. Without its line every former run is another cell, and what reads
its settings refuses it; a line that comes after its symbol makes other cells of those
in between. Lines stay, for records of any age are read.
"""

from collections.abc import Mapping

Value = bool | int | str | None
ADDED: dict[str, Value] = {
    "ATTENTION_IMPL_FLEX": False,
    "DATASET_RECALL": False,
    "DOCUMENTS_APART": False,
    "GLA_RANK": None,
    "GPT2_COMPILE_BLOCKS": False,
    "GPT2_FINAL_EVAL_WINDOWS": 0,
    "LENGTH_DIVISOR": 1,
    "LOCAL_FILES": "",
    "LOCAL_SHUFFLE": False,
    "MAMBA2_STATE": None,
    "MIXER_ATTENTION": True,
    "MIXER_DELTANET": False,
    "MIXER_GDN": False,
    "MIXER_GLA": False,
    "MIXER_IMPL_AUTO": True,
    "MIXER_IMPL_FLA": False,
    "MIXER_IMPL_REFERENCE": False,
    "MIXER_IMPL_TRITON": False,
    "MIXER_LAYERS": "",
    "MIXER_LINEAR": False,
    "MIXER_MAMBA2": False,
    "MIXER_NSA": False,
    "MIXER_RETNET": False,
    "NSA_BLOCK": None,
    "NSA_BRANCHES_CMP": False,
    "NSA_BRANCHES_CMP_SEL": False,
    "NSA_BRANCHES_CMP_SEL_WIN": False,
    "NSA_BRANCHES_CMP_WIN": False,
    "NSA_BRANCHES_SEL": False,
    "NSA_BRANCHES_SEL_WIN": False,
    "NSA_BRANCHES_WIN": False,
    "NSA_CHOICE_PER_HEAD": False,
    "NSA_FORCED_BLOCKS": False,
    "NSA_FORCE_BRANCH_CMP": False,
    "NSA_FORCE_BRANCH_NONE": False,
    "NSA_FORCE_BRANCH_SEL": False,
    "NSA_FORCE_BRANCH_WIN": False,
    "NSA_GATE_FIXED": False,
    "NSA_GATE_SIGMOID": False,
    "NSA_GATE_SOFTMAX": False,
    "NSA_LENGTH": None,
    "NSA_PHI_CONV": False,
    "NSA_PHI_MEAN": False,
    "NSA_PHI_MLP": False,
    "NSA_PHI_RANK": None,
    "NSA_PHI_ROPE_AFTER": False,
    "NSA_PHI_ROPE_AUTO": False,
    "NSA_PHI_ROPE_NONE": False,
    "NSA_SHARED_KV": False,
    "NSA_STRIDE": None,
    "NSA_TOP": None,
    "NSA_WINDOW": None,
    "POSITION_NONE": False,
    "RECALL_KEYS": None,
    "RECALL_LENGTH": None,
    "RECALL_PAIRS": None,
    "RECALL_ROWS": None,
    "RECALL_SEED": None,
    "RECALL_VALUES": None,
}


def as_before(values: Mapping[str, Value]) -> frozenset[str]:
    """The symbols among `values` that stand for what was done before them."""
    return frozenset(
        symbol
        for symbol, former in ADDED.items()
        if symbol in values and _stands_for(values[symbol], former)
    )


def completed(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values of a run of any age, with those of symbols that it did not know."""
    return {**ADDED, **values}


def differing(one: Mapping[str, Value], other: Mapping[str, Value]) -> list[str]:
    """The symbols in which the values of two runs of any age mean something else."""
    a, b = ({**values, **_former(values)} for values in (one, other))
    return sorted(
        symbol
        for symbol in a.keys() | b.keys()
        if symbol not in a or symbol not in b or not _same(a[symbol], b[symbol])
    )


def _former(values: Mapping[str, Value]) -> dict[str, Value]:
    """The former value of each symbol that `values` lack or that stands for it."""
    return {
        symbol: former
        for symbol, former in ADDED.items()
        if symbol not in values or _stands_for(values[symbol], former)
    }


def _stands_for(value: Value, former: Value) -> bool:
    return value is None or _same(value, former)


def _same(one: Value, other: Value) -> bool:
    """Equal and of one type: 1 is not True."""
    return type(one) is type(other) and one == other
