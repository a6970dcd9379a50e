"""Choose a launcher by name: processes, slurm, ray, or ``package.module:factory`` of one's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Launcher
from scaleinv.lab.launch.names import LAUNCHERS
from scaleinv.lab.launch.processes import Processes
from scaleinv.lab.launch.ray import Ray
from scaleinv.lab.launch.slurm import Slurm
from scaleinv.plugins import load_object


@dataclass(frozen=True)
class Site:
    """What a launcher may need to know besides its jobs."""

    out: Path  # the folder of the study; the runs lie below it
    dataset: Dataset  # of all jobs
    workers: int  # runs at a time, where the launcher decides that
    data_dir: Path | None = None  # where the files of the data set lie
    shared: str = ".shared"  # the folder below ``out`` for a copy of the data


@dataclass(frozen=True)
class Choice:
    """A launcher by name, with its arguments; calling it makes one for a site.

    ``name``: one of :data:`LAUNCHERS`, or ``package.module:factory``, called as ``factory(site, **arguments)``.
    """

    name: str = "processes"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, site: Site) -> Launcher:
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


def _processes(site: Site) -> Launcher:
    return Processes(site.dataset, site.out / site.shared, site.workers)


def _slurm(site: Site, **arguments: Any) -> Launcher:
    return Slurm(site.out, site.data_dir, **arguments)


def _ray(site: Site, **arguments: Any) -> Launcher:
    return Ray(site.out, site.dataset, site.data_dir, **{"workers": site.workers, **arguments})


_OWN: dict[str, Callable[..., Launcher]] = {"processes": _processes, "slurm": _slurm, "ray": _ray}


def _checked(name: str) -> Callable[..., Launcher]:
    form = f"give {', '.join(LAUNCHERS)} or PACKAGE.MODULE:FACTORY"
    if ":" not in name:
        raise UserError(f"unknown launcher {name!r}; {form}")
    factory: Callable[..., Launcher] = load_object(name, form)
    if not callable(factory):
        raise UserError(f"the launcher {name} is not something that can be called; {form}")
    return factory
