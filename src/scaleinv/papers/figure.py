"""A figure of a paper as data: its numbers and its drawing are functions of their own.

The figures of a paper are listed in ``papers/PAPER/catalogue.ini``. ``numbers(context)`` trains or finds the runs at
the scale of the context and returns everything that is drawn; ``draw(numbers)`` makes the figure from that alone. What
``draw`` gets is what the JSON beside the figure holds, so a figure can be drawn again from its JSON::

    draw(json.loads(Path("figures/fig5-digits.json").read_text()))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError
from scaleinv.papers.scales import SCALES, Scale
from scaleinv.plots.style import rendered
from scaleinv.runfolder.files import plain, write_bytes, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure

    from scaleinv.papers.context import Context  # which needs torch; a list of figures does not
else:
    Figure = Any  # what every draw returns; matplotlib is an extra


#: what is drawn, in plain JSON types
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """The files written for a figure, the JSON of its numbers last."""

    paths: tuple[Path, ...]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class FigureEntry:
    """A figure, as data.

    - ``place``: the figure of the paper it is after.
    - ``scales``: what it costs at each scale, in core-seconds, the cheapest first.
    - ``numbers``: ``"module:function"``, ``function(context) -> dict``: what is drawn.
    - ``draw``: ``"module:function"``, ``function(numbers) -> Figure``.
    """

    id: str
    paper: str
    place: str
    title: str
    scales: Mapping[Scale, float]
    numbers: str
    draw: str

    def __post_init__(self) -> None:
        unknown = [scale for scale in self.scales if scale not in SCALES]
        if unknown or not self.scales:
            raise UserError(f"figure {self.id!r} has the scale {unknown or 'none'}; there are: {', '.join(SCALES)}")

    def stem(self, scale: str) -> str:
        """Return the name of the figure's files: ``forces``, ``fig3-digits``."""
        return self.id if len(self.scales) == 1 else f"{self.id}-{scale}"

    def choose(self, scale: str | None) -> Scale:
        """Return ``scale``, or the cheapest scale for None; UserError names those there are."""
        for known in self.scales:
            if scale in (None, known):
                return known
        raise UserError(f"figure {self.id!r} has no scale {scale!r}; it has: {', '.join(self.scales)}")

    def compute(self, context: Context) -> dict[str, Any]:
        """Compute what is drawn, in plain JSON types."""
        numbers: dict[str, Any] = plain(_function(self.numbers)(context))
        return numbers

    def drawing(self, numbers: Numbers) -> Figure:
        """Draw the figure from its numbers alone."""
        fig: Figure = _function(self.draw)(numbers)
        return fig

    def make(self, context: Context, out: Path, formats: Sequence[str]) -> Drawn:
        """Compute and draw it; write ``out/STEM.svg`` (and other formats) and its numbers, ``out/STEM.json``."""
        numbers = self.compute(context)
        return write_figure(self.drawing(numbers), numbers, out, self.stem(self.choose(context.scale)), formats)


def _function(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def write_figure(fig: Figure, numbers: dict[str, Any], out: Path, stem: str, formats: Sequence[str]) -> Drawn:
    """Write a figure in every format, and the numbers beside it."""
    paths = [out / f"{stem}.{name}" for name in (*formats, "json")]
    for path, name in zip(paths, formats):
        write_bytes(path, rendered(fig, name), parents=True)
    write_json(paths[-1], numbers)
    return Drawn(tuple(paths), numbers)


def array(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Turn a column of the JSON into numbers: null becomes NaN.

    >>> array([1, None])
    array([ 1., nan])
    """
    return np.array(values, dtype=np.float64)
