"""Find a run by its configuration; train it if it does not exist yet."""

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaleinv.errors import StateError
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Job, Watcher, unwatched
from scaleinv.lab.launch.choose import LOCAL, Choice, LaunchSite
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start
from scaleinv.lab.train import run
from scaleinv.runfolder.environment import environment
from scaleinv.runfolder.files import refuse_links, remove_tree

#: seconds to wait for another process that trains the same run
_WAIT = 7200.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run wanted: ``settings`` and what differs between runs. ``start``: a run folder it starts from."""

    settings: Settings
    elr: float | None = None
    lr: float | None = None
    seed: int = 0
    start: Path | None = None
    start_epoch: int | None = None


_dataset = functools.lru_cache(maxsize=4)(load_data)


def _of_data(settings: Settings) -> Settings:
    """What decides the data set, so that runs share it."""
    return Settings(**{name: getattr(settings, name) for name in ("data", "data_dir", "subset", "label_noise")})


def dataset_of(settings: Settings) -> Dataset:
    """Load the data set of the settings; the last few stay in memory."""
    return _dataset(_of_data(settings))


def job_of(root: Path, request: Request, dataset: Dataset, device: str) -> Job:
    """Say what is to be trained, on which data, and in which folder below ``root``."""
    epoch = "" if request.start_epoch is None else f"@{request.start_epoch}"
    start = None if request.start is None else find_start(f"{request.start}{epoch}")
    config = resolve(
        request.settings,
        dataset,
        elr=request.elr,
        lr=request.lr,
        seed=request.seed,
        threads=1,
        start=None if start is None else start.checksum,
        device=device,
    )
    if start is not None:
        start.check_fits(config)
    folder = root / config.identity()
    refuse_links(folder)
    return Job(config, folder, environment(1, device), start, device, wait=_WAIT)


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
    """Return the folder of the run, below ``root``; train it here, on one thread, if it has not ended there.

    Another process that trains the same run is waited for.
    """
    request = Request(settings=settings, elr=elr, lr=lr, seed=seed, start=start, start_epoch=start_epoch)
    return obtain_many(root, [request])[0]


def remove_left(root: Path, kind: str) -> None:
    """Remove the folders ``KIND<pid>-...`` below ``root`` that processes of this machine left which are gone."""
    for left in root.glob(f"{kind}*-*"):
        pid = left.name[len(kind) :].partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            remove_tree(left)


def _alive(pid: int) -> bool:
    if sys.platform == "win32":  # where signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def obtain_many(
    root: Path,
    requests: Sequence[Request],
    *,
    workers: int = 1,
    launch: Choice = LOCAL,
    watch: Watcher | None = None,
    device: str = "cpu",
) -> list[Path]:
    """Return the folders of the runs, in the order asked for; ``workers`` > 1 trains as many at a time in processes,
    another ``launch`` where it says. ``device``: cpu, cuda, cuda:1 or mps; runs of another type of device are others.

    Raises :class:`StateError` where a run ends by an error (a diverged run is a result).
    """
    watch = watch or unwatched
    jobs = [job_of(root, request, dataset_of(request.settings), device) for request in requests]
    missing = {
        job.folder: (job, _of_data(request.settings))
        for job, request in zip(jobs, requests)
        if not (job.folder / "result.json").exists()
    }
    remove_left(root, ".shared-")
    if workers == 1 and launch.name == LOCAL.name:
        for job, key in missing.values():
            tell = functools.partial(watch, job)
            at: dict[str, Any] = {"origin": job.origin, "lock_wait": _WAIT, "device": device}
            run(job.config, _dataset(key), job.folder, start=job.start, watch=tell, **at)
        return [job.folder for job in jobs]
    root.mkdir(parents=True, exist_ok=True)
    for number, key in enumerate(dict.fromkeys(key for _, key in missing.values())):
        shared = f".shared-{os.getpid()}-{number}"
        launcher = launch(LaunchSite(root, _dataset(key), workers, key.data_dir, shared))
        try:
            for job, result, error in launcher.run([job for job, its in missing.values() if its == key], watch):
                if result is None:
                    raise StateError(f"the run {job.folder} failed: {error}")
        finally:
            launcher.cancel()
    return [job.folder for job in jobs]
