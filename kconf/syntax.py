"""The lines of a defconfig, a fragment or a .config, read without tolerance.

A line is blank, a comment, `CONFIG_X=value` or `# CONFIG_X is not set`; any
other line, and any line that is almost one of these, gets a cause. Whether a
symbol exists and whether its value takes is kconf/strict.py's business.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kconf.files import shown

_ASSIGN = re.compile(r"CONFIG_(\w+)=(.*)", re.ASCII)
_UNSET = re.compile(r"# CONFIG_(\w+) is not set", re.ASCII)
_NOT_SET = r"(?:\s*=\s*\w*)?\s*(?:(?:is\s*|:\s*)?(?:not[\s-]*|un-?)|isn'?t\s*)set\b"
_NEARLY_UNSET = [
    re.compile(rf"#[#\s]*CONFIG[_\s-](\w+)\b{_NOT_SET}", re.I),
    re.compile(r"#[#\s]*([A-Z][A-Z0-9_]+)\s+is\s+not\s+set\W*$"),
]
_QUOTED = r'"(?:\\.|[^"\\])*"'
_INLINE_COMMENT = re.compile(rf'(?:{_QUOTED}|[^"#]*?)\s*#')
_LONGEST_INT = 18  # digits; fits 64 bits


@dataclass(frozen=True)
class Finding:
    """One complaint about a configuration; line 0 is the file as a whole.

    clash: the value is refused for what else is set (a dependency, a choice),
    not for what it is.
    """

    path: str
    line: int
    symbol: str | None
    cause: str
    clash: bool = False

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        name = f" CONFIG_{self.symbol}:" if self.symbol else ""
        return f"{where}:{name} {self.cause}"


class ConfigError(Exception):
    """A configuration that is refused; `findings` holds every reason."""

    def __init__(self, findings: list[Finding]):
        self.findings = list(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


@dataclass(frozen=True)
class Line:
    """One assignment, or a line that failed to be one.

    raw is the text after `=`, None for `is not set`. cause is None unless the
    line is malformed. plain marks a value from outside a file (an override),
    whose strings carry no quotes. number 0 is no line of a file.
    """

    path: str
    number: int
    symbol: str | None
    raw: str | None
    cause: str | None = None
    plain: bool = False

    def finding(self, cause: str, clash: bool = False) -> Finding:
        """A complaint about this line."""
        return Finding(self.path, self.number, self.symbol, cause, clash)

    def __str__(self) -> str:
        if self.raw is None:
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.raw}"


def parse_file(path: Path) -> list[Line]:
    """Every assignment and every malformed line, in order.

    Raises ConfigError when the file cannot be read.
    """
    name = shown(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([Finding(name, 0, None, error.strerror or str(error))])
    lines: list[Line] = []
    first: dict[str, int] = {}
    for number, content in enumerate(data.split(b"\n"), 1):
        line = _parse_line(name, number, content)
        if line is None:
            continue
        if line.cause is None and line.symbol in first:
            cause = f"is assigned twice; the first time in line {first[line.symbol]}"
            line = Line(name, number, line.symbol, line.raw, cause)
        elif line.symbol is not None:
            first[line.symbol] = number
        lines.append(line)
    return lines


def assignments(path: Path) -> dict[str, str]:
    """Symbol -> text of its value ("n" for `is not set`), whatever the symbols.

    Raises ConfigError for malformed lines.
    """
    lines = parse_file(path)
    findings = [line.finding(line.cause) for line in lines if line.cause]
    if findings:
        raise ConfigError(findings)
    return {line.symbol: "n" if line.raw is None else line.raw for line in lines}


def _parse_line(path: str, number: int, content: bytes) -> Line | None:
    text = content.decode("utf-8", errors="replace")
    cause = _encoding_fault(content, text)
    if cause is None:
        if not text.strip():
            return None
        match = _ASSIGN.fullmatch(text)
        if match and not match[2].startswith((" ", "\t")):
            cause = _tail_fault(match[2])
            return Line(path, number, match[1], match[2], cause)
        match = _UNSET.fullmatch(text)
        if match:
            return Line(path, number, match[1], None)
        cause = _comment_fault(text) if text[0] == "#" else _form_fault(text)
    return Line(path, number, _mentioned(text), None, cause) if cause else None


def _encoding_fault(content: bytes, text: str) -> str | None:
    if b"\0" in content:
        return "holds a NUL byte"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"is not UTF-8 (byte 0x{content[error.start]:02x})"
    if "\ufeff" in text:
        return "holds a byte order mark (BOM): save the file as plain UTF-8"
    if "\r" in text:
        return "holds a carriage return (CR): save the file with LF line ends"
    control = [c for c in text if (c < " " and c != "\t") or "\x7f" <= c < "\xa0"]
    return f"holds the control character {control[0]!r}" if control else None


def _tail_fault(raw: str) -> str | None:
    if _INLINE_COMMENT.match(raw):
        return "an inline comment: a comment needs a line of its own"
    if raw != raw.rstrip():
        return "trailing blanks"
    return None


def _comment_fault(text: str) -> str | None:
    for pattern in _NEARLY_UNSET:
        match = pattern.match(text)
        if match:
            return (
                f"{text!r} is read as a comment; to switch a bool off write "
                f"exactly '# CONFIG_{match[1].upper()} is not set'"
            )
    return None


def _form_fault(text: str) -> str:
    if text[0].isspace():
        return "leading blank"
    name, equals, _ = text.partition("=")
    word = name.strip()
    if not equals:
        return f"{text!r} is neither an assignment nor a comment"
    if re.fullmatch(r"CONFIG_\w+", word, re.ASCII):
        return "spaces around '=': write CONFIG_NAME=value"
    if re.fullmatch(r"\w+", word, re.ASCII) and not word.startswith("CONFIG_"):
        bare = re.sub(r"^config_", "", word, flags=re.I)
        return f"missing the prefix CONFIG_: write CONFIG_{bare.upper()}="
    return f"{word!r} is not the name of a symbol"


def _mentioned(text: str) -> str | None:
    """The symbol that a malformed line seems to be about."""
    match = re.search(r"CONFIG[_\s-](\w+)", text, re.ASCII | re.I)
    match = match or re.match(r"[#\s]*(\w+)\s*(?:=|is not set)", text, re.ASCII)
    return match[1].upper() if match else None


@lru_cache(maxsize=4096)  # each merge asks again for the lines in force
def value_of(line: Line, kind: str) -> bool | int | str:
    """The line's typed value for a symbol of kind "bool", "int" or "string".

    Raises ValueError with the cause.
    """
    if kind == "bool":
        return _bool(line.raw)
    if line.raw is None:
        raise ValueError(f"'is not set' is for bools; this symbol is {_a(kind)}")
    if kind == "int":
        return _int(line.raw)
    return _plain(line.raw) if line.plain else _string(line.raw)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "int" else f"a {kind}"


def _bool(raw: str | None) -> bool:
    if raw not in ("y", "n", None):
        raise ValueError(f"{raw!r} is not a bool: write y or n")
    return raw == "y"


def _int(raw: str) -> int:
    if re.fullmatch(r"0|-?[1-9][0-9]*", raw):
        if len(raw.lstrip("-")) > _LONGEST_INT:
            raise ValueError(f"{raw[:24]}… is too long for an int")
        return int(raw)
    if raw[:1] in ("'", '"'):
        raise ValueError(f"{raw} is quoted: an int has no quotes")
    if not raw:
        raise ValueError("no value after '='")
    raise ValueError(
        f"{raw!r} is not an int as Kconfig writes it: decimal digits, no sign +, "
        "no leading zero, no text behind"
    )


def _string(raw: str) -> str:
    if not raw.startswith('"'):
        raise ValueError(f'{raw!r} is not quoted: write "…"')
    match = re.match(_QUOTED, raw)
    if match is None:
        raise ValueError("the closing quote is missing")
    if match.end() != len(raw):
        raise ValueError(f"text after the closing quote: {raw[match.end():]!r}")
    inner = raw[1:-1]
    wrong = [e for e in re.findall(r"\\.", inner) if e not in ('\\"', "\\\\")]
    if wrong:
        raise ValueError(f'{wrong[0]} is no escape: only \\" and \\\\ are')
    return re.sub(r"\\(.)", r"\1", inner)


def _plain(raw: str) -> str:
    if raw.startswith('"'):
        raise ValueError(f"{raw} is quoted: outside a file a string has no quotes")
    if raw != raw.strip() or not raw.isprintable():
        raise ValueError(f"{raw!r} has blanks at an end or unprintable characters")
    return raw


def quote(text: str) -> str:
    """A string value as a config file writes it; the inverse of reading it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def render_line(symbol: str, value: bool | int | str) -> str:
    """The line that gives a symbol this value."""
    if value is False:
        return f"# CONFIG_{symbol} is not set"
    if value is True:
        return f"CONFIG_{symbol}=y"
    return f"CONFIG_{symbol}={quote(value) if isinstance(value, str) else value}"
