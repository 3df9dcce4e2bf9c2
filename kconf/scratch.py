"""The values a person set, in kconfiglib's tree, and how to take them back.

Merging over one .config again and again, as the arms of a test matrix do, would
set its hundred lines anew each time. Here they are kept: what a merge set after
them is remembered with what was there before.
"""

from typing import Any

import kconfiglib as kc


class Scratch:
    """A kconfiglib tree whose later values can be taken back."""

    def __init__(self, kconfig: kc.Kconfig):
        self.kconfig = kconfig
        self._stage: object = None
        self._live: dict[str, Any] = {}
        self._values: dict[kc.Symbol, Any] = {}
        self._selections: dict[kc.Choice, kc.Symbol | None] = {}

    def clear(self) -> None:
        """No value is set, nothing is kept."""
        self.kconfig.unset_values()
        self._stage, self._live = None, {}
        self._forget()

    def keep(self, stage: object, live: dict[str, Any]) -> None:
        """Keep what is set now as that of `stage`, an object, with its lines."""
        self._stage, self._live = stage, dict(live)
        self._forget()

    def holds(self, stage: object) -> bool:
        """Whether it is this very stage whose values are kept."""
        return stage is self._stage and stage is not None

    def take_back(self) -> dict[str, Any]:
        """The values as they were kept, and the lines kept with them."""
        for symbol, value in self._values.items():
            symbol.unset_value()
            if value is not None:
                symbol.set_value(value)
        for choice, selected in self._selections.items():
            choice.unset_value()
            if selected is not None:
                selected.set_value(2)
        self._forget()
        return dict(self._live)

    def set(self, symbol: kc.Symbol, text: str) -> bool:
        """Set a value; False when kconfiglib does not take it."""
        self._values.setdefault(symbol, symbol.user_value)
        if symbol.choice:
            self._selections.setdefault(symbol.choice, symbol.choice.user_selection)
        return symbol.set_value(text)

    def _forget(self) -> None:
        self._values, self._selections = {}, {}
