"""The registry of figures. A file in this package that calls :func:`figure` adds one; nothing else has to be touched.

A figure is a function ``draw(context) -> Drawn``: it runs what it needs at ``context.scale`` (``context.obtain``),
writes ``context.out/STEM.svg``, ``.pdf``, ``.png`` and the numbers drawn to ``STEM.json`` (:func:`finish`). STEM is the
figure's id, followed by the scale where there are several. Its file imports matplotlib and torch inside functions only:
the list must be quick. A file whose name begins with ``_`` is a helper.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.lab.launch.processes import Watcher
from scaleinv.plots.style import FORMATS, save, write_whole
from scaleinv.studies.obtain import Request, obtain_many

#: from seconds to days; cifar-tiny is some hundred images, cifar-small 5000
SCALES = ("toy", "digits", "mnist", "cifar-tiny", "cifar-small", "paper")


@dataclass(frozen=True)
class Context:
    """What a figure is told."""

    out: Path
    formats: tuple[str, ...] = FORMATS
    scale: str = "toy"
    runs: Path = Path("runs/reproduce")  # where run folders are kept and found again
    workers: int = 1  # runs at a time
    watch: Watcher | None = None  # told what the runs report
    stem: str = ""  # name of the files, without what follows the point; filled by FigureEntry.make

    def obtain(self, requests: Sequence[Request]) -> list[Path]:
        """The folders of the runs asked for, in their order; those that are not in ``runs`` yet are trained."""

        return obtain_many(self.runs, requests, workers=self.workers, watch=self.watch)


@dataclass(frozen=True)
class Drawn:
    """Files written, the JSON of the numbers last."""

    paths: tuple[Path, ...]
    numbers: dict[str, Any]


Draw = Callable[[Context], Drawn]


@dataclass(frozen=True)
class FigureEntry:
    """A figure; ``scales`` holds what it costs at each scale, in core-seconds, the cheapest first."""

    id: str
    paper: str
    place: str
    title: str
    scales: Mapping[str, float]
    draw: Draw

    def stem(self, scale: str) -> str:
        """``forces``, ``fig3-digits``: the name of its files."""
        return self.id if len(self.scales) == 1 else f"{self.id}-{scale}"

    def choose(self, scale: str | None) -> str:
        """``scale``, or the cheapest; UserError names those there are."""
        if scale is None:
            return next(iter(self.scales))
        if scale not in self.scales:
            raise UserError(f"figure {self.id!r} has no scale {scale!r}; it has: {', '.join(self.scales)}")
        return scale

    def make(self, context: Context) -> Drawn:
        """Draw it."""
        return self.draw(dataclasses.replace(context, stem=self.stem(self.choose(context.scale))))


_FIGURES: dict[str, FigureEntry] = {}
PAPERS = ("kodryan2022", "lobacheva2021", "nakhodnov2022", "others")


def figure(id: str, *, paper: str, place: str, title: str, scales: Mapping[str, float]) -> Callable[[Draw], Draw]:
    """Register a figure under ``id``; ``scales``: what it costs at each, in core-seconds."""

    def add(draw: Draw) -> Draw:
        if id in _FIGURES:
            raise RuntimeError(f"figure {id!r} is registered twice")
        unknown = [scale for scale in scales if scale not in SCALES]
        if unknown or not scales:
            raise RuntimeError(f"figure {id!r} has the scale {unknown or 'none'}; there are: {', '.join(SCALES)}")
        ordered = {scale: scales[scale] for scale in SCALES if scale in scales}
        _FIGURES[id] = FigureEntry(id, paper, place, title, ordered, draw)
        return draw

    return add


def figures() -> dict[str, FigureEntry]:
    """All figures by id, in the order of their ids."""
    here = Path(__file__).parent
    for paper in PAPERS:
        for module in pkgutil.iter_modules([str(here / paper)]):
            importlib.import_module(f"scaleinv.papers.{paper}.{module.name}")
    return dict(sorted(_FIGURES.items()))


def find(id: str) -> FigureEntry:
    """The figure of that id; UserError names those there are."""
    known = figures()
    if id not in known:
        raise UserError(f"unknown figure {id!r}; choose one of: {', '.join(known)}")
    return known[id]


def finish(fig: Any, context: Context, numbers: dict[str, Any]) -> Drawn:
    """Save a figure and the numbers beside it."""

    paths = save(fig, context.out, context.stem, context.formats)
    record = context.out / f"{context.stem}.json"
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
    if isinstance(value, Path):
        return str(value)
    return value
