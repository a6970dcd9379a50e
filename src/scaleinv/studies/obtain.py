"""Find a run by its configuration; train it if it does not exist yet."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaleinv.errors import StateError
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Job, Watcher, unwatched
from scaleinv.lab.launch.processes import Processes
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import Start, find_start
from scaleinv.lab.train import run
from scaleinv.runfolder.environment import environment

#: seconds to wait for another process that trains the same run
_WAIT = 7200.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run wanted: ``settings`` and what differs between runs. ``start``: a run folder it goes on from."""

    settings: Settings
    elr: float | None = None
    lr: float | None = None
    seed: int = 0
    start: Path | None = None
    start_epoch: int | None = None


@functools.lru_cache(maxsize=4)
def _dataset(name: str, data_dir: Path | None, subset: int | None, label_noise: float) -> Dataset:
    return load_data(Settings(data=name, data_dir=data_dir, subset=subset, label_noise=label_noise))


def _key(settings: Settings) -> tuple[str, Path | None, int | None, float]:
    return settings.data, settings.data_dir, settings.subset, settings.label_noise


def _job(root: Path, request: Request, dataset: Dataset) -> Job:
    start: Start | None = None
    if request.start is not None:
        name = str(request.start) if request.start_epoch is None else f"{request.start}@{request.start_epoch}"
        start = find_start(name)
    config = resolve(
        request.settings,
        dataset,
        elr=request.elr,
        lr=request.lr,
        seed=request.seed,
        threads=1,
        start=None if start is None else start.checksum,
    )
    if start is not None:
        start.check_fits(config)
    return Job(config, root / config.identity(), environment(1), start)


def obtain(
    root: Path,
    settings: Settings,
    *,
    elr: float | None = None,
    lr: float | None = None,
    seed: int = 0,
    start: Path | None = None,
    start_epoch: int | None = None,
) -> Path:
    """The folder of the run, below ``root``; trained here, on one thread, if it has not ended there.

    Another process that trains the same run is waited for.
    """
    request = Request(settings=settings, elr=elr, lr=lr, seed=seed, start=start, start_epoch=start_epoch)
    return obtain_many(root, [request])[0]


def obtain_many(
    root: Path, requests: Sequence[Request], *, workers: int = 1, watch: Watcher | None = None
) -> list[Path]:
    """The folders of the runs, in the order asked for; ``workers`` > 1 trains as many at a time in processes.

    Raises :class:`StateError` where a run ends by an error (a diverged run is a result).
    """
    watch = watch or unwatched
    jobs = [_job(root, request, _dataset(*_key(request.settings))) for request in requests]
    missing = {
        job.folder: (job, _key(request.settings))
        for job, request in zip(jobs, requests)
        if not (job.folder / "result.json").exists()
    }
    if workers == 1:
        for job, key in missing.values():
            run(
                job.config,
                _dataset(*key),
                job.folder,
                start=job.start,
                watch=functools.partial(watch, job),
                origin=job.origin,
                lock_wait=_WAIT,
            )
        return [job.folder for job in jobs]
    root.mkdir(parents=True, exist_ok=True)
    for number, key in enumerate(dict.fromkeys(key for _, key in missing.values())):
        launcher = Processes(_dataset(*key), root / f".shared-{os.getpid()}-{number}", workers)
        try:
            for job, result, error in launcher.run([job for job, its in missing.values() if its == key], watch):
                if result is None:
                    raise StateError(f"the run {job.folder} failed: {error}")
        finally:
            launcher.cancel()
    return [job.folder for job in jobs]
