"""What every test of a figure does: draw it again from what its JSON holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaleinv.papers.figure import Drawn, Numbers, write_figure
from scaleinv.runfolder.files import plain


def redrawn(draw: Callable[[Numbers], Any], numbers: Numbers, out: Path) -> dict[str, Any]:
    """Draws ``numbers``, draws them again from the JSON that was written, and finds the same bytes; the numbers."""
    first = _written(draw, plain(numbers), out / "a")
    read: dict[str, Any] = json.loads(first.paths[-1].read_text())
    second = _written(draw, read, out / "b")
    assert [path.name for path in first.paths] == ["x.svg", "x.json"]
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in second.paths]
    return read


def _written(draw: Callable[[Numbers], Any], numbers: dict[str, Any], out: Path) -> Drawn:
    return write_figure(draw(numbers), numbers, out, "x", ("svg",))
