"""Print on a terminal what others named: a name shows its control characters and never acts on the terminal."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from scaleinv.errors import needs
from scaleinv.text import visible

with needs("cli"):
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


def say(*words: Any, file: TextIO | None = None) -> None:
    """Print plain text, with the codes of what a terminal would obey or hide in it (:func:`scaleinv.text.visible`)."""
    print(*(visible(str(word)) for word in words), file=sys.stdout if file is None else file)


class Terminal(Console):
    """A console of rich whose own colours and bars act, and whose texts do not."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Give the segments of what is printed; only rich's own are control codes."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style, segment.control)
