"""Say where a run started from: the lineage in its config.json, in words that name a run and its folder.

The checksum of the start weights tells starts apart, but matches no folder a reader could open.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run, load_run

_ID = 6  # characters of a run's identity that tell it from others
_PARTS = 4  # of a folder's path: runs/fan/runs/f81c40…

Form = Callable[[float], str]
_three_digits: Form = "{:.3g}".format


@dataclass(frozen=True)
class Origin:
    """The run, and its epoch, that other runs started from. What the lineage does not say is None, NaN or empty."""

    weights: str  # checksum, the runs' config["start"]
    run: str  # identity
    folder: str
    epoch: int | None
    seed: int | None
    axis: str  # ELR or LR
    rate: float

    @property
    def order(self) -> tuple[float, int, int, str]:
        """By the parent's rate, then its seed and epoch."""
        rate = self.rate if math.isfinite(self.rate) else math.inf
        return rate, -1 if self.seed is None else self.seed, -1 if self.epoch is None else self.epoch, self.weights

    def short(self, form: Form = _three_digits) -> str:
        """``ELR 0.016 seed 0``."""
        rate = f"{self.axis} {form(self.rate)}" if math.isfinite(self.rate) else f"run {self.run[:_ID]}"
        return rate if self.seed is None else f"{rate} seed {self.seed}"

    def full(self, form: Form = _three_digits, *, whole: bool = False) -> str:
        """``ELR 0.016, seed 0, epoch 30 (s1/runs/f81c40…)``; ``whole``: the folder as it was typed."""
        parts = [f"{self.axis} {form(self.rate)}"] if math.isfinite(self.rate) else []
        parts += [f"{name} {value}" for name in ("seed", "epoch") if (value := getattr(self, name)) is not None]
        place = (self.folder if whole else self._place()) or f"run {self.run[:_ID]}"
        return f"{', '.join(parts)} ({place})" if parts else place

    def _place(self) -> str:
        parts = PurePath(self.folder).parts
        if not parts:
            return ""
        last = f"{self.run[:_ID]}…" if self.run and parts[-1] == self.run else parts[-1]
        before = parts[:-1]
        cut = ["…", *before[1 - _PARTS :]] if len(before) >= _PARTS else before
        return PurePath(*cut, last).as_posix()


def origin_of(lineage: Any) -> Origin | None:
    """Read the origin that a ``lineage`` object of config.json tells; None where it names no weights."""
    if not isinstance(lineage, Mapping) or not isinstance(lineage.get("weights"), str):
        return None
    axis = "lr" if lineage.get("elr") is None and lineage.get("lr") is not None else "elr"
    rate, epoch, seed = (lineage.get(name) for name in (axis, "epoch", "seed"))
    return Origin(
        weights=lineage["weights"],
        run=str(lineage.get("run") or ""),
        folder=str(lineage.get("folder") or ""),
        epoch=epoch if isinstance(epoch, int) else None,
        seed=seed if isinstance(seed, int) else None,
        axis=axis.upper(),
        rate=float(rate) if isinstance(rate, (int, float)) else math.nan,
    )


def short_names(origins: Iterable[Origin], form: Form = _three_digits) -> dict[str, str]:
    """Name each checksum of weights, with the run's identity and the epoch only where they are needed.

    >>> one = origin_of({"weights": "9704c2", "run": "f81c40ab", "elr": 0.016, "seed": 0, "epoch": 30})
    >>> two = origin_of({"weights": "11d07e", "run": "03bd12cc", "elr": 0.016, "seed": 0, "epoch": 30})
    >>> short_names([one]), short_names([one, two])["11d07e"]
    ({'9704c2': 'ELR 0.016 seed 0'}, 'ELR 0.016 seed 0 03bd12')
    """
    known = {origin.weights: origin for origin in origins}
    for name in ("{0}", "{0} {1}", "{0} {1}@{2}"):
        names = {w: name.format(origin.short(form), origin.run[:_ID], origin.epoch) for w, origin in known.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def named(landscape: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Name the ``start`` of every entry of ``landscape.json``; eight characters of the checksum if it has no name."""

    def entry(one: Any) -> Any:
        start = one.get("start") if isinstance(one, Mapping) else None
        return {**one, "start": names.get(start, start[:8])} if isinstance(start, str) else one

    return {
        part: [entry(one) for one in found] if isinstance(found, list) else found for part, found in landscape.items()
    }


def parent_run(origin: Origin, beside: Path) -> Run | None:
    """Find the run of an origin; None where its folder is gone, damaged or by now another run's.

    A relative folder is looked up from here and every folder above ``beside``: a sweep is read from elsewhere, too.
    """
    if not origin.folder:
        return None
    try:
        for place in (Path(), *beside.resolve().parents):
            folder = place / origin.folder
            if (folder / "config.json").exists():
                run = load_run(folder)
                if run.identity == origin.run:
                    return run
    except (UserError, OSError, ValueError):
        pass  # a page about the runs that started from it needs no parent
    return None
