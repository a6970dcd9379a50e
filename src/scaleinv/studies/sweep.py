"""A sweep: runs that differ in the rate, the weight decay, the start and the seed, nothing else; its folder, and how
it goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.build import build
from scaleinv.lab.config import DERIVED, RunConfig
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.processes import Task, Watcher, launch
from scaleinv.lab.start import Start
from scaleinv.runfolder.environment import environment
from scaleinv.runfolder.files import Lock, read_json, write_json
from scaleinv.runfolder.layout import FORMAT
from scaleinv.runfolder.write import read_result


@dataclass(frozen=True)
class SweepConfig:
    """The runs of a sweep: every value of the axis with every weight decay, every start and every seed."""

    base: RunConfig  # all but the axis and the seed
    axis: str  # elr | lr
    values: tuple[float, ...]
    seeds: tuple[int, ...]  # empty: a run has the seed of the run it starts from
    weight_decays: tuple[float, ...] = ()  # empty: the base's
    starts: tuple[Start, ...] = ()  # empty: from the initialisation

    def runs(self) -> list[RunConfig]:
        """One config a run, seeds outermost, then starts, then weight decays."""
        starts: tuple[Start | None, ...] = self.starts or (None,)
        decays = self.weight_decays or (self.base.weight_decay,)
        if self.seeds:
            pairs = [(start, seed) for seed in self.seeds for start in starts]
        else:
            pairs = [(start, start.config.seed) for start in self.starts]
        return [
            self.run(value, seed, decay, start) for start, seed in pairs for decay in decays for value in self.values
        ]

    def run(self, value: float, seed: int, weight_decay: float | None = None, start: Start | None = None) -> RunConfig:
        """The config of one run."""
        base = dataclasses.replace(
            self.base,
            seed=seed,
            weight_decay=self.base.weight_decay if weight_decay is None else weight_decay,
            start=self.base.start if start is None else start.checksum,
        )
        return dataclasses.replace(base, elr=value) if self.axis == "elr" else dataclasses.replace(base, lr=value)

    def start_of(self, config: RunConfig) -> Start | None:
        """Where a run of the sweep starts."""
        return next((start for start in self.starts if start.checksum == config.start), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``base`` without what differs."""
        differ = [self.axis, "seed"] + ["weight_decay"] * bool(self.weight_decays) + ["start"] * bool(self.starts)
        base = {k: v for k, v in self.base.to_dict().items() if k not in differ}
        content = {"base": base, "axis": self.axis, "values": list(self.values), "seeds": list(self.seeds)}
        if self.weight_decays:
            content["weight_decays"] = list(self.weight_decays)
        if self.starts:
            content["starts"] = [start.lineage() for start in self.starts]
        return content


@dataclass(frozen=True)
class RunOutcome:
    """How a run of the sweep ended: a result, or why there is none."""

    config: RunConfig
    folder: Path
    result: Mapping[str, Any] | None
    error: str = ""


def run_folder(out: Path, config: RunConfig) -> Path:
    """Where a sweep keeps a run: by the hash of its config."""
    return out / "runs" / config.identity()


def run_sweep(
    sweep: SweepConfig,
    dataset: Dataset,
    out: Path,
    *,
    workers: int,
    watch: Watcher | None = None,
    on_outcome: Callable[[RunOutcome], None] | None = None,
) -> list[RunOutcome]:
    """Run all runs of ``sweep`` that have not ended, ``workers`` at a time; every outcome, in the sweep's order.

    The same call after a kill goes on where it stopped. Raises :class:`UserError` for a folder that holds something
    else.
    """
    if workers < 1:
        raise UserError(f"workers {workers}: at least one is needed")
    if not sweep.values or not (sweep.seeds or sweep.starts):
        raise UserError("a sweep needs at least one rate and one seed")
    _present(out, sweep)
    # what it refuses is refused once, before anything is written
    build(sweep.base, dataset, start=sweep.starts[0].file if sweep.starts else None)
    with Lock(out, wait=2.0):
        if _present(out, sweep) is None:
            write_json(out / "sweep-config.json", {"format": FORMAT, "sweep": sweep.to_dict()})
        origin = environment(sweep.base.threads)
        configs = sweep.runs()
        outcomes: dict[str, RunOutcome] = {}

        def ended(outcome: RunOutcome) -> None:
            outcomes[outcome.config.identity()] = outcome
            if on_outcome is not None:
                on_outcome(outcome)

        waiting = []
        for config in configs:
            folder = run_folder(out, config)
            try:
                result = read_result(folder / "result.json")
            except UserError:  # not there, or damaged: the run's worker will tell
                waiting.append(Task(config, folder, origin, sweep.start_of(config)))
            else:
                ended(RunOutcome(config, folder, result))
        # closed at once when the loop is left by an exception: its workers are killed then
        with closing(launch(waiting, dataset, out / ".shared", workers=workers, watch=watch)) as ending:
            for task, outcome, error in ending:
                ended(RunOutcome(task.config, task.folder, outcome, error))
        return [outcomes[config.identity()] for config in configs]


def _present(out: Path, sweep: SweepConfig) -> Mapping[str, Any] | None:
    """The sweep that is there, if it is this one; a :class:`UserError` if the folder holds anything else."""
    path = out / "sweep-config.json"
    if path.exists():
        content = read_json(path)
        held = content.get("sweep") if isinstance(content, dict) and content.get("format") == FORMAT else None
        if not isinstance(held, dict) or not isinstance(held.get("base"), dict):
            raise UserError(f"{path} is not the config of a sweep of this version; choose another --out")
        theirs, ours = _told(held), _told(sweep.to_dict())
        if theirs != ours:
            difference = _difference(theirs, ours)
            raise UserError(f"{out} is the folder of another sweep ({difference}); choose another --out")
        return held
    if (out / "config.json").exists():
        raise UserError(f"{out} is the folder of a single run; choose another --out for a sweep")
    if out.exists():
        if not out.is_dir():
            raise UserError(f"{out} is a file, not a folder; choose another --out")
        if any(p.name not in (".lock", ".sweep-config.json.part") for p in out.iterdir()):
            raise UserError(f"{out} is not empty and not a sweep; choose another --out")
    return None


def _told(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a sweep from another: all but the fields of its runs that follow from the others."""
    return {**sweep, "base": {name: value for name, value in sweep["base"].items() if name not in DERIVED}}


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    flat = [{**side.get("base", {}), **{k: v for k, v in side.items() if k != "base"}} for side in (held, wanted)]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]

    def short(value: Any) -> str:
        if isinstance(value, list) and value and not isinstance(value[0], dict):
            return f"{len(value)} from {min(value):g} to {max(value):g}"
        if isinstance(value, list):
            return f"{len(value)} run(s)"
        return str(value)

    parts = [f"{name}: {short(flat[0].get(name))} there, {short(flat[1].get(name))} here" for name in names]
    return "; ".join(parts[:2]) + ("; ..." if len(parts) > 2 else "")
