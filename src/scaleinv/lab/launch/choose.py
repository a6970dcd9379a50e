"""Choose a launcher by name: processes, slurm, ray, or ``package.module:factory`` of one's own."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Job, Launcher
from scaleinv.lab.launch.here import Here
from scaleinv.lab.launch.names import LAUNCHERS
from scaleinv.lab.launch.processes import Processes
from scaleinv.lab.launch.ray import Ray
from scaleinv.lab.launch.slurm import Slurm
from scaleinv.lab.launch.unit import prepare
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import recipe_of
from scaleinv.plugins import load_object

#: the folder below that of a study for a copy of the data
SHARED = ".shared"


@dataclass(frozen=True)
class LaunchSite:
    """What a launcher may need to know besides its jobs."""

    out: Path  # the folder of the study; the runs lie below it
    source: Dataset | Problem | None  # of all jobs; None: they are tasks, which read what they need
    workers: int  # runs at a time, where the launcher decides that
    data_dir: Path | None = None  # where the files of the data set lie
    shared: str = SHARED  # below ``out``


@dataclass(frozen=True)
class Choice:
    """A launcher by name, with its arguments; calling it makes one for a site.

    ``name``: one of :data:`LAUNCHERS`, or ``package.module:factory``, called as ``factory(site, **arguments)``.
    """

    name: str = "processes"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, site: LaunchSite) -> Launcher:
        """Make the launcher. Raises :class:`UserError` where it or what it needs is not there."""
        try:
            return self._factory()(site, **self.arguments)
        except TypeError as error:
            told = " ".join(f"{name}={value}" for name, value in self.arguments.items())
            raise UserError(f"--launcher-args {told}: the launcher {self.name} does not take this ({error})") from None

    def _factory(self) -> Callable[..., Launcher]:
        if self.name in LAUNCHERS:
            return _OWN[self.name]
        return _checked(self.name)


#: worker processes on this machine
LOCAL = Choice()


def _processes(site: LaunchSite) -> Launcher:
    """Worker processes; for a problem of one's own, with one worker, this process. A problem that another process
    cannot make again trains here too, and a line says why.
    """
    source, out, workers = site.source, site.out, site.workers
    if source is None or isinstance(source, Dataset):
        return Processes(source, out / site.shared, workers)
    recipe = recipe_of(source, out)
    if recipe is None and workers > 1:
        sys.stderr.write(
            f"scaleinv: worker processes cannot make {source.name} again: {_nameless(source)}; the runs train one "
            "after another in this process\n"
        )
    return Here(source) if recipe is None or workers == 1 else Processes(recipe, out / site.shared, workers)


def _nameless(source: Problem) -> str:
    why = getattr(source, "why_not_elsewhere", lambda: "its class")()
    return f"{why} has no name they could import (a notebook, a lambda, an object)"


def described(site: LaunchSite) -> Mapping[str, Any] | None:
    """Describe the problem of a site for config.json, its data written beside the runs; None for a set of the package.

    Raises :class:`UserError` where another process could not make it again.
    """
    if site.source is None or isinstance(site.source, Dataset):
        return None
    recipe = recipe_of(site.source, site.out)
    if recipe is None:
        raise UserError(f"nodes cannot make {site.source.name} again: {_nameless(site.source)}; put it into a file")
    content: dict[str, Any] = json.loads(recipe.text)
    return content


def prepare_all(jobs: Sequence[Job], site: LaunchSite) -> None:
    """Write config.json of all jobs, so that their folders say all."""
    problem = described(site)
    for job in jobs:
        prepare(job, site.data_dir, problem)


def _slurm(site: LaunchSite, **arguments: Any) -> Launcher:
    return Slurm(site.out, partial(prepare_all, site=site), **arguments)


def _ray(site: LaunchSite, **arguments: Any) -> Launcher:
    dataset = site.source if isinstance(site.source, Dataset) else None
    return Ray(site.out, partial(prepare_all, site=site), dataset, **{"workers": site.workers, **arguments})


_OWN: dict[str, Callable[..., Launcher]] = {"processes": _processes, "slurm": _slurm, "ray": _ray}


def _checked(name: str) -> Callable[..., Launcher]:
    form = f"give {', '.join(LAUNCHERS)} or PACKAGE.MODULE:FACTORY"
    if ":" not in name:
        raise UserError(f"unknown launcher {name!r}; {form}")
    factory: Callable[..., Launcher] = load_object(name, form)
    if not callable(factory):
        raise UserError(f"the launcher {name} is not something that can be called; {form}")
    return factory
