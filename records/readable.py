"""Text for streams of narrow encodings: what they lack is written in ASCII.

Importing this registers `ERRORS` with Python's codecs.
"""

import codecs
import re
import unicodedata

ERRORS = "readable"
"""The name of the error handler: open(…, errors=ERRORS)."""

PLAIN = {
    **dict.fromkeys("‐‑‒–—−", "-"),
    **dict.fromkeys("·•∙", "*"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”«»", '"'),
    **{"×": "x", "÷": "/", "±": "+/-", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~"},
    **{"⌊": "floor(", "⌋": ")", "∩": "&"},
    **{"→": "->", "←": "<-", "…": "...", "∞": "inf", "√": "sqrt", "°": " deg "},
    **{"✓": "yes", "✗": "no", "∈": "in", "∫": "integral", "⊙": "*"},
    **{"│": "|", "┃": "|", "█": "#", "▏": "|"},
    **dict.fromkeys("─━═", "-"),
    **{"λ": "lambda", "Σ": "sum"},
}
"""Characters that stand for something with a name in ASCII."""

GREEK = re.compile("GREEK (?:SMALL|CAPITAL) LETTER ([A-Z]+)")


def plain(character: str) -> str:
    """A character in ASCII: ≥ as >=, é as e, ² as ^2, μ as mu; else its number, \\u1234."""
    if character in PLAIN:
        return PLAIN[character]
    decomposed = unicodedata.normalize("NFKD", character)
    if rest := decomposed.encode("ascii", "ignore").decode():
        power = unicodedata.decomposition(character).startswith("<super>")
        return f"^{rest}" if power else rest
    if unicodedata.combining(character):
        return ""
    if greek := GREEK.fullmatch(unicodedata.name(decomposed[0], "")):
        return greek[1].lower()
    return character.encode("ascii", "backslashreplace").decode()


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain, error.object[error.start : error.end])), error.end


codecs.register_error(ERRORS, _handle)
