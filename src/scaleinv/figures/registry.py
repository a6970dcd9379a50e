"""The registry of figures. A file in this package that calls :func:`figure` adds one; nothing else has to be touched.

A figure is a function ``draw(out, formats) -> Drawn``: it runs what it needs, writes ``out/ID.svg``, ``.pdf``,
``.png`` and the numbers drawn to ``out/ID.json``. Its file imports matplotlib and torch inside functions only: the list
must be quick.
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.figures.style import write_whole


@dataclass(frozen=True)
class Drawn:
    """Files written, the JSON of the numbers last."""

    paths: tuple[Path, ...]
    numbers: dict[str, Any]


Draw = Callable[[Path, Sequence[str]], Drawn]


@dataclass(frozen=True)
class FigureEntry:
    """A figure: ``scale`` names what is run (toy, digits, ...), ``cost`` is in core-seconds."""

    id: str
    paper: str
    place: str
    title: str
    scale: str
    cost: float
    draw: Draw


_FIGURES: dict[str, FigureEntry] = {}
#: helpers of this package that hold no figure
_HELPERS = ("registry", "style")


def figure(id: str, *, paper: str, place: str, title: str, scale: str, cost: float) -> Callable[[Draw], Draw]:
    """Register a figure under ``id``."""

    def add(draw: Draw) -> Draw:
        if id in _FIGURES:
            raise RuntimeError(f"figure {id!r} is registered twice")
        _FIGURES[id] = FigureEntry(id, paper, place, title, scale, cost, draw)
        return draw

    return add


def figures() -> dict[str, FigureEntry]:
    """All figures by id, in the order of their ids."""
    import scaleinv.figures as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _HELPERS:
            importlib.import_module(f"scaleinv.figures.{module.name}")
    return dict(sorted(_FIGURES.items()))


def find(id: str) -> FigureEntry:
    """The figure of that id; UserError names those there are."""
    known = figures()
    if id not in known:
        raise UserError(f"unknown figure {id!r}; choose one of: {', '.join(known)}")
    return known[id]


def finish(fig: Any, out: Path, id: str, formats: Sequence[str], numbers: dict[str, Any]) -> Drawn:
    """Save a figure and the numbers beside it."""
    from scaleinv.figures.style import save

    paths = save(fig, out, id, tuple(formats))
    record = out / f"{id}.json"
    write_whole(record, (json.dumps(plain(numbers), indent=1, allow_nan=False) + "\n").encode())
    return Drawn((*paths, record), numbers)


def plain(value: Any) -> Any:
    """For JSON: arrays to lists, NaN and infinities to null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
