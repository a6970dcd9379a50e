"""Break long names where they may be broken: after a dot or a space, never within a word that fits."""

import re
from collections.abc import Iterator
from typing import Any

#: what a line that continues the one above begins with
_CONTINUED = " "


class Wrapped:
    """A cell of a terminal's table whose lines break after dots and spaces. Drawn by rich, which it does not need."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        from rich.measure import Measurement

        most = max(map(len, self.text.split("\n")))
        least = max(len(piece.rstrip()) for piece in _pieces(self.text.replace("\n", " ")))
        width = options.max_width
        return Measurement(min(least + len(_CONTINUED), most, width), min(most, width))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(broken(self.text, options.max_width), overflow="fold")


def broken(text: str, width: int) -> str:
    """Break the lines of ``text`` that are longer than ``width`` after a dot or a space.

    A line that continues another one is set in by a space. A piece without a dot or a space stays whole, though it be
    longer.

    >>> print(broken("encoder.stages.0.weight", 16))
    encoder.stages.
     0.weight
    """
    lines = []
    for line in text.split("\n"):
        now = ""
        for piece in _pieces(line):
            if now.strip() and len(now) + len(piece.rstrip()) > width:
                lines.append(now.rstrip())
                now = _CONTINUED
            now += piece
        lines.append(now.rstrip())
    return "\n".join(lines)


def _pieces(text: str) -> list[str]:
    """Split after dots between the parts of a name, and after spaces."""
    return re.split(r"(?<=\.)(?=\w)|(?<=\s)(?=\S)", text)
