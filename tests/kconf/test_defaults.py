"""No default that a .config freezes hangs on another symbol.

A .config holds every visible symbol. Where a default follows another one (a width that
of the size), an override of the other leaves it behind.
"""

import itertools
from typing import Iterator

import kconfiglib as kc
import pytest

from kconf.strict import Tree
from tests.kconf.conftest import ROOT, TOY

MOST_STATES = 5000


def leaning(tree: Tree) -> dict[str, set[str]]:
    """Symbol, or member of a choice -> its defaults in the states in which a person can
    set it, where there are several.

    The states are all values of the bools and choices that its prompt, its defaults,
    `select` and `imply` name, and of those that these hang on; of an int or a string
    two.
    """
    found = {}
    kconfig = tree.kconfig
    items = [s for s in kconfig.unique_defined_syms if not s.choice]
    for item in [*items, *kconfig.unique_choices]:
        if any(node.prompt for node in item.nodes):
            seen = set(defaults(kconfig, item))
            if len(seen) > 1:
                symbol = item.syms[0] if isinstance(item, kc.Choice) else item
                found[symbol.name] = seen
    kconfig.unset_values()
    return found


def defaults(kconfig: kc.Kconfig, item: kc.Symbol | kc.Choice) -> Iterator[str]:
    """What stands where nobody set the item, once per state in which it is visible."""
    moved = levers(item)
    states = list(itertools.product(*map(values, moved)))
    assert len(states) <= MOST_STATES, f"{item.name_and_loc}: {len(states)} states"
    for state in states:
        kconfig.unset_values()
        for symbol, value in state:
            symbol.set_value(value)
        if item.visibility:
            choice = isinstance(item, kc.Choice)
            yield item.selection.name if choice else item.str_value


def levers(item: kc.Symbol | kc.Choice) -> list[kc.Symbol | kc.Choice]:
    """The symbols and choices that decide whether the item can be set, and to what it
    is set where nobody did.
    """
    found, left = [], [item]
    while left:
        one = left.pop()
        for each in named(one):
            each = (isinstance(each, kc.Symbol) and each.choice) or each
            if each not in (item, *found) and each.nodes:
                found.append(each)
                left.append(each)
    return found


def named(item: kc.Symbol | kc.Choice) -> set[kc.Symbol | kc.Choice]:
    """All that an item's Kconfig lines name."""
    parts = [item.direct_dep, *(node.prompt[1] for node in item.nodes if node.prompt)]
    if isinstance(item, kc.Symbol):
        parts += [item.rev_dep, item.weak_rev_dep]
    for value, condition in item.defaults:
        parts += [value, condition] if isinstance(item, kc.Symbol) else [condition]
    members = item.syms if isinstance(item, kc.Choice) else ()
    found = set().union(*map(kc.expr_items, parts), *map(named, members))
    return {each for each in found if each is not item and each not in members}


def values(item: kc.Symbol | kc.Choice) -> list[tuple[kc.Symbol, str]]:
    """The states of a lever: (symbol, value) each."""
    if isinstance(item, kc.Choice):
        return [(member, "y") for member in item.syms]
    if item.orig_type == kc.BOOL:
        return [(item, "n"), (item, "y")]
    if item.orig_type == kc.STRING:
        return [(item, ""), (item, "1")]
    low_high = [(low.str_value, high.str_value) for low, high, _ in item.ranges]
    return [(item, value) for value in (low_high or [("1", "2")])[0]]


def test_no_visible_default_hangs_on_another_symbol():
    assert leaning(Tree(ROOT)) == {}


HANGING = {
    "": {"HIDDEN": {"7", "8"}, "FORCED": {"n", "y"}},
    "config X\n\tint 'X'\n\tdefault WIDTH\n\thelp\n\t  [identity]\n": {
        "X": {"1", "100"}
    },
    "config X\n\tbool 'X'\n\tdefault y if RATE != \"\"\n\thelp\n\t  [identity]\n": {
        "X": {"n", "y"}
    },
    "config X\n\tbool 'X'\n\tdefault y if FLAG\n\thelp\n\t  [identity]\n": {
        "X": {"n", "y"}
    },
    "choice\n\tprompt 'C'\n\tdefault Y if FLAG\n"
    "config X\n\tbool 'X'\n\thelp\n\t  [identity]\n"
    "config Y\n\tbool 'Y'\n\thelp\n\t  [identity]\nendchoice\n": {"X": {"X", "Y"}},
    "config X\n\tbool 'X'\n\timply Y\n\thelp\n\t  [identity]\n"
    "config Y\n\tbool 'Y'\n\thelp\n\t  [identity]\n": {"Y": {"n", "y"}},
    "config X\n\tint 'X' if FLAG\n\tdefault 1 if FLAG\n\tdefault 2\n"
    "\thelp\n\t  [identity]\n": {},
}


@pytest.mark.parametrize("more", HANGING)
def test_each_kind_of_such_a_default_is_found(tmp_path, more):
    (tmp_path / "Kconfig").write_text(TOY + more)
    assert leaning(Tree(tmp_path)) == HANGING[""] | HANGING[more]
