"""Train a sweep, runs that differ in the rate, the weight decay, the start and the seed alone, and keep its folder."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.build import build
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Finished, Job, Launcher, Watcher, unwatched
from scaleinv.lab.launch.choose import LOCAL, SHARED, LaunchSite, prepare_all
from scaleinv.lab.problem import Problem
from scaleinv.lab.prolong import prolong_all, to_prolong
from scaleinv.lab.start import Start
from scaleinv.lab.train import record_verdict
from scaleinv.runfolder.environment import environment
from scaleinv.runfolder.files import (
    LINK,
    Busy,
    Lock,
    disk_errors,
    json_text,
    own_folder,
    plain,
    refuse_links,
    remove_tree,
)
from scaleinv.runfolder.layout import FORMAT, FORMATS_READ, LOCK, SWEEP_CONFIG, SWEEP_MAP
from scaleinv.runfolder.lineage import Origin, origin_of
from scaleinv.runfolder.seal import digest_of, read_sealed, write_sealed
from scaleinv.runfolder.store import clean_ended, left_over
from scaleinv.runfolder.stored import DERIVED
from scaleinv.runfolder.write import read_result
from scaleinv.studies.regime_map import failed_row, regime_map, run_row, verdict_of


@dataclass(frozen=True)
class SweepConfig:
    """The runs of a sweep: every value of the axis with every weight decay, every start and every seed."""

    base: RunConfig  # all but the axis and the seed
    axis: str  # elr | lr
    values: tuple[float, ...]
    seeds: tuple[int, ...]  # empty: a run has the seed of the run it starts from
    weight_decays: tuple[float, ...] = ()  # empty: the base's
    starts: tuple[Start, ...] = ()  # empty: from the initialisation
    weights: tuple[tuple[int, str], ...] = ()  # of a problem of one's own: checksum of the start of each seed

    def runs(self) -> list[RunConfig]:
        """One config a run, seeds outermost, then starts, then weight decays."""
        decays = self.weight_decays or (self.base.weight_decay,)
        pairs: list[tuple[str | None, int]] = [(start.checksum, start.config.seed) for start in self.starts]
        if self.seeds:
            starts = [start for start, _ in pairs] or [self.base.start]
            pairs = [(start, seed) for seed in self.seeds for start in starts]
        known = dict(self.weights)
        rates: list[dict[str, Any]] = [{self.axis: value} for value in self.values]
        return [
            dataclasses.replace(
                self.base,
                seed=seed,
                weight_decay=decay,
                start=start,
                weights=known.get(seed, self.base.weights),
                **rate,
            )
            for start, seed in pairs
            for decay in decays
            for rate in rates
        ]

    def start_of(self, config: RunConfig) -> Start | None:
        """Where a run of the sweep starts."""
        return next((start for start in self.starts if start.checksum == config.start), None)

    def origins(self) -> list[Origin]:
        """The runs that the starts come from."""
        return [origin for origin in (origin_of(start.lineage()) for start in self.starts) if origin is not None]

    def short_hash(self) -> str:
        """Give a name to the sweep that the same call finds again; 8 hex digits."""
        text = json_text(
            [self.base.identity(), self.axis, list(self.values), list(self.seeds), list(self.weight_decays)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``base`` without what differs."""
        differ = (
            [self.axis, "seed"]
            + ["weights"] * (len(self.weights) > 1)
            + ["weight_decay"] * bool(self.weight_decays)
            + ["start"] * bool(self.starts)
        )
        base = {k: v for k, v in self.base.to_dict().items() if k not in differ}
        content = {"base": base, "axis": self.axis, "values": list(self.values), "seeds": list(self.seeds)}
        if self.weight_decays:
            content["weight_decays"] = list(self.weight_decays)
        if self.starts:
            content["starts"] = [start.lineage() for start in self.starts]
        return content


def run_folder(out: Path, config: RunConfig) -> Path:
    """Where a sweep keeps a run: by the hash of its config."""
    return out / "runs" / config.identity()


@contextmanager
def _opened(sweep: SweepConfig, dataset: Dataset | Problem, out: Path, device: str | None) -> Iterator[list[Job]]:
    """Hold the folder of a sweep, made or found; give its jobs. Raises :class:`UserError` for anything else."""
    if not sweep.values or not (sweep.seeds or sweep.starts):
        raise UserError("a sweep needs at least one rate and one seed")
    refuse_links(out / "runs", *(run_folder(out, config) for config in sweep.runs()))
    _prolong(out, sweep)
    _present(out, sweep)
    # what it refuses is refused once, before anything is written; this machine need not have the device of the runs
    if isinstance(dataset, Dataset) or sweep.starts:
        build(sweep.base, dataset, start=sweep.starts[0].file if sweep.starts else None, device="cpu")
    with Lock(out, wait=2.0):
        if _present(out, sweep) is None:
            told = sweep.to_dict()
            write_sealed(out / SWEEP_CONFIG, {"format": FORMAT, "sweep": told}, token=digest_of(told))
        own_folder(out / "runs")
        remove_tree(out / SHARED)  # what a killed sweep left
        origin = environment(sweep.base.threads, device or sweep.base.device)
        yield [Job(config, run_folder(out, config), origin, sweep.start_of(config), device) for config in sweep.runs()]


def _clean(folder: Path) -> None:
    """Remove what a killed process left of a run that has ended; another one that holds it does so itself."""
    if left_over(folder):
        with suppress(Busy), Lock(folder):
            clean_ended(folder)


def prepare_sweep(
    sweep: SweepConfig, dataset: Dataset | Problem, out: Path, *, data_dir: Path | None = None
) -> list[Path]:
    """Write the folders of all runs, trained by none; the folders of those that have not ended, in the sweep's order.

    Each is to be trained by ``scaleinv run FOLDER``, anywhere; the sweep's own command then makes the map.
    """
    with _opened(sweep, dataset, out, None) as jobs:
        prepare_all(jobs, LaunchSite(out, dataset, 1, data_dir))
        return [job.folder for job in jobs if not (job.folder / "result.json").exists()]


def run_sweep(
    sweep: SweepConfig,
    dataset: Dataset | Problem,
    out: Path,
    *,
    workers: int,
    launch: Callable[[LaunchSite], Launcher] = LOCAL,
    data_dir: Path | None = None,
    device: str | None = None,
    watch: Watcher = unwatched,
    on_finished: Callable[[Finished], None] = lambda finished: None,
) -> list[Finished]:
    """Run all runs of ``sweep`` that have not ended, ``workers`` at a time; how each ended, in the sweep's order.

    The same call after a kill resumes where it stopped. Raises :class:`UserError` for a folder that holds something
    else.
    """
    if workers < 1:
        raise UserError(f"workers {workers}: at least one is needed")
    with _opened(sweep, dataset, out, device) as jobs:
        ended: dict[Path, Finished] = {}
        waiting = []
        launcher = launch(LaunchSite(out, dataset, workers, data_dir))

        def finish() -> Iterator[Finished]:
            for job in jobs:
                try:
                    result = read_result(job.folder / "result.json")
                    _clean(job.folder)
                    yield Finished(job, result)
                except UserError:  # not there, or damaged: the run's worker will tell
                    waiting.append(job)
            yield from launcher.run(waiting, watch)

        try:
            for finished in finish():
                ended[finished.job.folder] = finished
                on_finished(finished)
        finally:
            launcher.cancel()
        return [ended[job.folder] for job in jobs]


@dataclass(frozen=True)
class MappedSweep:
    """A sweep that has ended: the content of its sweep.json, and the names of the runs that failed."""

    summary: dict[str, Any]
    failed: list[str]


def map_sweep(
    sweep: SweepConfig,
    dataset: Dataset | Problem,
    out: Path,
    *,
    workers: int,
    launch: Callable[[LaunchSite], Launcher] = LOCAL,
    data_dir: Path | None = None,
    device: str | None = None,
    watch: Watcher = unwatched,
    on_row: Callable[[Job, Mapping[str, Any]], None] = lambda job, row: None,
) -> MappedSweep:
    """Run the sweep, judge every run as it ends, and write the regime map, ``out/sweep.json``.

    ``on_row`` is told the row of each run as it ends.
    """
    rows: dict[str, dict[str, Any]] = {}
    failed: list[str] = []

    def ended(finished: Finished) -> None:
        config = finished.job.config
        name = config.identity()
        try:
            if finished.result is None:
                raise UserError(finished.error)
            run, verdict = verdict_of(finished.job.folder)
            record_verdict(finished.job.folder, verdict.regime, verdict.evidence)
            rows[name] = run_row(run, verdict)
        except UserError as error:  # a run without a result, or with a damaged file, does not stop the others
            rows[name] = failed_row(name, config.to_dict(), str(error))
            failed.append(name)
        on_row(finished.job, rows[name])

    at: dict[str, Any] = {"launch": launch, "data_dir": data_dir, "device": device}
    runs = run_sweep(sweep, dataset, out, workers=workers, watch=watch, on_finished=ended, **at)
    place = {origin.weights: k for k, origin in enumerate(sorted(sweep.origins(), key=lambda origin: origin.order))}
    ordered = sorted(
        (rows[finished.job.config.identity()] for finished in runs),
        key=lambda row: (row["weight_decay"] or 0.0, place.get(row["start"], 0), row[sweep.axis] or 0.0, row["seed"]),
    )
    steps = sweep.base.steps
    per_epoch = next((finished.result["steps_per_epoch"] for finished in runs if finished.result), None)
    horizon = {"steps": steps, "steps_per_epoch": per_epoch, "epochs": steps / per_epoch if per_epoch else None}
    summary = plain(regime_map(ordered, sweep.axis, horizon))  # as it is read again: None for NaN
    write_sealed(out / SWEEP_MAP, summary)
    return MappedSweep(summary, failed)


def _present(out: Path, sweep: SweepConfig) -> Mapping[str, Any] | None:
    """The sweep that is there, if it is this one; a :class:`UserError` if the folder holds anything else."""
    path = out / SWEEP_CONFIG
    if path.exists():
        content = read_sealed(path)
        held = content.get("sweep") if isinstance(content, dict) and content.get("format") in FORMATS_READ else None
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
        if any(p.name not in (LOCK, LINK, ".sweep-config.json.part") for p in out.iterdir()):
            raise UserError(f"{out} is not empty and not a sweep; choose another --out")
    return None


def _prolong(out: Path, sweep: SweepConfig) -> None:
    """Make the sweep that is there this one, if it is the same with fewer steps; its runs resume."""
    path = out / SWEEP_CONFIG
    content = read_sealed(path) if path.exists() else None
    held = content.get("sweep") if isinstance(content, dict) and content.get("format") in FORMATS_READ else None
    if not isinstance(held, dict) or not isinstance(held.get("base"), dict):
        return
    before, wanted = held["base"].get("steps"), sweep.to_dict()
    if not isinstance(before, int) or before >= sweep.base.steps:
        return
    if _told({**held, "base": {**held["base"], "steps": sweep.base.steps}}) != _told(wanted):
        return
    with Lock(out, wait=2.0):
        folders = [
            (run_folder(out, dataclasses.replace(config, steps=before)), run_folder(out, config))
            for config in sweep.runs()
        ]
        refuse_links(*(old for old, _ in folders))
        waiting = to_prolong([(*pair, config) for pair, config in zip(folders, sweep.runs())])
        with disk_errors(out / SWEEP_MAP):
            (out / SWEEP_MAP).unlink(missing_ok=True)  # of the shorter runs
        prolong_all(waiting)
        write_sealed(path, {**(content or {}), "format": FORMAT, "sweep": wanted})


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
