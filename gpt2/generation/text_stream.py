"""Bytes to text as they come, held back while a stop string may be forming."""

import codecs

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "|": "|"}


class TextStream:
    r"""Text of a stream of bytes, up to the first stop string.

    A character is given out once all its bytes are there; bytes that are not
    UTF-8 become U+FFFD. The text ends where a stop string first comes to its
    last character (of several that end there the longest counts), wherever the
    stream was cut into pieces; nothing of the stop string is given out.
    """

    def __init__(self, stops: tuple[str, ...] = ()):
        self.stops = sorted(stops, key=len, reverse=True)
        self.met: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes) -> str:
        """What can be given out after these bytes; `met` is the stop string met."""
        return self._release(self._decoder.decode(data))

    def close(self) -> str:
        """The rest: what was held back, U+FFFD for half a character."""
        if self.met is not None:
            return ""
        given = self._release(self._decoder.decode(b"", final=True))
        return given if self.met is not None else given + self._held

    def _release(self, text: str) -> str:
        given = ""
        for character in text:
            if self.met is not None:
                break
            self._held += character
            self.met = next((s for s in self.stops if self._held.endswith(s)), None)
            if self.met is not None:
                return given + self._held.removesuffix(self.met)
            free = len(self._held) - self._forming()
            given, self._held = given + self._held[:free], self._held[free:]
        return given

    def _forming(self) -> int:
        """Characters at the end of what is held that may begin a stop string."""
        for length in range(len(self._held), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self.stops):
                return length
        return 0


def parse_stops(text: str) -> tuple[str, ...]:
    r"""The stop strings of `END|\n\n`: separated by |, with the escapes \n, \t,
    \| and \\; "" holds none. Raises ValueError for an empty one and for another
    escape.
    """
    if not text:
        return ()
    parts, characters = [""], iter(text)
    for character in characters:
        if character == "|":
            parts.append("")
            continue
        if character == "\\":
            letter = next(characters, "")
            if letter not in ESCAPES:
                known = ", ".join("\\" + name for name in ESCAPES)
                raise ValueError(f"STOP={text}: \\{letter} is none of {known}")
            character = ESCAPES[letter]
        parts[-1] += character
    if "" in parts:
        raise ValueError(f"STOP={text}: holds an empty string between |")
    return tuple(parts)
