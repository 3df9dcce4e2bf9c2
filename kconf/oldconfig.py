"""make oldconfig: ask for each symbol that a .config does not know yet."""

from typing import Callable

from kconf.bind import format_value
from kconf.strict import DotConfig, Resolved, Tree
from kconf.syntax import ConfigError, Finding, Line, render_line


def ask_new(
    tree: Tree,
    dotconfig: DotConfig,
    ask: Callable[[str], str],
    tell: Callable[[str], None],
) -> Resolved:
    """The .config with an answer for every new symbol; "" takes the default.

    Lines that no longer hold are dropped and told. Raises ConfigError for a
    malformed line, and when `ask` raises EOFError.
    """
    resolved, dropped, added = tree.settle(dotconfig)
    for finding in dropped:
        tell(f"dropped {finding}")
    while added:
        kept = list(resolved.stages[0])
        answer = _answer(tree, resolved, added[0], ask)
        given = {line.symbol for line in answer}
        lines = [line for line in kept if line.symbol not in given] + answer
        try:
            resolved, dropped, added = tree.settle(lines)
        except ConfigError as error:
            tell(str(error))
            continue
        for finding in dropped:
            tell(f"dropped {finding}")
    return resolved


def _answer(
    tree: Tree, resolved: Resolved, symbol: str, ask: Callable[[str], str]
) -> list[Line]:
    """The lines of one answer: a choice's visible members, or the symbol."""
    members = [s for s in tree.siblings(symbol) if s in resolved.visible]
    if members:
        value = next(member for member in members if resolved.values[member])
        title = f"{tree.choice_name(symbol)}: {', '.join(members)}"
    else:
        value = format_value(resolved.written[symbol])
        title = f"{tree.prompt(symbol)} (CONFIG_{symbol})"
    try:
        text = ask(f"{title} [{value}]: ").strip()
    except EOFError:
        cause = "is new and has no answer: run make olddefconfig to take the defaults"
        raise ConfigError([Finding("oldconfig", 0, symbol, cause)]) from None
    if members:
        chosen = (text or value).removeprefix("CONFIG_")
        rows = [(m, "y" if m == chosen else None) for m in members]
        if chosen not in members:
            rows = [(chosen, "y")]  # refused by the merge, with the nearest name
        return [Line("answer", 0, name, raw, plain=True) for name, raw in rows]
    if not text:
        _, equals, raw = render_line(symbol, resolved.written[symbol]).partition("=")
        return [Line("answer", 0, symbol, raw if equals else None)]
    return [Line("answer", 0, symbol, text, plain=True)]
