"""Sweep the ELR of a problem of one's own: five lines in a script or a notebook."""

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.checks import checked
from scaleinv.lab.config import RunConfig, Settings, check_settings
from scaleinv.lab.data import Dataset
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.choose import LOCAL, Choice
from scaleinv.lab.launch.gpus import default_workers, visible_gpus
from scaleinv.lab.launch.names import check_launcher
from scaleinv.lab.optimizers import arguments_text, named_optimizer
from scaleinv.lab.problem import Problem
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import Start
from scaleinv.lab.train import RunEvent
from scaleinv.plugins import stop_loading
from scaleinv.runfolder.lineage import short_names
from scaleinv.runfolder.threads import cores
from scaleinv.studies.grid import parse_grid
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import outcome_line
from scaleinv.studies.results import Sweep
from scaleinv.studies.sweep import MappedSweep, SweepConfig, map_sweep
from scaleinv.text import near

RUNS = Path("runs")


def sweep(
    problem: Problem | None = None,
    *,
    elr: str | float | Iterable[float] | None = None,
    lr: str | float | Iterable[float] | None = None,
    out: str | Path | None = None,
    seeds: int = 1,
    workers: int | None = None,
    device: str = "auto",
    optimizer: Any = "sgd",
    launcher: str = "processes",
    launcher_args: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Sweep:
    """Train a problem at many effective learning rates and map the three regimes.

    - ``problem``: of :func:`scaleinv.classification`, :func:`scaleinv.language_model` or one of your own; None: a data
      set and a network of the package, by ``data`` and ``model``.
    - ``elr``: ``"a:b:n"`` for n log-spaced values, a comma list, or numbers; ``lr``: learning rates in the whole space.
    - ``out``: folder of the sweep; the same call resumes where it stopped. None: runs/<problem>-<hash>.
    - ``seeds``: every rate is run with seeds 0 to n - 1. ``workers``: runs at a time (None: one per core, or one per
      GPU); one trains in this process. ``device``: auto, cpu, cuda, cuda:1 or mps.
    - ``optimizer``: sgd, adam, adamw, a name or class of torch.optim, a ``functools.partial`` of one, or FILE.py:CLASS.
    - ``launcher``: processes (this machine), slurm, ray or PACKAGE.MODULE:FACTORY; ``launcher_args``: what it takes.
    - ``settings``: as the flags of ``scaleinv sweep``: epochs, batch_size, momentum, schedule, variant, other_lr, ...
    - UserError, in one line and before anything is written, for what cannot be trained.

    Returns a :class:`~scaleinv.studies.results.Sweep`.
    """
    stop_loading()
    said = settings_of(settings, optimizer)
    if (elr is None) == (lr is None):
        raise UserError('give one of elr (on the sphere) and lr (in the whole space), such as elr="1e-4:1:12"')
    axis, given = ("elr", elr) if elr is not None else ("lr", lr)
    values = grid_of(given, axis)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"seeds {seeds!r} is not a positive whole number")
    where = choose_device(device)
    size = workers if workers is not None else default_workers(where, cores(), visible_gpus())
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"workers {workers!r} is not a positive whole number")
    check_settings(said)
    check_launcher(launcher)
    source = load_data(said) if problem is None else problem
    config = sweep_config(said, source, axis, values, tuple(range(seeds)), where)
    folder = Path(out) if out is not None else default_folder(config, source)
    if launcher_args and launcher == LOCAL.name:
        raise UserError(f"launcher_args {dict(launcher_args)!r}: the launcher processes takes none; it has workers=")
    launch = LOCAL if launcher == LOCAL.name else Choice(launcher, dict(launcher_args or {}))
    if not quiet:
        tell(source, config, folder)
    how: dict[str, Any] = {"workers": min(size, len(config.runs())), "device": where, "launch": launch}
    mapped = shown_sweep(config, source, folder, quiet=quiet, **how)
    return Sweep(folder, mapped.summary, source.name)


def shown_sweep(
    config: SweepConfig, source: Dataset | Problem, folder: Path, *, quiet: bool, **how: Any
) -> MappedSweep:
    """Train and map a sweep with live progress; ``how``: as for :func:`scaleinv.studies.sweep.map_sweep`."""
    starts = short_names(config.origins())
    with ProgressView(total=len(config.runs()), quiet=quiet, starts=starts) as view:

        def watch(job: Job, event: RunEvent) -> None:
            view.event(job.config, event)

        def ended(job: Job, row: Mapping[str, Any]) -> None:
            view.run_ended(job.config, outcome_line(row))

        return map_sweep(config, source, folder, watch=watch, on_row=ended, **how)


def settings_of(given: dict[str, Any], optimizer: Any) -> Settings:
    """Make settings of keyword arguments; an unknown name is told with the nearest known one."""
    known = {one.name for one in dataclasses.fields(Settings)} - {"optimizer", "optimizer_args"}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r}{near(unknown[0], known)}; the settings are {', '.join(sorted(known))}"
        )
    name, arguments = named_optimizer(optimizer)
    try:
        return Settings(**given, optimizer=name, optimizer_args=arguments_text(arguments))
    except TypeError as error:
        raise UserError(str(error)) from None


def grid_of(given: Any, axis: str) -> list[float]:
    """Read rates: a text, a number or several numbers."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = [given]
    if isinstance(given, str):
        return parse_grid(given, axis)
    try:
        return parse_grid(",".join(repr(float(value)) for value in given), axis)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{axis} {given!r} is not understood; give "a:b:n", a comma list or numbers') from None


def sweep_config(
    settings: Settings,
    source: Dataset | Problem,
    axis: str,
    values: list[float],
    seeds: tuple[int, ...],
    device: str,
    starts: tuple[Start, ...] = (),
    decays: tuple[float, ...] = (),
) -> SweepConfig:
    """Make the configs of the runs; of a problem of one's own the start of every seed is made and tried."""
    rates = {"elr": None, "lr": None, axis: values[0]}
    base = resolve(settings, source, elr=rates["elr"], lr=rates["lr"], seed=0, threads=1, device=device)
    made: list[tuple[int, str]] = []
    if not isinstance(source, Dataset):
        common = base.variant, base.head_norm, base.batch_size, base.other_lr
        every = sorted({*seeds, *(start.config.seed for start in starts)})
        made = [(seed, checked(source, seed, *common).weights) for seed in every]
    several = decays if len(decays) > 1 else ()
    return SweepConfig(base, axis, tuple(values), seeds, several, starts, tuple(made))


def default_folder(config: SweepConfig, source: Dataset | Problem) -> Path:
    """Name a folder after the problem and the sweep: the same call finds it again."""
    return RUNS / f"{_title(config.base, source)}-{config.short_hash()}"


def run_folder_name(config: RunConfig, source: Dataset | Problem) -> Path:
    """Name a folder after the problem and the run: the same call finds it again."""
    return RUNS / f"{_title(config, source)}-{config.identity()[:8]}"


def _title(config: RunConfig, source: Dataset | Problem) -> str:
    name = f"{config.model} on {config.data}" if isinstance(source, Dataset) else source.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:60] or "problem"


def tell(source: Dataset | Problem, config: SweepConfig, folder: Path) -> None:
    """Say before training what of a problem of one's own is trained on the sphere, and where the runs lie."""
    if isinstance(source, Dataset):
        return
    base = config.base
    found = checked(source, 0, base.variant, base.head_norm, base.batch_size, base.other_lr)
    if found.told:
        sys.stderr.write(f"{source.name}: {found.told}\n")
    sys.stderr.write(f"{len(config.runs())} runs in {folder}\n")
